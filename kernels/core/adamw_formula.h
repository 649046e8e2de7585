// The AdamW update of one element, written once for the CPU reference, the host optimizer and CUDA:
// explicit fma, IEEE division and square root, so that all of them round the same bits.
#pragma once

#include <cmath>

#include "kernels/core/host_device.h"

namespace hearth {

struct AdamwMoments {
  float m;
  float v;
};

// m' = beta1*m + (1-beta1)*g and v' = beta2*v + (1-beta2)*g^2, g = clip * gradient.
HEARTH_HOST_DEVICE inline AdamwMoments AdamwMomentsUpdate(float m, float v, float gradient,
                                                          float clip_factor, float beta1,
                                                          float beta2) {
  const float g = gradient * clip_factor;
  return {std::fma(beta1, m, (1.0f - beta1) * g), std::fma(beta2, v, ((1.0f - beta2) * g) * g)};
}

// master' = master - lr * (m_hat / (sqrt(v_hat) + epsilon) + decay * master), computed from the
// moments as they are after rounding to their storage types.
HEARTH_HOST_DEVICE inline float AdamwMasterUpdate(float master, float m, float v,
                                                  float learning_rate, float epsilon, float decay,
                                                  float inverse_bias1, float inverse_sqrt_bias2) {
  const float denominator = std::fma(std::sqrt(v), inverse_sqrt_bias2, epsilon);
  const float direction = std::fma(decay, master, (m * inverse_bias1) / denominator);
  return std::fma(-learning_rate, direction, master);
}

}  // namespace hearth
