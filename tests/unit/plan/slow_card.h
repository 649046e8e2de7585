// Hardware for the tests of what is priced by it.
#pragma once

#include "runtime/plan/hardware_profile.h"

namespace hearth::test {

// What crosses its link is seen.
inline HardwareProfile SlowCard() {
  return {.name = "a card",
          .devices = {"card"},
          .size_gib = 8,
          .dram_gbps = 100,
          .copy_gbps = 80,
          .elementwise_gbps = 70,
          .fp8_tflops = 2,
          .bf16_tflops = 1,
          .fp32_tflops = 0.5,
          .fp8_share = 0.6,
          .bf16_share = 0.7,
          .fp32_share = 0.8,
          .half_rate_gflop = 0.0001,
          .attention_share = 0.4,
          .attention_backward_share = 0.3,
          .attention_token_ns = 50,
          .kernel_us = 0.1,
          .to_device_gbps = 5,
          .to_host_gbps = 5,
          .both_ways_gbps = 8,
          .memory_gbps = 12,
          .adamw_gbps = 10,
          .adamw_stochastic_gbps = 8,
          .gather_gbps = 4,
          .reduce_gbps = 3,
          .latency_us = 1};
}

}  // namespace hearth::test
