// The main program of tests that run under mpirun.
#include "tests/support/multirank_run.h"

int main(int argc, char** argv) { return hearth::test::RunAsRank(argc, argv); }
