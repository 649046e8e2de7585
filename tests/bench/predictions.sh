#!/usr/bin/env bash
# What the planner predicts beside what a GPU measures: models x budgets x micro-batches {1, the chosen, twice the chosen},
# everything else left to the planner. One `hearth bench step` a row; its JSON is kept in the folder, and a row that is
# there is not run again, so that a table can be made in several goes. Prints a markdown table of all rows and their sum.
#
#   tests/bench/predictions.sh HEARTH FOLDER [-m "qwen2.5-1.5b qwen2.5-7b"] [-b "15.6GiB 23.5GiB 40GiB"] [-s SEQUENCES] [-n STEPS]
#                              [-w WARM-UP STEPS] [-t SECONDS] [-l] [-- OPTIONS OF bench step]
#
# -s: sequences of 1,024 tokens a step (64); -t: no row is begun after so many seconds; -l: then a sweep over a ladder set
# by hand, whose best must not be faster than the planner's choice by more than 5 %: for half, once and twice the chosen
# micro-batch the first rung that fits, and the last ones, in which everything is in host memory. Models are those of
# configs/models. The exit code is 1 when a row failed or a bound is broken: step time within 12 %, mean
# within 6 %, arenas to the byte, the process within 5 % and its budget.
set -u
hearth=$1 folder=$2
shift 2
models="qwen2.5-1.5b qwen2.5-7b" budgets="15.6GiB 23.5GiB 40GiB" sequences=64 steps=3 warmup=1 seconds=1000000 sweeps=no options=()
while getopts m:b:s:n:w:t:l option; do
  case $option in
    m) models=$OPTARG ;;
    b) budgets=$OPTARG ;;
    s) sequences=$OPTARG ;;
    n) steps=$OPTARG ;;
    w) warmup=$OPTARG ;;
    t) seconds=$OPTARG ;;
    l) sweeps=yes ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
options=("$@")
mkdir -p "$folder"

# Value $1 of the JSON in file $2; the keys have one value each.
value() { sed -nE "s/.*\"$1\":(\"[^\"]*\"|[^,}]*).*/\1/p" "$2" | tr -d '"'; }

# Row of model $1, budget $2, micro-batch $3 (a number or auto) into $4.json; $4.refused where it does not fit. Further
# options after these.
run_row() {
  [[ -e $4.json || -e $4.refused ]] && return 0
  if ((SECONDS >= seconds)); then
    echo "not begun: $4" >&2
    return 1
  fi
  local arguments=(--set "model.name_or_path=configs/models/$1.yaml" --gpu-budget "$2"
    --global-batch-size "$sequences" --steps "$steps" --warmup "$warmup")
  [[ $3 == auto ]] || arguments+=(--micro-batch-size "$3")
  "$hearth" bench step configs/runs/bench/planned.yaml "${arguments[@]}" "${@:5}" ${options[@]+"${options[@]}"} \
    >"$4.log" 2>"$4.errors"
  local code=$?
  if ((code == 0)) && grep '^{"bench"' "$4.log" >"$4.json.part"; then
    mv "$4.json.part" "$4.json"
  elif ((code == 3)); then
    head -n 1 "$4.errors" >"$4.refused"
  else
    echo "failed with $code: $4: $(tail -n 1 "$4.errors")" >&2
    return 1
  fi
  echo "$SECONDS s: $4" >&2
}

# From nothing given up to everything; `_` stands for memory, `host_` for its offload.
rungs=("_.recompute=none" "_.recompute=[swiglu]" "_.recompute=[swiglu,norm]" "_.recompute=[swiglu,norm,ffn]" "_.recompute=[block]"
  "_.recompute=[block] host_.m=host host_.v=host host_.master=host _.optimizer_device=gpu"
  "_.recompute=[block] host_.m=host host_.v=host host_.master=host _.optimizer_device=gpu host_.gradients=host host_.residual=host _.schedule=vertical"
  "_.recompute=[block] host_.m=host host_.v=host host_.master=host _.optimizer_device=gpu host_.gradients=host host_.residual=host _.schedule=vertical host_.weights=host"
  "_.recompute=[block] host_.m=host host_.v=host host_.master=host _.optimizer_device=cpu host_.gradients=host host_.residual=host _.schedule=vertical host_.weights=host")

