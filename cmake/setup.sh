#!/bin/sh
# Installs what the build needs and this machine lacks. Touches no network when nothing is missing.
# Usage: cmake/setup.sh [MORE_PACKAGES...]
set -eu

packages="g++ cmake ninja-build pkg-config libopenmpi-dev openmpi-bin libyaml-cpp-dev
libboost-program-options-dev libgtest-dev libgmock-dev nlohmann-json3-dev libfmt-dev
libxxhash-dev libpcre2-dev libhwy-dev libdnnl-dev iproute2 $*"

say() { echo "set-up: $*"; }

# What the build will make of the GPU, where there is one.
report_gpu() {
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || gpu=
  [ -n "$gpu" ] || return 0
  nvcc=$("$(dirname "$0")/find_nvcc.sh")
  if [ -n "$nvcc" ]; then
    say "found $gpu and $nvcc"
  else
    say "found $gpu but no CUDA toolkit 12.8 or later, so the build is for the CPU alone. Install one" \
      "(NVIDIA's package cuda-toolkit), or set CUDA_HOME to where it lies"
  fi
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
