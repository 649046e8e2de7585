// The hardware files: which one means a device.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/plan/hardware_profile.h"
#include "runtime/plan/memory_budget.h"

namespace hearth {

// A file, or the name of one of configs/hardware ("h200"). ConfigError for what is not there or
// wrong.
HardwareProfile LoadHardware(const std::string& name, const std::string& installed_configs);

// The first of configs/hardware that is of the device; nullopt where none is.
std::optional<HardwareProfile> FindHardware(std::string_view device_name,
                                            const std::string& installed_configs);

// As FindHardware; for a GPU that no file is of, the figures of a common one under its name.
// nullopt where there are no files.
std::optional<HardwareProfile> HardwareOf(const std::string& device_name, bool is_gpu,
                                          const std::string& installed_configs);

// A machine with the device memory that a file says.
MachineMemory WithDevice(MachineMemory machine, const HardwareProfile& profile);

}  // namespace hearth
