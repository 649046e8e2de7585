// What an AdamW update works on, for tests of every implementation.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/api/adamw.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {

// Storage types of an update's arrays.
struct AdamwTypes {
  DType master = DType::kF32;
  DType m = DType::kF32;
  DType v = DType::kF32;
  DType gradient = DType::kF32;
  DType weight = DType::kF32;
};

// Random state of n elements in guarded memory.
struct AdamwState {
  AdamwState(Rig& rig, Random& random, int64_t n, const AdamwTypes& types)
      : master(rig, types.master, {n}, random.Normals(n)),
        m(rig, types.m, {n}, random.Normals(n, 1e-2)),
        v(rig, types.v, {n}, random.Uniforms(n, 0.0, 1e-3)),
        gradient(rig, types.gradient, {n}, random.Normals(n, 1e-2)),
        control(rig, DType::kI32, {2}),
        weight(rig, types.weight, {n}) {
    SetControl({});
  }
  void SetControl(const UpdateControl& value) {
    std::vector<uint8_t> bytes(sizeof value);
    std::memcpy(bytes.data(), &value, sizeof value);
    control.SetBytes(bytes);
  }
  AdamwArgs Args(const AdamwHyper& hyper, const std::vector<AdamwSegment>& segments) const {
    return {.hyper = hyper,
            .segments = segments,
            .master = master,
            .m = m,
            .v = v,
            .gradient = gradient,
            .control = control,
            .weight = weight};
  }
  // Everything that an update may write.
  std::vector<std::vector<uint8_t>> Written() const {
    return {master.GetBytes(), m.GetBytes(), v.GetBytes(), weight.GetBytes()};
  }
  void Restore(const std::vector<std::vector<uint8_t>>& written) {
    master.SetBytes(written[0]);
    m.SetBytes(written[1]);
    v.SetBytes(written[2]);
    weight.SetBytes(written[3]);
  }
  DeviceTensor master, m, v, gradient, control, weight;
};

}  // namespace hearth::test
