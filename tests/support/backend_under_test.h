// Which backend a test program tests: the CPU, or in the program of GPU tests the GPU.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace hearth::test {

// "cpu" until the program's main says otherwise, before InitGoogleTest.
const std::string& BackendUnderTest();
void SetBackendUnderTest(std::string kind);

// A backend of that kind.
std::unique_ptr<KernelBackend> MakeBackendUnderTest(int threads = 1);

}  // namespace hearth::test
