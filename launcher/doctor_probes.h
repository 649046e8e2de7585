// Trials of `hearth doctor` that touch the kernel or the disk. Each may hang where the machine is
// sick: they are made for AskChild.
#pragma once

#include <chrono>
#include <string>

#include "launcher/doctor_system.h"

namespace hearth {

// Why the kernel refuses an io_uring, "" when it makes one.
std::string TrialOfIoUring();

// Why one process of this user may not read another's memory, as MPI's ranks do; "": it may.
std::string TrialOfReadingAnotherProcess();

// A file without a name in `folder`, written for at most `time_each` and read back for as long;
// with no time only opened.
DiskFacts TrialOfDisk(const std::string& folder, std::chrono::milliseconds time_each);

}  // namespace hearth
