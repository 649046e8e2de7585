#!/bin/bash
# Usage: defects.sh ROOT. Every known mistake can still be put back: its patch applies to the tree, and the
# test that its first line names is in the sources. (`make test-long` puts each back and runs that test.)
cd "$1" || exit 2
export GIT_CEILING_DIRECTORIES  # git apply: the folder need be no repository, and is none of the one around it
GIT_CEILING_DIRECTORIES=$(dirname "$PWD")
shopt -s nullglob
failures=0

Complain() {
  echo "$1: $2"
  failures=$((failures + 1))
}

for patch in tests/defects/*.patch; do
  refusal=$(git apply --check "$patch" 2>&1) || Complain "$patch" "does not apply: ${refusal%%$'\n'*}"
  read -r mark word program filter <<<"$(head -n 1 "$patch")"
  if [ "$mark $word" != "# test:" ] || [ -z "$program" ]; then
    Complain "$patch" "its first line is not '# test: PROGRAM GTEST_FILTER'"
    continue
  fi
  [[ $program == rules_* ]] && continue
  test=${filter#*.}
  test=${test%%[/*:]*}
  grep -rqE "^(TEST|TEST_F|TEST_P|TYPED_TEST)\(.*\b$test" tests --include=*.cpp ||
    Complain "$patch" "there is no test '$test'"
done
exit $((failures > 0))
