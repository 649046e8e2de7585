#!/bin/bash
# Usage: run_ranks.sh RANKS PROGRAM [ARGUMENT...]. Runs a multi-rank test program on this host.
# A folder of the job's own: Open MPI leaves files behind when it is killed.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap : TERM INT HUP  # mpirun is told too, and waited for
root=
[ "$(id -u)" -ne 0 ] || root=--allow-run-as-root
# As the launcher does, whose mpirun.cpp says why.
export HWLOC_COMPONENTS=${HWLOC_COMPONENTS--gl,-opencl}
mpirun $root --oversubscribe --bind-to none -n "$1" --mca btl self,vader --mca plm isolated \
  --mca orte_tmpdir_base "$folder" --mca btl_vader_backing_directory "$folder" \
  --mca mpi_yield_when_idle 1 "${@:2}"
