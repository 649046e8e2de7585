#!/bin/bash
# Usage: run_libfuzzer.sh [-n EXECUTIONS] [-b BUILD_FOLDER] [-c CORPUS_FOLDER] [-j JOBS] [TARGET...]
# Builds the fuzz targets with clang and libFuzzer and runs each, or those named, for EXECUTIONS
# (10 million) inputs, JOBS (the processors) of them at a time. The corpora grow from run to run. The
# last line counts the targets as GoogleTest would; a target that fails leaves its input and the
# command that repeats it.
cd "$(dirname "$0")/../.." || exit 1
executions=10000000 build=build/fuzz corpus= jobs=$(nproc)
while getopts n:b:c:j: option; do
  case $option in
    n) executions=$OPTARG ;;
    b) build=$OPTARG ;;
    c) corpus=$OPTARG ;;
    j) jobs=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
corpus=${corpus:-$build/corpus}
program=$build/tests/fuzz_libfuzzer

if ! command -v clang++ >/dev/null ||
  ! echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null; then
  echo "libFuzzer is not installed: install clang and libclang-rt-dev, or run fuzz_parsers" >&2
  exit 1
fi
flags="-fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all -Wno-unknown-warning-option"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang \
  -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_FLAGS="$flags" \
  -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1 -fno-omit-frame-pointer" --log-level=NOTICE >/dev/null &&
  cmake --build "$build" -j "$(nproc)" --target fuzz_libfuzzer || exit 1

"$build/tests/fuzz_libfuzzer" --write-corpus="$corpus" || exit 1
mkdir -p "$build/failures"
[ $# -gt 0 ] || mapfile -t known <"$corpus/targets"
[ $# -gt 0 ] || set -- "${known[@]}"

RunTarget() {  # TARGET
  local log=$build/failures/$1.log own=$build/tests/fuzz_$1
  ln -sfn fuzz_libfuzzer "$own"
  # The corpus, which is read first, counts too.
  if UBSAN_OPTIONS=print_stacktrace=1 "$own" -runs="$executions" -max_len=16384 -timeout=10 \
    -malloc_limit_mb=64 -rss_limit_mb=4096 -dict="$corpus/$1.dict" -print_final_stats=1 \
    -artifact_prefix="$build/failures/$1-" "$corpus/$1" >"$log" 2>&1; then
    echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
  else
    tail -n 60 "$log"
    echo "$1: FAILED; repeat it with $own $(sed -n 's/.*Test unit written to //p' "$log")"
    return 1
  fi
}

failed=0 running=0
for target in "$@"; do
  if [ "$running" -ge "$jobs" ]; then
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
  fi
  RunTarget "$target" &
  running=$((running + 1))
done
for ((; running > 0; running--)); do wait -n || failed=$((failed + 1)); done
echo "$(($# - failed)) targets without a failure, $failed with one"
exit $((failed > 0))
