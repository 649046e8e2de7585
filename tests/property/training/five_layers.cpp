#include "tests/property/training/five_layers.h"

#include <fmt/format.h>

#include <string_view>

namespace hearth::test {

std::string FiveLayers() {
  std::string model = SmallModel();
  const std::string_view layers = "num_hidden_layers: 2";
  return model.replace(model.find(layers), layers.size(), "num_hidden_layers: 5");
}

TrainingRunOptions FiveLayerRun(const std::string& precision, int ranks) {
  TrainingRunOptions options{
      .ranks = ranks, .model = FiveLayers(), .keys = PrecisionKeys(precision), .steps = 3};
  options.keys.emplace_back("training", "micro_batch_size: 1");
  options.keys.emplace_back("training", fmt::format("global_batch_size: {}", 3 * ranks));
  options.keys.emplace_back("optimizer", "learning_rate: 0.01");
  options.keys.emplace_back("eval", "eval_steps: 2");
  return options;
}

TrainingRunResult TrainInProcess(TrainingRunOptions options, const MemoryWay& way) {
  for (const char* key : way.keys) options.keys.emplace_back("memory", key);
  return TrainInProcess(options);
}

}  // namespace hearth::test
