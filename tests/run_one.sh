#!/bin/bash
# Usage: run_one.sh LOG SECONDS COMMAND... Runs a test program under a time limit; LOG gets its output.
log=$1 seconds=$2
shift 2
mkdir -p "$(dirname "$log")"
timeout --kill-after=20 "$seconds" "$@" >"$log" 2>&1 </dev/null
status=$?
[ $status -ne 124 ] || echo "timed out after $seconds s" >>"$log"
echo "exit status $status" >>"$log"
exit $status
