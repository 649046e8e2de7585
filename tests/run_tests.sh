#!/bin/bash
# Usage: run_tests.sh PRESET [long|gpu]. Runs the built suite of build/PRESET; the last line says
# "N passed, N failed, N skipped". The exit status is 1 when a test failed or none ran.
cd "$(dirname "$0")/.." || exit 1
preset=$1 build=build/$1
export GTEST_FILTER='-Long*:*/Long*' GTEST_BRIEF=0 GTEST_COLOR=no
with=. without='^(long|gpu)$'
if [ "${2-}" = long ]; then
  GTEST_FILTER='Long*:*/Long*' without='^(rules|gpu)$'
elif [ "${2-}" = gpu ]; then
  with='^gpu$' without='^$'
fi

# ThreadSanitizer does not see into Open MPI, so its suite uses ranks that are threads; and gcc 12
# cannot map its shadow memory where addresses are randomised widely.
fixed_addresses=()
if [ "$preset" = cpu-tsan ]; then
  without='^(long|gpu|multirank|e2e)$'
  ! setarch -R true 2>/dev/null || fixed_addresses=(setarch -R)
fi

rm -rf "$build/test-results"
mkdir -p "$build/test-results"
shopt -s nullglob
# A group of its own, which is told when the suite is stopped and waited for until its programs have ended.
set -m
{
  "${fixed_addresses[@]}" ctest --test-dir "$build" -j "$(nproc)" --no-tests=error -L "$with" -LE "$without" 2>&1
  echo $? >"$build/test-results/status"
} | grep -v '^ *Start ' &
suite=$(jobs -p %%)
stop() {
  trap '' TERM INT HUP
  kill -TERM -- "-$suite"
  for ((i = 0; i < 600; i++)); do
    kill -0 -- "-$suite" || break
    sleep 0.1
  done
  exit 143
} 2>/dev/null
trap stop TERM INT HUP
wait %%
set +m
trap - TERM INT HUP
ctest_status=$(cat "$build/test-results/status")

# GoogleTest's own result lines, one a case. A program that ends badly has every case without a
# result counted as failed; a test that is no GoogleTest program counts as one.
awk -v ctest_status="$ctest_status" '
  function finish() {
    if (name == "") return
    if (status != 0 || !total_known) {
      lost = total_known ? total - ok - bad - skip : (status != 0)
      if (status != 0 && bad + lost == 0) lost = 1
      if (!total_known && status == 0) ok = 1
    } else lost = total - ok - bad - skip
    passed += ok; failed += bad + lost; skipped += skip
    if (bad + lost > 0) broken = broken "\n" name
  }
  FNR == 1 { finish(); name = FILENAME; ok = bad = skip = total = total_known = 0; status = 255 }
  /\[==========\] Running [0-9]+ tests? from/ { total = $3; total_known = 1 }
  /\[       OK \] .*\([0-9]+ ms\)$/ { ok++ }
  /\[  FAILED  \] .*\([0-9]+ ms\)$/ { bad++ }
  /\[  SKIPPED \] .*\([0-9]+ ms\)$/ { skip++ }
  /^exit status [0-9]+$/ { status = $3 }
  END {
    finish()
    if (ctest_status != 0 && failed == 0) failed = 1
    count = split(substr(broken, 2), list, "\n")
    for (i = 1; i <= count; i++) {
      print "\n--- " list[i]
      begun = ""  # the case that runs, to be named when anything but its success follows
      while ((getline line < list[i]) > 0) {
        if (line ~ /\[       OK \]/) { begun = ""; continue }
        if (begun != "") { print begun; begun = "" }
        if (line ~ /^\[ RUN      \]/) begun = line
        else if (line !~ /^\[-----/ && line != "") print line
      }
    }
    print passed + 0 " passed, " failed + 0 " failed, " skipped + 0 " skipped"
    exit failed > 0 || passed + 0 == 0
  }' "$build"/test-results/*.log /dev/null
