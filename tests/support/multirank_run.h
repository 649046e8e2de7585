// Test programs whose cases run on several ranks.
#pragma once

namespace hearth::test {

// For main, as a process of mpirun: every rank runs the same cases; a case fails on rank 0, which
// alone reports results, when it failed on any rank. The exit code.
int RunAsRank(int argc, char** argv);

}  // namespace hearth::test
