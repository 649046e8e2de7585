// Philox4x32-10, the counter-based generator of "Parallel Random Numbers: As Easy as 1, 2, 3"
// (Salmon et al., SC 2011), and the assignment of its counters to the uses of a training run.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/core/host_device.h"

namespace hearth {

using Philox4 = std::array<uint32_t, 4>;

HEARTH_HOST_DEVICE constexpr Philox4 Philox4x32(uint64_t key, Philox4 counter) {
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// What a random draw is for; part of the counter, so that no two uses share a draw.
enum class RandomUse : uint32_t {
  kMomentM = 0,
  kMomentV = 1,
  kMaster = 2,
  kGradientAccumulation = 3,
  kWire = 4,
  kActivationStore = 5,
  kInitialization = 6,
  kSampling = 7,
};

// One stream of draws: a tensor, a use, a step and (where it matters) a micro-batch.
struct RandomStream {
  uint64_t seed = 0;
  uint32_t step = 0;
  uint32_t tensor_id = 0;  // below 2^16
  RandomUse use = RandomUse::kMomentM;
  uint32_t micro_batch = 0;  // below 2^12

  // The four draws of elements 4*group .. 4*group + 3; element e takes lane e mod 4.
  HEARTH_HOST_DEVICE constexpr Philox4 Draw(uint64_t group) const {
    return Philox4x32(seed, {static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), step,
                             (tensor_id << 16) | (static_cast<uint32_t>(use) << 12) | micro_batch});
  }
  HEARTH_HOST_DEVICE constexpr uint32_t DrawElement(uint64_t element) const {
    return Draw(element / 4)[element % 4];
  }
};

}  // namespace hearth
