#!/bin/bash
# What a test program has started ends before its temporary files go, and no later than run_one.sh and
# run_tests.sh do: at the time limit, and when the suite is stopped.
scripts=$(cd "$(dirname "$0")/.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0
unset TMPDIR

# One process in a session of its own and one that stays; both say so when their folder is gone before them.
cat >"$tree/program" <<'END'
#!/bin/bash
cd "$(dirname "$0")" || exit 1
watch() {
  echo $BASHPID >>pids
  while [ -d "${TMPDIR:-/}" ]; do sleep 0.01; done
  echo "process $BASHPID outlived $TMPDIR" >>complaints
  sleep 60
}
[ "${1-}" = session ] && watch
setsid ./program session &
watch
END
chmod +x "$tree/program"

Started() {
  for ((i = 0; i < 3000; i++)); do
    [ "$(cat "$tree/pids" 2>/dev/null | wc -l)" -eq 2 ] && return
    sleep 0.01
  done
  echo "the program was not started"
  failures=$((failures + 1))
}

Ended() {  # WHAT STATUS EXPECTED LINE
  for pid in $(cat "$tree/pids"); do
    # A process whose parent has not asked for its end has no arguments any more.
    [ -n "$(tr -d '\0' <"/proc/$pid/cmdline")" ] || continue
    echo "process $pid runs" >>"$tree/complaints"
    kill -KILL "$pid"
  done 2>/dev/null
  [ "$2" = "$3" ] || echo "status $2 instead of $3" >>"$tree/complaints"
  grep -qxF "$4" "$tree/build/p/test-results/one.log" || echo "no line '$4'" >>"$tree/complaints"
  if [ -e "$tree/complaints" ]; then
    echo "$1: $(cat "$tree/complaints")"
    failures=$((failures + 1))
  fi
  rm -f "$tree/complaints" "$tree/pids"
}

mkdir -p "$tree/tests" "$tree/build/p/test-results"
cp "$scripts/run_one.sh" "$scripts/run_tests.sh" "$tree/tests"
one=("$tree/tests/run_one.sh" "$tree/build/p/test-results/one.log")

"${one[@]}" 2 "$tree/program"
Ended "time limit" $? 124 "timed out after 2 s"

"${one[@]}" 60 "$tree/program" &
Started
kill -TERM $!
wait $!
Ended "a stopped program" $? 143 "the suite was stopped"

echo "add_test(one ${one[*]} 60 $tree/program)
  set_tests_properties(one PROPERTIES LABELS unit)" >"$tree/build/p/CTestTestfile.cmake"
"$tree/tests/run_tests.sh" p >"$tree/suite" 2>&1 &
Started
kill -TERM $!
wait $!
Ended "a stopped suite" $? 143 "the suite was stopped"

[ $failures -eq 0 ] && echo "all programs have ended"
exit $((failures > 0))
