// What fuzzing starts from.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace hearth::test {

// The target's seeds, and the files of tests/fuzz/corpus/<target>: inputs that once did harm.
std::vector<std::string> CorpusOf(const FuzzTarget& target);

// Writes each target's corpus into folder/<target>/ and its words into folder/<target>.dict, as
// libFuzzer reads them. Also writes folder/targets, one name a line.
void WriteCorpora(const std::filesystem::path& folder);

}  // namespace hearth::test
