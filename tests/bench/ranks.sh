#!/usr/bin/env bash
# What several GPUs of a box give beside one: whole steps at the same micro-batch and the same tokens a step and GPU, by every
# ZeRO stage and way to exchange that matters. One `hearth bench step` a row; its JSON is kept in the folder, and a row that
# is there is not run again. Prints a markdown table; the last column is the rate over that of as many single GPUs.
#
#   tests/bench/ranks.sh HEARTH FOLDER [-n RANKS] [-r "RUN.yaml ..."] [-s STEPS] [-w WARM-UP STEPS] [-t SECONDS] [-- OPTIONS OF bench step]
#
# -n: 2; -r: the bench files of 1.5B and 7B in FP8; -t: no row is begun after so many seconds. A run's global_batch_size is that of
# all ranks. The links are measured first (`hearth probe`), for `comm.backend: auto`. The exit code is 1 when a row failed.
set -u
hearth=$1 folder=$2
shift 2
ranks=2 runs="configs/runs/bench/1.5b-fp8.yaml configs/runs/bench/7b-fp8.yaml" steps=3 warmup=1 seconds=1000000
while getopts n:r:s:w:t: option; do
  case $option in
    n) ranks=$OPTARG ;;
    r) runs=$OPTARG ;;
    s) steps=$OPTARG ;;
    w) warmup=$OPTARG ;;
    t) seconds=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
options=("$@")
mkdir -p "$folder"
root=()
[[ $(id -u) -ne 0 ]] || root=(--allow-run-as-root)

value() { sed -nE "s/.*\"$1\":(\"[^\"]*\"|[^,}]*).*/\1/p" "$2" | tr -d '"'; }

# Row $2 of run $1 with $3 ranks and further options.
failed=0
run_row() {
  local place
  place=$folder/$(basename "$1" .yaml)-$2
  [[ -e $place.json || -e $place.refused ]] && return
  if ((SECONDS >= seconds)); then
    echo "not begun: $place" >&2
    failed=1
    return
  fi
  local command=("$hearth" bench step "$1" --steps "$steps" --warmup "$warmup" "${@:4}" ${options[@]+"${options[@]}"})
  (($3 == 1)) || command=(mpirun ${root[@]+"${root[@]}"} --oversubscribe --bind-to none -n "$3" "${command[@]}")
  "${command[@]}" >"$place.log" 2>"$place.errors"
  local code=$?
  if ((code == 0)) && grep '^{"bench"' "$place.log" >"$place.part"; then
    mv "$place.part" "$place.json"
  elif ((code == 2 || code == 3)); then  # a mistake in the configuration, or too little memory
    grep -m 1 ': error: ' "$place.errors" >"$place.refused"
  else
    echo "failed with $code: $place: $(tail -n 1 "$place.errors")" >&2
    failed=1
  fi
  echo "$SECONDS s: $place" >&2
}

"$hearth" probe -n "$ranks" --quick >"$folder/probe.log" 2>&1 || failed=1
rows=(one zero1 zero3 zero3-no-peers zero3-no-peers-nccl)
for run in $runs; do
  all=$(sed -nE 's/^ *global_batch_size: *([0-9]+).*/\1/p' "$run")
  run_row "$run" one 1 --global-batch-size $((all / ranks))
  run_row "$run" zero1 "$ranks" --set parallel.zero_stage=1
  run_row "$run" zero3 "$ranks" --set parallel.zero_stage=3
  run_row "$run" zero3-no-peers "$ranks" --set parallel.zero_stage=3 --no-peer-access --set comm.backend=copy_engine
  run_row "$run" zero3-no-peers-nccl "$ranks" --set parallel.zero_stage=3 --no-peer-access --set comm.backend=nccl
done

echo "| run | row | ranks | step ms | tokens/s | of as many alone |"
echo "|---|---|---|---|---|---|"
for run in $runs; do
  name=$(basename "$run" .yaml)
  alone=
  [[ -e $folder/$name-one.json ]] && alone=$(value tokens_per_second "$folder/$name-one.json")
  for row in "${rows[@]}"; do
    place=$folder/$name-$row
    if [[ -e $place.json ]]; then
      awk -v name="$name" -v row="$row" -v ranks="$(value ranks "$place.json")" -v ms="$(value step_ms_median "$place.json")" \
        -v rate="$(value tokens_per_second "$place.json")" -v alone="$alone" \
        'BEGIN { printf "| %s | %s | %d | %.1f | %.0f | %s |\n", name, row, ranks, ms, rate, (alone > 0 ? sprintf("%.1f %%", 100 * rate / ranks / alone) : "") }'
    else
      echo "| $name | $row | | | $([[ -e $place.refused ]] && cat "$place.refused" || echo "no result") | |"
    fi
  done
done
exit "$failed"
