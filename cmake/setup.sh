#!/bin/sh
# Installs what the build needs and this machine lacks. Touches no network when nothing is missing.
# Usage: cmake/setup.sh [MORE_PACKAGES...]
set -eu

packages="g++ cmake ninja-build pkg-config libopenmpi-dev openmpi-bin libyaml-cpp-dev
libboost-program-options-dev libgtest-dev libgmock-dev nlohmann-json3-dev libfmt-dev
libxxhash-dev libhwy-dev libdnnl-dev $*"

say() { echo "set-up: $*"; }

# The first nvcc of version 12.8 or later; nothing when there is none.
find_nvcc() {
  for candidate in "$(command -v nvcc || true)" "${CUDA_HOME:-/nonexistent}/bin/nvcc" \
    /usr/local/cuda/bin/nvcc "${VIRTUAL_ENV:-/nonexistent}"/lib/python3*/site-packages/nvidia/*/bin/nvcc \
    /usr/lib/python3*/dist-packages/nvidia/*/bin/nvcc \
    /usr/local/lib/python3*/*-packages/nvidia/*/bin/nvcc; do
    [ -x "$candidate" ] || continue
    if "$candidate" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' |
      awk '{ exit !($1 > 12 || ($1 == 12 && $2 >= 8)) }'; then
      echo "$candidate"
      return
    fi
  done
}

report_gpu() {
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || gpu=
  nvcc=$(find_nvcc)
  [ -n "$gpu$nvcc" ] || return 0
  say "found ${gpu:-no GPU} and ${nvcc:-no CUDA toolkit}; this version of Hearth trains on the CPU only"
}

missing_packages() {
  for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || printf ' %s' "$package"
  done
}

install_packages() {
  missing=$1
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    if ! sudo -n true 2>/dev/null; then
      say "packages are missing and installing them needs root rights. Run this, then try again:" >&2
      echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
      exit 1
    fi
  fi
  say "installing$missing"
  started=$(date +%s)
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! { $as_root apt-get update &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold $missing; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    say "apt-get failed; its words are above" >&2
    exit 1
  fi
  say "installed in $(($(date +%s) - started)) s"
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  missing=$(missing_packages)
  [ -z "$missing" ] || install_packages "$missing"
else
  missing=
  for tool in g++ cmake ninja pkg-config mpirun; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
  done
  if [ -n "$missing" ]; then
    say "not found:$missing. This system has no apt-get: install these, and the libraries behind" >&2
    say "these Debian packages, by its own means: $(echo $packages)" >&2
    exit 1
  fi
fi
report_gpu
