#!/bin/bash
# Usage: run.sh [NAME...]. Puts each defect of tests/defects/*.patch back into a copy of the tree: the
# test named in its first line ("# test: PROGRAM GTEST_FILTER") passes without it and must fail with it.
# Results are printed as GoogleTest prints them, one case a defect, for tests/run_tests.sh to count.
root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$root/build/defects/tree build=$root/build/defects/build
export GIT_CEILING_DIRECTORIES=$root/build/defects  # git apply: the copy is no part of a repository
exec </dev/null

CopyTree() {  # only what differs, so that what was built last time is used again
  local list=$root/build/defects/files
  cd "$root" && git ls-files -co --exclude-standard >"$list" && LC_ALL=C sort -o "$list" "$list" || exit 1
  while IFS= read -r file; do
    [ ! -f "$file" ] || cmp -s "$file" "$tree/$file" || install -D -p "$file" "$tree/$file"
  done <"$list"
  (cd "$tree" && find . -type f | sed 's#^\./##' | LC_ALL=C sort | LC_ALL=C comm -13 "$list" - | xargs -r rm -f)
}

TestOf() { sed -n '1s/^# test: *//p' "$root/tests/defects/$1.patch"; }

RunTest() {  # PROGRAM FILTER: builds and runs it. 0: passed, 1: failed, 2: does not build or runs nothing
  local target=$1 log=$build/test-results/$1.log
  [[ $1 != multirank_* ]] || target=${1%_*}
  rm -f "$log"
  [[ $1 == rules_* ]] || cmake --build "$build" -j "$(nproc)" --target "$target" || return 2
  GTEST_FILTER=${2:-*} ctest --test-dir "$build" -R "^$1\$" --no-tests=error >/dev/null 2>&1 && {
    grep -qE '\[=+\] Running [1-9]|^every planted' "$log" && return 0
    return 2
  }
  cat "$log" && return 1
  return 2
}

names=("$@")
[ $# -gt 0 ] || mapfile -t names < <(cd "$root/tests/defects" && ls -- *.patch 2>/dev/null | sed 's/\.patch$//')
echo "[==========] Running ${#names[@]} tests from 1 test suite."
mkdir -p "$tree"
CopyTree
cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release --log-level=NOTICE >/dev/null || exit 1

failures=0
for name in "${names[@]}"; do
  echo "[ RUN      ] Defects.$name"
  started=$SECONDS problem=
  read -r program filter <<<"$(TestOf "$name")"
  if ! output=$(RunTest "$program" "$filter" 2>&1); then
    problem="its test '$program $filter' does not pass without it: $output"
  elif ! output=$(cd "$tree" && git apply -p1 "$root/tests/defects/$name.patch" 2>&1); then
    problem="does not apply: $output"
  else
    output=$(RunTest "$program" "$filter" 2>&1)
    case $? in
      0) problem="not noticed by '$program $filter'" ;;
      2) problem="does not build or run: $output" ;;
    esac
    (cd "$tree" && git apply -R -p1 "$root/tests/defects/$name.patch") || exit 1
  fi
  result='      OK'
  if [ -n "$problem" ]; then
    echo "$problem"
    result=' FAILED '
    failures=$((failures + 1))
  fi
  printf '[ %8s ] Defects.%s (%d ms)\n' "$result" "$name" $(((SECONDS - started) * 1000))
done
exit $((failures > 0))