# Rung $3 (its number) of model $1 and budget $2 at micro-batch $4.
run_rung() {
  local settings=(--set memory.plan=manual --lm-head-chunks 8) setting
  for setting in ${rungs[$3]}; do
    setting=${setting/#_./memory.}
    settings+=(--set "${setting/#host_./memory.offload.}")
  done
  run_row "$1" "$2" "$4" "$folder/$1-$2-ladder-$4-$3" "${settings[@]}"
}

# The ladder of model $1 and budget $2, beside the choice in $3; a line, and whether it holds.
sweep() {
  local place best="" best_place="" size rung chosen measured
  chosen=$(value micro_batch_size "$3.json")
  for size in $((chosen / 2)) "$chosen" $((2 * chosen)); do
    ((size > 0 && sequences % size == 0)) || continue
    for rung in "${!rungs[@]}"; do
      run_rung "$1" "$2" "$rung" "$size" || return 1
      [[ -e $folder/$1-$2-ladder-$size-$rung.json ]] && break
    done
    for rung in 7 8; do
      run_rung "$1" "$2" "$rung" "$size" || return 1
    done
  done
  for place in "$folder/$1-$2-ladder-"*.json; do
    [[ -e $place ]] || continue
    measured=$(value step_ms_median "$place")
    if [[ -z $best ]] || awk "BEGIN { exit !($measured < $best) }"; then best=$measured best_place=$place; fi
  done
  measured=$(value step_ms_median "$3.json")
  best_place=${best_place%.json} size=${best_place%-*}
  awk -v chosen="$measured" -v best="${best:-0}" -v name="| $1 | $2 | ${size##*-} | ${rungs[${best_place##*-}]} |" \
    'BEGIN { printf "%s %.1f | %.1f | %+.1f %% |\n", name, best, chosen, 100 * (chosen / best - 1); exit !(chosen <= 1.05 * best) }'
}

failed=0 rows=()
for model in $models; do
  for budget in $budgets; do
    place=$folder/$model-$budget
    run_row "$model" "$budget" auto "$place-chosen" || failed=1
    rows+=("$model $budget chosen $place-chosen")
    [[ -e $place-chosen.json ]] || continue
    chosen=$(value micro_batch_size "$place-chosen.json")
    for size in 1 $((2 * chosen)); do
      if ((size == chosen)); then continue; fi
      run_row "$model" "$budget" "$size" "$place-$size" || failed=1
      rows+=("$model $budget $size $place-$size")
    done
  done
done

echo "| model | budget | micro-batch | planned | predicted ms | measured ms | tokens/s | error | arenas as predicted | process, of predicted | of budget |"
echo "|---|---|---|---|---|---|---|---|---|---|---|"
for row in "${rows[@]}"; do
  read -r model budget size place <<<"$row"
  if [[ -e $place.refused ]]; then
    echo "| $model | $budget | $size | does not fit | | | | | | | |"
    continue
  fi
  if [[ ! -e $place.json ]]; then
    echo "| $model | $budget | $size | no result | | | | | | | |"
    continue
  fi
  [[ $size == chosen ]] && size="$(value micro_batch_size "$place.json"), chosen"
  planned=$(sed -E 's/.*"chosen":\{([^}]*)\}.*/\1/; s/"[a-z_]+\.(offload\.)?([a-z_]+)":/\2 /g; s/"//g
    s/(residual|m|v|master|gradients|weights|recompute) none|optimizer_device gpu|schedule horizontal|(micro_batches_per_group|lm_head_chunks) 1(,|$)|micro_batch_size [0-9]+//g
    s/,+/,/g; s/^,|,$//g; s/,/, /g' "$place.json")
  echo "$model|$budget|$size|$planned|$(value predicted_step_ms "$place.json")|$(value step_ms_median "$place.json")|$(value tokens_per_second "$place.json")|$(value arena_bytes_predicted "$place.json")|$(value arena_bytes_measured "$place.json")|$(value host_arena_bytes_predicted "$place.json")|$(value host_arena_bytes_measured "$place.json")|$(value process_bytes_predicted "$place.json")|$(value process_bytes_measured "$place.json")|$(value gpu_budget_bytes "$place.json")"
done | awk -F'|' -v failed=$failed '
  /^\| / { print; if (/no result/) failed = 1; next }
  {
    error = 100 * ($5 / $6 - 1); size = error < 0 ? -error : error
    if (!(size <= 12)) failed = 1
    if (size > worst) worst = size
    sum += size; ++count
    exact = $8 == $9 && $10 == $11
    if (!exact) failed = 1
    process = "not known"; budget = "not known"
    if ($13 != "null") {
      off = 100 * ($13 / $12 - 1); process = sprintf("%+.1f %%", off)
      if (off > 5 || off < -5) failed = 1
      if ($14 != "null") { budget = sprintf("%.1f %%", 100 * $13 / $14); if ($13 + 0 > $14 + 0) failed = 1 }
    }
    printf "| %s | %s | %s | %s | %.1f | %.1f | %.0f | %+.1f %% | %s | %s | %s |\n", $1, $2, $3, $4, $5, $6, $7, error, exact ? "yes" : "no", process, budget
  }
  END {
    if (count > 0) printf "\n%d rows measured: worst error %.1f %% (12 allowed), mean %.1f %% (6 allowed).\n", count, worst, sum / count
    if (count == 0 || !(sum / count <= 6)) failed = 1
    exit failed
  }'
failed=$?
[[ $sweeps == yes ]] || exit "$failed"

echo
echo "| model | budget | best micro-batch | best rung of the ladder | its ms | the choice's ms | slower by |"
echo "|---|---|---|---|---|---|---|"
for model in $models; do
  for budget in $budgets; do
    [[ -e $folder/$model-$budget-chosen.json ]] || continue
    sweep "$model" "$budget" "$folder/$model-$budget-chosen" || failed=1
  done
done
exit "$failed"
