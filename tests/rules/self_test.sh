#!/bin/bash
# The rules must find what is planted: each violation is put alone into a clean small tree, and the
# rule has to name it; in the clean tree it has to find nothing.
rules=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0
word=TO; word+=DO
place=/wo; place+=rk/x

CleanTree() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{kernels/core,kernels/cpu,runtime/plan,launcher,tests/unit/a}
  for folder in kernels runtime launcher tests; do echo "# $folder" >"$tree/$folder/README.md"; done
  printf '#pragma once\n#ifdef __CUDACC__\n#endif\n' >"$tree/kernels/core/host_device.h"
  printf '#include <vector>\n#include <oneapi/dnnl/dnnl.h>\n#include "kernels/core/x.h"\n' >"$tree/kernels/cpu/a.cpp"
  printf '#include "kernels/api/workspace.h"\n#include <fmt/core.h>\n' >"$tree/runtime/plan/a.cpp"
  printf '#include "runtime/plan/a.h"\n#include "build_info.h"\n' >"$tree/launcher/main.cpp"
  printf '#include <gtest/gtest.h>\n#include "launcher/main.h"\n' >"$tree/tests/unit/a/a.cpp"
}

Expect() {  # RULE STATUS WHAT: the rule ends with the status and, if it fails, names the file
  output=$("$rules/$1.sh" "$tree" 2>&1)
  status=$?
  if [ $status -ne "$2" ] || { [ "$2" -ne 0 ] && [[ $output != *"$3"* ]]; }; then
    echo "rule $1, $3: status $status instead of $2: $output"
    failures=$((failures + 1))
  fi
}

Plant() {  # RULE FILE TEXT
  CleanTree
  mkdir -p "$(dirname "$tree/$2")"
  printf "$3" >"$tree/$2"
  Expect "$1" 1 "$2"
}

CleanTree
Expect includes 0 "clean tree"
Expect files 0 "clean tree"

Plant includes kernels/core/planted.h '#include "kernels/api/x.h"\n'
Plant includes kernels/core/planted.h '#include <fmt/core.h>\n'
Plant includes kernels/api/planted.cpp '#include "runtime/plan/x.h"\n'
Plant includes kernels/cpu/planted.cpp '#include <cuda_runtime.h>\n'
Plant includes comm/api/planted.h '#include <mpi.h>\n'
Plant includes comm/inproc/planted.cpp '#  include "comm/mpi/x.h"\n'
Plant includes runtime/plan/planted.cpp '#include "kernels/api/gemm.h"\n'
Plant includes runtime/plan/planted.cpp '#include "runtime/state/x.h"\n'
Plant includes runtime/train/planted.cpp '#include "kernels/cpu/x.h"\n'
Plant includes runtime/train/planted.cpp '#include <nccl.h>\n'
Plant includes launcher/planted.cpp '#include "kernels/backend_internal.h"\n'
Plant includes launcher/planted.cpp '#include "planted.h"\n'
Plant includes common/planted.h '#include <vector>\n'
Plant includes runtime/plan/planted.h '#ifdef NDEBUG\n#endif\n'
Plant includes kernels/core/planted.h ' # if 1\n#endif\n'
Plant includes tests/unit/a/planted.cpp '#ifndef X\n#endif\n'

Plant files planted.txt 'x\n'
Plant files utils/planted.cpp '\n'
Plant files runtime/common/planted.h '\n'
Plant files runtime/plan/planted.cpp "$(yes 'int x;' | head -n 501)\n"
Plant files runtime/plan/planted.cpp "void F() {\n$(yes '  G();' | head -n 60)\n}\n"
Plant files runtime/plan/planted.cpp "class C {\n  void F(\n      int x) {\n$(yes '    G();' | head -n 60)\n  }\n};\n"
Plant files runtime/plan/planted.cpp 'const char* home = getenv("HOME");\n'
Plant files runtime/plan/planted.cpp 'using namespace std;\n'
Plant files runtime/plan/planted.cpp '#define PLANTED 1\n'
Plant files runtime/plan/planted.cpp "// $word: more\n"
Plant files runtime/planted.md "see $place\n"
Plant files runtime/README.md "$(yes 'x' | head -n 61)\n"

CleanTree
rm "$tree/runtime/README.md"
Expect files 1 runtime/README.md
CleanTree
printf "// One file because the rule is under test.\n$(yes 'int x;' | head -n 600)\n" >"$tree/runtime/plan/long.cpp"
Expect files 0 "a long file that says why"
CleanTree
printf "int F() { return 1; }\n\nclass C {\n$(yes '  int x;' | head -n 70)\n};\n" >"$tree/runtime/plan/class.cpp"
Expect files 0 "a long class after a short function"

# A patch that removes the first line of launcher/main.cpp, and the test it names.
PlantDefect() {  # STATUS WHAT REMOVED-LINE TEST
  CleanTree
  mkdir -p "$tree/tests/defects"
  {
    printf '# test: unit_a A.%s\n' "$4"
    printf -- '--- a/launcher/main.cpp\n+++ b/launcher/main.cpp\n@@ -1,2 +1,1 @@\n-%s\n #include "build_info.h"\n' "$3"
  } >"$tree/tests/defects/planted.patch"
  printf 'TEST(A, IsThere) {}\n' >>"$tree/tests/unit/a/a.cpp"
  Expect defects "$1" "$2"
}
PlantDefect 0 "a defect that can be put back" '#include "runtime/plan/a.h"' IsThere
PlantDefect 1 "does not apply" '#include "runtime/plan/b.h"' IsThere
PlantDefect 1 "there is no test 'IsGone'" '#include "runtime/plan/a.h"' IsGone
CleanTree
Expect defects 0 "clean tree"
[ $failures -eq 0 ] && echo "every planted violation was found"
exit $((failures > 0))
