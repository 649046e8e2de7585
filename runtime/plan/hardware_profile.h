// What a device and its host can do, as plans are priced by it: the data of
// configs/hardware/*.yaml.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

// Rates in 10^12 operations (a multiply-add counts as two) or 10^9 bytes a second, of one rank.
struct HardwareProfile {
  std::string name;                  // for people
  std::vector<std::string> devices;  // whole words of Device::name() that mean it
  bool is_gpu = true;                // false: the device tier lies in host memory

  // Device memory.
  double size_gib = 0;          // as the driver reports it; 0 where it is the host's
  double outside_gib = 0;       // what a rank's process takes of it beside its arenas
  double dram_gbps = 0;         // the maker's word
  double copy_gbps = 0;         // read and written, that a copy reaches
  double elementwise_gbps = 0;  // as well, that norms, activations and quantisers reach

  // Matmuls: the maker's peaks (0: has none), the share that a large one reaches in a long run, and
  // the size (10^9 operations) of one that reaches half of that.
  double fp8_tflops = 0;
  double bf16_tflops = 0;
  double fp32_tflops = 0;
  double fp8_share = 1;
  double bf16_share = 1;
  double fp32_share = 1;
  double half_rate_gflop = 0;
  // Of the bf16 peak (fp32 under fp32), with heads of 128; forward, and backward with five matmuls.
  double attention_share = 1;
  double attention_backward_share = 1;
  double attention_token_ns = 0;  // in which one thread block of it passes over a token
  double kernel_us = 0;           // from one kernel to the next

  // The link between device and host, its directions alone and the sum of both at once.
  double to_device_gbps = 0;
  double to_host_gbps = 0;
  double both_ways_gbps = 0;
  double memory_gbps = 0;            // host memory: reads and writes
  double adamw_gbps = 0;             // host optimizer: reads and writes
  double adamw_stochastic_gbps = 0;  // with bf16 master weights

  // Collectives between neighbours: what a rank receives.
  double gather_gbps = 0;
  double reduce_gbps = 0;
  double latency_us = 0;

  // Between boxes: what a box sends and, at once, receives; from one message to the next.
  double box_gbps = 0.125;
  double box_latency_us = 0;

  bool operator==(const HardwareProfile&) const = default;
};

// Strict: every key once, nothing else. ConfigError "FILE:LINE:COLUMN: error: what; what to do".
HardwareProfile ParseHardware(std::string_view text, const std::string& file_name);

// As a file that ParseHardware reads back to the same profile.
std::string HardwareYaml(const HardwareProfile& profile);

// Whether the profile is of the device of that name, "NVIDIA H200". Slower forms of a chip, such as
// those for laptops, are other devices.
bool IsOf(const HardwareProfile& profile, std::string_view device_name);

}  // namespace hearth
