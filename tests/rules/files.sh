#!/bin/bash
# Usage: files.sh ROOT. Prints each breach of the rules on files: names at the top, lengths, words
# and calls that have no place in the tree, and the README of each folder.
cd "${1:?root folder}" || exit 1
shopt -s lastpipe  # Report, at the end of a pipe, must set `bad` in this shell
bad=0
Report() {  # RULE: complains about each line of standard input
  while IFS= read -r line; do
    echo "$line: $1"
    bad=1
  done
}

mapfile -t files < <(find . \( -path ./.git -o -path ./build -o -path ./runs -o -path ./data \
  -o -path ./.venv \) -prune -o -type f -print | sed 's#^\./##' | LC_ALL=C sort)
mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep -E '\.(h|cpp|cu|cuh|sh|awk|cmake)$|CMakeLists\.txt$')
mapfile -t code < <(printf '%s\n' "${files[@]}" | grep -E '\.(h|cpp|cu|cuh)$')
# The text of the project: not its pictures, recorded numbers and planted defects.
mapfile -t texts < <(printf '%s\n' "${files[@]}" | grep -vE '\.(svg|png|safetensors|bin|patch)$')

printf '%s\n' "${files[@]}" | sed 's#/.*##' | sort -u | grep -vxE 'CMakeLists\.txt|CMakePresets\.json|Makefile|README\.md|CONTRIBUTING\.md|LICENSE|\.clang-format|\.clang-tidy|\.gitignore|\.ci|kernels|comm|runtime|launcher|configs|cluster|tests|docs|cmake|compile_commands\.json' |
  Report "does not belong at the top of the tree"
printf '%s\n' "${files[@]}" | grep -E '(^|/)(common|utils?|misc|helpers?)/' | Report "folder name without a subject"

for file in "${sources[@]}"; do
  awk -v file="$file" 'NR == 1 && /One file because/ { exit } END { if (NR > 500) print file ": " NR " lines" }' "$file"
done | Report "more than 500 lines (split it, or begin with a comment 'One file because ...')"

# A function as clang-format leaves it: from the line that opens it, in column 1 or (a member) 3, to
# the brace in the same column.
for file in "${code[@]}"; do
  awk -v file="$file" '
    NR == 1 && /One function because/ { exit }
    { match($0, /^ */); column = RLENGTH; text = substr($0, column + 1) }
    column > 2 || text == "" { next }
    text ~ /^}/ && start[column] {
      if (NR - start[column] + 1 > 60) print file ":" start[column] ": " NR - start[column] + 1 " lines" }
    text ~ /[;}]$|^}/ { start[column] = 0; next }
    !start[column] && text ~ /^[A-Za-z~_].*\(/ && text !~ /^(namespace|class|struct|enum|using)/ { start[column] = NR }' "$file"
done | Report "function of more than 60 lines"

[ ${#code[@]} -eq 0 ] || grep -nE '\bgetenv\b' "${code[@]}" /dev/null | grep -vE '^(launcher|tests)/' |
  Report "getenv outside launcher"
[ ${#code[@]} -eq 0 ] || grep -nE '^[[:space:]]*using namespace|random_device|#[[:space:]]*define' "${code[@]}" /dev/null |
  grep -vE '^tests/|^kernels/(host|cuda)/|kernels/core/host_device\.h:|define (CHECK|[A-Z]+_CHECK)\(' |
  Report "no using namespace, random_device or macro but the checks"
grep -nwE 'TO[D]O|FIX[M]E|XX[X]' "${texts[@]}" /dev/null | Report "unfinished business"
grep -nE '(^|[^A-Za-z0-9_.-])/wor[k]/|\.\./share[d]|(pypi|pythonhosted|debian|ubuntu|npmjs|conda|crates|docker)\.(org|com|io|net)' \
  "${texts[@]}" /dev/null | Report "a place that is none of the project's business"

for folder in */; do
  case $folder in build/ | runs/ | data/) continue ;; esac
  readme=${folder}README.md
  if [ ! -f "$readme" ]; then
    echo "$readme"
  elif [ "$(wc -l <"$readme")" -gt 60 ]; then
    echo "$readme: $(wc -l <"$readme") lines"
  fi
done | Report "each folder has a README of at most 60 lines"
exit $bad
