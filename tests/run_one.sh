#!/bin/bash
# Usage: run_one.sh LOG SECONDS COMMAND... Runs a test program under a time limit; LOG gets its output.
# HEARTH_TEST_TEMPORARY=disk leaves its temporary files where they are by default. What the program has
# started ends with it, however the end comes, and its temporary files are removed behind that.
log=$1 seconds=$2
shift 2
mkdir -p "$(dirname "$log")"
exec >"$log" 2>&1 </dev/null

# In the environment of all that is started, which may have groups and sessions of its own.
mark=HEARTH_TEST_RUN=$$-$(date +%s%N)
memory=
# Guards of job folders close themselves to signals, remove what the killed leave, and end behind them.
clean_up() {
  local try environ process
  for ((try = 0; try < 300; try++)); do
    environ=$(grep -lszxF "$mark" /proc/[0-9]*/environ)
    [ -n "$environ" ] || break
    for process in $environ; do
      process=${process//[!0-9]/}
      [ "$(cat "/proc/$process/comm")" = hearth-guard ] && [ $try -lt 200 ] || kill -KILL "$process"
    done
    sleep 0.05
  done 2>/dev/null
  [ -z "$memory" ] || rm -rf "$memory"
}
trap clean_up EXIT

# The suite saves hundreds of checkpoints, and on a disk most of its time would be spent waiting for fsync.
# Memory that is small, as in many containers, or that runs no programs is left alone.
roomy() {
  local kib
  kib=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $4}')
  [ "${kib:-0}" -ge 1048576 ] && awk '/^MemAvailable:/ {exit !($2 >= 4194304)}' /proc/meminfo
}
if [ "${HEARTH_TEST_TEMPORARY-}" != disk ] && [ -z "${TMPDIR-}" ] && roomy /dev/shm; then
  memory=$(mktemp -d /dev/shm/hearth-tests-XXXXXX)
  if [ -n "$memory" ] && printf '#!/bin/sh\n' >"$memory/runs" && chmod +x "$memory/runs" && "$memory/runs"; then
    export TMPDIR=$memory
  fi
  rm -f "$memory/runs"
fi 2>/dev/null

# A group of its own, and so beside this shell: a signal that ends the suite comes here first and is passed on.
set -m
env "$mark" timeout --kill-after=20 "$seconds" "$@" &
program=$! stopped=
trap 'stopped=yes; kill -TERM $program 2>/dev/null' TERM INT HUP
while
  wait $program
  status=$?
  kill -0 $program 2>/dev/null
do :; done
[ $status -ne 124 ] || [ -n "$stopped" ] || echo "timed out after $seconds s"
[ -z "$stopped" ] || echo "the suite was stopped"
echo "exit status $status"
exit $status
