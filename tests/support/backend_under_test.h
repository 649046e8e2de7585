// Which backend a test program tests: the CPU, or in the program of GPU tests the GPU.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace hearth::test {

// "cpu" until the program's main says otherwise, before InitGoogleTest.
const std::string& BackendUnderTest();
void SetBackendUnderTest(std::string kind);

// As many ranks of one process as the backend under test can take, up to `wanted`. On a GPU one:
// ranks that are threads share a context, and there a call of one may wait for what another
// enqueued.
int RanksUnderTest(int wanted);
// Why a test of several ranks is not for the backend under test; empty where it is.
std::string WhyNotSeveralRanks();

// A backend of that kind.
std::unique_ptr<KernelBackend> MakeBackendUnderTest(int threads = 1);

}  // namespace hearth::test
