// Weights for measuring: as many and as random as real ones, in a fraction of the time.
#pragma once

#include "runtime/train/fill_weights.h"

namespace hearth {

// A million normal values drawn once and repeated, each parameter from another place on, scaled as
// its initial values are; ones and zeros as they are. `spec` must outlive the reader.
WeightReader RepeatedWeights(const ModelSpec& spec);

}  // namespace hearth
