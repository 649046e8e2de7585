#!/bin/bash
# What `make quickstart` does after the build: text that every Debian system has becomes tokens, two ranks
# train on it from an empty folder, and the model that comes out writes a little.
set -euo pipefail
cd "$(dirname "$0")/.."
hearth=build/hearth
data=runs/quickstart-data/quickstart.hearth
run=runs/quickstart

mkdir -p "${data%/*}"
"$hearth" prepare --input '/usr/share/common-licenses/*' '/usr/share/doc/*/copyright' --output "$data" \
  --deduplicate paragraphs --max-bytes 4194304 --holdout-every 10

rm -rf "$run"
"$hearth" train configs/runs/quickstart.yaml -n 2

printf '\nA sample of its text:\n'
"$hearth" generate "$run/hf" --prompt 'Permission is hereby granted' --max-tokens 300 --temperature 0.7 --seed 1
