#include "runtime/config/run_config.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/check.h"
#include "runtime/config/enum_names.h"

namespace hearth {
namespace {

template <typename Enum>
std::string_view WordOf(Enum value) {
  for (const auto& [word, named] : kEnumWords<Enum>) {
    if (named == value) return word;
  }
  CHECK(false, "enum value {} has no name", static_cast<int>(value));
  return "";
}

// Keeps a product such as 0.07 * 100, a hair above 7, or 0.29 * 100, a hair below 29, from costing
// a step.
constexpr double kStepSlack = 1e-6;

}  // namespace

std::string_view EnumName(DeviceKind value) { return WordOf(value); }
std::string_view EnumName(ModelInit value) { return WordOf(value); }
std::string_view EnumName(DataFormat value) { return WordOf(value); }
std::string_view EnumName(ClipMode value) { return WordOf(value); }
std::string_view EnumName(OptimizerType value) { return WordOf(value); }
std::string_view EnumName(FloatDtype value) { return WordOf(value); }
std::string_view EnumName(MasterDtype value) { return WordOf(value); }
std::string_view EnumName(LrSchedulerType value) { return WordOf(value); }
std::string_view EnumName(ComputeDtype value) { return WordOf(value); }
std::string_view EnumName(Fp8Recipe value) { return WordOf(value); }
std::string_view EnumName(Fp8Format value) { return WordOf(value); }
std::string_view EnumName(AttentionChoice value) { return WordOf(value); }
std::string_view EnumName(ReductionOrder value) { return WordOf(value); }
std::string_view EnumName(RecomputeItem value) { return WordOf(value); }
std::string_view EnumName(OffloadTarget value) { return WordOf(value); }
std::string_view EnumName(ScheduleKind value) { return WordOf(value); }
std::string_view EnumName(OptimizerDevice value) { return WordOf(value); }
std::string_view EnumName(CommBackend value) { return WordOf(value); }
std::string_view EnumName(ExportHf value) { return WordOf(value); }
std::string_view EnumName(OnNonfinite value) { return WordOf(value); }
std::string_view EnumName(ReportTarget value) { return WordOf(value); }

int64_t WarmupSteps(const LrSchedulerSection& lr_scheduler, int64_t total_steps) {
  if (lr_scheduler.warmup_steps) return *lr_scheduler.warmup_steps;
  const double share = lr_scheduler.warmup_ratio.value_or(0.0);
  const double steps = std::ceil(share * static_cast<double>(total_steps) - kStepSlack);
  return std::clamp<int64_t>(static_cast<int64_t>(steps), 0, total_steps);
}

int64_t FinishSteps(const PrecisionSection& precision, int64_t total_steps) {
  if (precision.compute_dtype != ComputeDtype::kFp8) return 0;
  const double steps =
      std::floor(precision.bf16_finish_ratio * static_cast<double>(total_steps) + kStepSlack);
  return std::clamp<int64_t>(static_cast<int64_t>(steps), 0, std::max<int64_t>(total_steps - 1, 0));
}

}  // namespace hearth
