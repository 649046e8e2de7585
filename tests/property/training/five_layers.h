// A short run whose blocks take turns in slots, for tests of where their parts live.
#pragma once

#include <string>
#include <vector>

#include "tests/support/training_run.h"

namespace hearth::test {

// SmallModel with five layers: an odd number leaves each slot to another one in the backward than
// in the forward.
std::string FiveLayers();

// Three steps of three micro-batches a rank, evaluated on the way.
TrainingRunOptions FiveLayerRun(const std::string& precision, int ranks);

// Where a run's parts live, in keys of its memory section.
struct MemoryWay {
  const char* name;
  std::vector<const char*> keys;
};
TrainingRunResult TrainInProcess(TrainingRunOptions options, const MemoryWay& way);

}  // namespace hearth::test
