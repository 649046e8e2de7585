#include "runtime/checkpoint/find_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/core/check.h"
#include "kernels/core/log.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/config/field_table.h"
#include "runtime/config/suggestion.h"

namespace hearth {

namespace {

// What rank 0 sees; the others must not look at a folder that may be changing under them.
std::vector<int64_t> SharedSteps(const std::filesystem::path& output_dir, Bootstrap& bootstrap) {
  Bytes bytes;
  if (bootstrap.rank() == 0) {
    const std::vector<int64_t> steps = CheckpointSteps(output_dir);
    const auto view = std::as_bytes(std::span(steps));
    bytes.assign(view.begin(), view.end());
  }
  bytes = bootstrap.Broadcast(bytes, 0);
  std::vector<int64_t> steps(bytes.size() / sizeof(int64_t));
  if (!steps.empty()) std::memcpy(steps.data(), bytes.data(), bytes.size());
  return steps;
}

// The checkpoint, or null and what is wrong with it; the same on all ranks.
struct Opened {
  std::unique_ptr<Checkpoint> checkpoint;
  std::string error;
};

Opened OpenTogether(const std::filesystem::path& folder, Bootstrap& bootstrap,
                    const VerifyOptions& reading) {
  Opened opened;
  try {
    opened.checkpoint = std::make_unique<Checkpoint>(folder);
    const size_t files = opened.checkpoint->manifest().files.size();
    for (auto i = static_cast<size_t>(bootstrap.rank()); i < files;
         i += static_cast<size_t>(bootstrap.world())) {
      opened.checkpoint->VerifyFile(i, reading);
    }
  } catch (const IoError& error) {
    opened.error = error.what();
  }
  for (const Bytes& theirs : bootstrap.AllGather(ToBytes(opened.error))) {
    if (opened.error.empty()) opened.error = ToText(theirs);
  }
  if (!opened.error.empty()) opened.checkpoint.reset();
  return opened;
}

// A checkpoint that does not have the step of its name was moved there by hand.
bool HasStep(const Opened& opened, int64_t step) {
  return opened.checkpoint && opened.checkpoint->manifest().info.step == step;
}

std::unique_ptr<Checkpoint> FindNewest(const std::filesystem::path& output_dir,
                                       Bootstrap& bootstrap, const VerifyOptions& reading) {
  std::vector<int64_t> steps = SharedSteps(output_dir, bootstrap);
  for (; !steps.empty(); steps.pop_back()) {
    const std::filesystem::path folder = output_dir / CheckpointName(steps.back());
    Opened opened = OpenTogether(folder, bootstrap, reading);
    if (HasStep(opened, steps.back())) return std::move(opened.checkpoint);
    if (opened.checkpoint) {
      opened.error = fmt::format("{}: error: it is of step {}", folder.string(),
                                 opened.checkpoint->manifest().info.step);
    }
    if (bootstrap.rank() == 0) {
      LogWarning(fmt::format("{} is damaged and passed over: {}", folder.string(), opened.error));
    }
  }
  return nullptr;
}

std::unique_ptr<Checkpoint> OpenNamed(const ResolvedConfig& resolved, Bootstrap& bootstrap,
                                      const VerifyOptions& reading) {
  const std::filesystem::path folder = resolved.config.checkpoint.resume.path;
  Opened opened = OpenTogether(folder, bootstrap, reading);
  if (!opened.checkpoint) throw IoError(opened.error);
  const int64_t step = opened.checkpoint->manifest().info.step;
  const std::vector<int64_t> steps = SharedSteps(resolved.config.output_dir, bootstrap);
  if (!steps.empty()) {
    std::error_code error;
    const std::filesystem::path newest =
        std::filesystem::path(resolved.config.output_dir) / CheckpointName(steps.back());
    if (steps.back() != step || !std::filesystem::equivalent(folder, newest, error)) {
      resolved.Fail("checkpoint.resume",
                    fmt::format("{} has {}, which this run would leave behind as its own; write "
                                "'auto' to go on from there, choose another output_dir, or move "
                                "its checkpoints away",
                                resolved.config.output_dir, CheckpointName(steps.back())));
    }
  }
  return std::move(opened.checkpoint);
}

constexpr std::string_view kPrecisionSection = "precision.";

// Sets an open choice to the checkpoint's; refuses another one.
void Keep(ResolvedConfig& resolved, std::string_view path, bool open, std::string_view value,
          std::string_view saved) {
  if (value == saved) return;
  if (open) {
    resolved.SetPlanned(path, saved);
    return;
  }
  resolved.Fail(path,
                fmt::format("the checkpoint was trained with {}, not {}; write {} (it decides "
                            "the bits of the run), or start a new run in another output_dir",
                            saved, value, saved));
}

}  // namespace

std::unique_ptr<Checkpoint> FindCheckpoint(const ResolvedConfig& resolved, Bootstrap& bootstrap,
                                           const VerifyOptions& reading) {
  const std::filesystem::path output_dir = resolved.config.output_dir;
  switch (resolved.config.checkpoint.resume.mode) {
    case ResumeMode::kAuto:
      return FindNewest(output_dir, bootstrap, reading);
    case ResumeMode::kFolder:
      return OpenNamed(resolved, bootstrap, reading);
    case ResumeMode::kNone:
      break;
  }
  const std::vector<int64_t> steps = SharedSteps(output_dir, bootstrap);
  if (!steps.empty()) {
    resolved.Fail("checkpoint.resume",
                  fmt::format("none, but {} has {} of an earlier run; write 'auto' to go on from "
                              "there, choose another output_dir, or remove it",
                              output_dir.string(), CheckpointName(steps.back())));
  }
  return nullptr;
}

ResolvedConfig KeepChoices(const ResolvedConfig& given, const Checkpoint& checkpoint) {
  ResolvedConfig resolved = given;
  const RunConfig& config = given.config;
  const CheckpointInfo& info = checkpoint.manifest().info;
  const auto text = [](int64_t value) { return std::to_string(value); };
  const auto by_default = [&](std::string_view path) {
    return given.origins.at(path).kind == OriginKind::kDefault;
  };
  const std::optional<int64_t>& micro_batch = config.training.micro_batch_size;
  Keep(resolved, "training.micro_batch_size", !micro_batch,
       micro_batch ? text(*micro_batch) : "auto", text(info.numeric.micro_batch_size));
  Keep(resolved, "memory.head_slab_tokens", by_default("memory.head_slab_tokens"),
       text(config.memory.head_slab_tokens), text(info.numeric.head_slab_tokens));
  Keep(resolved, "parallel.reduction_order",
       config.parallel.reduction_order == ReductionOrder::kAuto,
       EnumName(config.parallel.reduction_order), EnumName(info.numeric.reduction_order));
  Keep(resolved, "seed", false, text(config.seed), text(info.seed));
  Keep(resolved, "data.data_seed", false, text(config.data.data_seed), text(info.data_seed));
  Keep(resolved, "data.sequence_len", false, text(config.data.sequence_len),
       text(info.sequence_len));
  const int64_t global_batch =
      config.training.gradient_accumulation_steps
          ? info.global_batch_size  // the caller compares what it amounts to
          : config.training.global_batch_size.value_or(info.global_batch_size);
  Keep(resolved, "training.global_batch_size", false, text(global_batch),
       text(info.global_batch_size));
  return resolved;
}

std::map<std::string, std::string> PrecisionOf(const ResolvedConfig& resolved) {
  std::map<std::string, std::string> precision;
  for (const Field& field : FieldTable()) {
    if (!field.path.starts_with(kPrecisionSection)) continue;
    precision[field.path.substr(kPrecisionSection.size())] = field.print(resolved.config);
  }
  return precision;
}

std::string PrecisionChange(const ResolvedConfig& resolved, const Checkpoint& checkpoint) {
  const std::map<std::string, std::string>& saved = checkpoint.manifest().info.precision;
  std::string changes;
  for (const auto& [key, value] : PrecisionOf(resolved)) {
    const auto before = saved.find(key);
    if (before == saved.end() || before->second == value) continue;
    changes += fmt::format("{}{}{} is {}, was {}", changes.empty() ? "" : "; ", kPrecisionSection,
                           key, value, Printable(before->second));
  }
  if (changes.empty()) return "";
  return fmt::format("the run goes on in another precision than that of {}: {}",
                     checkpoint.folder().string(), changes);
}

void RequireStateTypes(const ResolvedConfig& resolved, const Checkpoint& checkpoint) {
  const StateTypes& saved = checkpoint.manifest().info.types;
  const OptimizerSection& optimizer = resolved.config.optimizer;
  const auto require = [&](std::string_view path, DType type, bool is_fp32,
                           std::string_view bf16_word) {
    if ((type == DType::kF32) == is_fp32) return;
    resolved.Fail(path, fmt::format("the checkpoint holds {}; write {}, or start a new run in "
                                    "another output_dir",
                                    Name(type), type == DType::kF32 ? "fp32" : bf16_word));
  };
  require("optimizer.master_dtype", saved.master, optimizer.master_dtype == MasterDtype::kFp32,
          "bf16_stochastic");
  require("optimizer.m_dtype", saved.m, optimizer.m_dtype == FloatDtype::kFp32, "bf16");
  require("optimizer.v_dtype", saved.v, optimizer.v_dtype == FloatDtype::kFp32, "bf16");
}

Hash128 ConfigHash(const ResolvedConfig& resolved) {
  ResolvedConfig same = resolved;
  same.config.checkpoint.resume = {};
  return Xxh3Hash128(same.IdentityText());
}

}  // namespace hearth
