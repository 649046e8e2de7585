#!/bin/bash
# Usage: run_one.sh LOG SECONDS COMMAND... Runs a test program under a time limit; LOG gets its output.
# HEARTH_TEST_TEMPORARY=disk leaves its temporary files where they are by default.
log=$1 seconds=$2
shift 2
mkdir -p "$(dirname "$log")"

# The suite saves hundreds of checkpoints, and on a disk most of its time would be spent waiting for fsync.
# Memory that is small, as in many containers, or that runs no programs is left alone.
roomy() {
  local kib
  kib=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $4}')
  [ "${kib:-0}" -ge 1048576 ] && awk '/^MemAvailable:/ {exit !($2 >= 4194304)}' /proc/meminfo
}
memory=
if [ "${HEARTH_TEST_TEMPORARY-}" != disk ] && [ -z "${TMPDIR-}" ] && roomy /dev/shm; then
  memory=$(mktemp -d /dev/shm/hearth-tests-XXXXXX) && trap 'rm -rf "$memory"' EXIT
  if [ -n "$memory" ] && printf '#!/bin/sh\n' >"$memory/runs" && chmod +x "$memory/runs" && "$memory/runs"; then
    export TMPDIR=$memory
  fi
  rm -f "$memory/runs"
fi 2>/dev/null

timeout --kill-after=20 "$seconds" "$@" >"$log" 2>&1 </dev/null
status=$?
[ $status -ne 124 ] || echo "timed out after $seconds s" >>"$log"
echo "exit status $status" >>"$log"
exit $status
