#include "launcher/run_check.h"

#include <fmt/format.h>

#include "launcher/program_info.h"
#include "runtime/train/run_setup.h"

namespace hearth {

ResolvedConfig LoadAndCheckRun(const std::string& file, const std::vector<Override>& overrides) {
  const std::string configs = InstalledConfigs();
  ResolvedConfig resolved = LoadConfig(file, configs, overrides, BuiltFeatures());
  const ModelSetup model = SetUpModel(resolved, configs);
  OpenTrainingData(resolved, model.spec);
  OpenEvaluationData(resolved, model.spec);
  return resolved;
}

std::string DescribeRun(const ResolvedConfig& resolved) {
  const RunConfig& config = resolved.config;
  return fmt::format("{}: fine. Run {}: {} in {}, into {}", resolved.file_name, config.run_name,
                     config.model.name_or_path, EnumName(config.precision.compute_dtype),
                     config.output_dir);
}

}  // namespace hearth
