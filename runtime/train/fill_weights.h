// The weights that a run begins with: where they come from, and how they get into the state.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "runtime/train/run_setup.h"

namespace hearth {

// Gives logical elements [begin, begin + out) of a parameter (an index in ModelSpec::parameters).
// Called by several threads at once; what an element is does not depend on the range asked for.
using WeightReader = std::function<void(size_t parameter, int64_t begin, std::span<float> out)>;

// Values drawn from the seed, or read from the model's folder. `model` must outlive the reader.
WeightReader InitialWeights(const ModelSetup& model, uint64_t seed);

// How many of this rank's elements are there; called by the thread that fills, several times a
// second unless the reader is slow.
using FillProgress = std::function<void(int64_t done, int64_t all)>;

// Fills this rank's master weights, rounded to their type, with the executor's host threads: the
// same bits for any number of them. They write into host memory where that is the state's home;
// else one piece is copied to the device while they fill the next. Each has memory for a few
// hundred kilobytes of values. When `read` throws, the exception of the first piece that failed is
// thrown here, and the weights have any content.
void FillMasterWeights(Executor& executor, const WeightReader& read,
                       const FillProgress& progress = {});

}  // namespace hearth
