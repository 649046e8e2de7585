#!/bin/sh
# Usage: stage.sh BUILD_FOLDER. Lays out BUILD_FOLDER/stage/: the stripped programs, the libraries that
# machines with CUDA, NCCL, cuDNN and Open MPI may lack, and configs/.
set -eu
build=$1 stage=$1/stage limit_mib=48
rm -rf "$stage"
mkdir -p "$stage/lib"
for program in hearth tests/hearth-gpu-tests; do
  strip -o "$stage/$(basename $program)" "$build/$program"
done
for library in libhwy; do
  path=$(ldd "$stage/hearth" | awk -v name="$library" 'index($1, name) == 1 { print $3; exit }')
  strip --strip-unneeded -o "$stage/lib/$(basename "$path")" "$path"
done
for program in "$stage/hearth" "$stage/hearth-gpu-tests"; do
  readelf -d "$program" | grep -q '\$ORIGIN/lib' || {
    echo "stage: $program does not look for libraries beside itself" >&2
    exit 1
  }
done
cp -R "$(dirname "$0")/../configs" "$stage/configs"
size=$(du -sm "$stage" | cut -f1)
echo "$stage: $size MiB"
[ "$size" -le $limit_mib ] || { echo "stage: more than $limit_mib MiB" >&2; exit 1; }
