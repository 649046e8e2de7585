#!/bin/sh
# Prints the first nvcc of version 12.8 or later; nothing when there is none.
for candidate in "$(command -v nvcc || true)" "${CUDA_HOME:-/nonexistent}/bin/nvcc" \
  /usr/local/cuda/bin/nvcc "${VIRTUAL_ENV:-/nonexistent}"/lib/python3*/site-packages/nvidia/*/bin/nvcc \
  /usr/lib/python3*/dist-packages/nvidia/*/bin/nvcc \
  /usr/local/lib/python3*/*-packages/nvidia/*/bin/nvcc; do
  [ -x "$candidate" ] || continue
  if "$candidate" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' |
    awk '{ exit !($1 > 12 || ($1 == 12 && $2 >= 8)) }'; then
    echo "$candidate"
    exit 0
  fi
done
