#!/bin/bash
# Usage: includes.sh ROOT. Prints each line that breaks the include table: what a folder may include
# besides std and itself (x* is a prefix of other people's headers), and where #if may stand.
table='
kernels/core:
kernels/api: kernels/core
kernels/cpu: kernels/core kernels/api oneapi/dnnl* dnnl* omp.h
kernels/host: kernels/core kernels/api hwy/* omp.h #if
kernels/cuda: kernels/core kernels/api cuda* cublas* cudnn* cub/*
kernels/cuda/device: kernels/core kernels/api cuda* #if
kernels: kernels/core kernels/api kernels/cpu kernels/cuda
comm/api: kernels/core
comm/mpi: comm/api kernels/core kernels/api mpi.h
comm/tcp: comm/api kernels/core
comm/inproc: comm/api kernels/core kernels/api
comm/nccl: comm/api comm/copy_engine kernels/core kernels/api kernels/cuda/cuda_native.h nccl*
comm/copy_engine: comm/api kernels/core kernels/api kernels/cuda/cuda_native.h cuda*
comm: comm/api kernels/core kernels/api
runtime/config: kernels/core fmt/* yaml-cpp/*
runtime/telemetry: kernels/core fmt/* nlohmann/*
runtime/model: runtime/config kernels/core fmt/* yaml-cpp/* nlohmann/*
runtime/memory: runtime/telemetry kernels/core fmt/*
runtime/text: runtime/model/json_reader.h kernels/core fmt/* xxh* pcre2.h
runtime/data: runtime/config runtime/text runtime/model/json_reader.h kernels/core fmt/* nlohmann/* xxh*
runtime/layers: runtime/model runtime/config kernels/core kernels/api fmt/*
runtime/plan: runtime/config runtime/model comm/api/communicator_memory.h kernels/core kernels/api/workspace.h fmt/* yaml-cpp/*
runtime/state: runtime/model runtime/memory runtime/plan runtime/telemetry comm/api kernels/core kernels/api fmt/*
runtime/optimizer: runtime/config runtime/model runtime/state runtime/data kernels/core kernels/api kernels/host fmt/*
runtime/checkpoint: runtime/config runtime/model runtime/state runtime/data comm/api kernels/core fmt/* nlohmann/* xxh*
runtime/train: runtime kernels/core kernels/api comm/api fmt/* nlohmann/*
runtime/report: runtime/config runtime/telemetry kernels/core fmt/* nlohmann/*
runtime/bench: runtime kernels/core kernels/api kernels/host comm/api fmt/* nlohmann/*
launcher: runtime kernels/core kernels/backend.h comm/communicators.h build_info.h fmt/* boost/* nlohmann/*
tests: kernels comm runtime launcher build_info.h *'
others='^(cuda|cublas|cudnn|cub/|nccl|nvml|mpi|oneapi/|dnnl|hwy/|omp\\.h|fmt/|yaml-cpp/|nlohmann/|boost/|xxh|pcre2|spdlog/|g(test|mock)/)'
cd "${1:?root folder}" && find . \( -name .git -o -path ./build \) -prune -o \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print | sed 's#^\./##' | LC_ALL=C sort |
  xargs -r grep -HnE '^[ \t]*#[ \t]*(include|if|ifdef|ifndef|elif)' | awk -v table="$table" -v others="$others" '
  function Allowed(what, folder,   entry, count, i, prefix) {
    count = split(folder ~ /^tests/ ? may["tests"] : may[folder], entry, " ")
    for (i = 1; i <= count; i++) {
      prefix = entry[i]; if (!sub(/\*$/, "", prefix)) { if (what == prefix) return 1; prefix = prefix "/" }
      if (index(what, prefix) == 1) return 1 } }
  BEGIN { rows = split(table, row, "\n"); for (i = 2; i <= rows; i++) { split(row[i], part, ":")
            may[part[1]] = part[1] part[2] } }
  { split($0, part, ":"); file = folder = part[1]; sub(/\/?[^\/]*$/, "", folder)
    text = substr($0, length(file) + length(part[2]) + 3)
    if (text !~ /include/) ok = file == "kernels/core/host_device.h" || (folder !~ /^tests/ && Allowed("#if", folder))
    else { quoted = text ~ /"/; what = text; gsub(/^[^"<]*["<]|[">].*$/, "", what)
      ok = (folder in may || folder ~ /^tests/) && (quoted || what ~ others ? Allowed(what, folder) : 1) }
    if (!ok) { bad = 1; print file ":" part[2] ": against the include table: " text } }
  END { exit bad }'
