#include "runtime/config/validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/check.h"
#include "runtime/config/field_table.h"

namespace hearth {
namespace {

// Exactly one of the members has a value; `fallback` where none was given.
struct Alternatives {
  std::vector<std::string_view> members;
  std::string_view fallback;
};

const LeafOrigin& OriginOf(const ResolvedConfig& resolved, std::string_view path) {
  return resolved.origins.at(path);
}

OriginKind KindOf(const ResolvedConfig& resolved, std::string_view path) {
  return OriginOf(resolved, path).kind;
}

bool IsGiven(const ResolvedConfig& resolved, std::string_view path) {
  return KindOf(resolved, path) != OriginKind::kDefault &&
         FindField(path)->print(resolved.config) != "null";
}

void SetText(ResolvedConfig& resolved, std::string_view path, std::string_view text) {
  SetFieldText(*FindField(path), text, std::string(path), resolved.config);
}

std::string Where(const ResolvedConfig& resolved, std::string_view path) {
  return OriginOf(resolved, path).text;
}

// Puts the later of two places in a file first.
bool IsLater(const LeafOrigin& a, const LeafOrigin& b) {
  return a.line != b.line ? a.line > b.line : a.column > b.column;
}

void SettleAlternatives(ResolvedConfig& resolved, const Alternatives& choice) {
  std::vector<std::string_view> given;
  OriginKind highest = OriginKind::kDefault;
  for (const std::string_view path : choice.members) {
    if (!IsGiven(resolved, path)) continue;
    given.push_back(path);
    highest = std::max(highest, KindOf(resolved, path));
  }
  std::erase_if(given, [&](std::string_view path) { return KindOf(resolved, path) != highest; });
  if (given.size() > 1) {
    std::sort(given.begin(), given.end(), [&](std::string_view a, std::string_view b) {
      return IsLater(OriginOf(resolved, a), OriginOf(resolved, b));
    });
    resolved.Fail(given[0],
                  fmt::format("'{}' is given too ({}); keep only one of {}", given[1],
                              Where(resolved, given[1]), fmt::join(choice.members, ", ")));
  }
  for (const std::string_view path : choice.members) {
    if (!given.empty() && path == given[0]) continue;
    if (FindField(path)->print(resolved.config) == "null") continue;
    SetText(resolved, path, "null");
    resolved.origins[path] = given.empty() ? LeafOrigin{} : OriginOf(resolved, given[0]);
  }
  if (given.empty()) {
    const RunConfig defaults;
    SetText(resolved, choice.fallback, FindField(choice.fallback)->print(defaults));
    resolved.origins[choice.fallback] = LeafOrigin{};
  }
}

// memory.offload.optimizer is short for m, v and master.
void SettleOffload(ResolvedConfig& resolved) {
  constexpr std::string_view kShort = "memory.offload.optimizer";
  if (!resolved.config.memory.offload.optimizer) return;
  const std::string_view target = EnumName(*resolved.config.memory.offload.optimizer);
  const LeafOrigin origin = OriginOf(resolved, kShort);
  for (const std::string_view path :
       {"memory.offload.m", "memory.offload.v", "memory.offload.master"}) {
    const std::string own = FindField(path)->print(resolved.config);
    const OriginKind own_kind = own == "auto" ? OriginKind::kDefault : KindOf(resolved, path);
    if (own_kind > origin.kind) continue;
    if (own_kind == origin.kind && own != target) {
      resolved.Fail(path, fmt::format("'{}' contradicts {}: {} ({}); keep one of them", own, kShort,
                                      target, origin.text));
    }
    SetText(resolved, path, target);
    resolved.origins[path] = origin;
  }
  resolved.config.memory.offload.optimizer.reset();
}

// Sets a key that only means something under compute_dtype fp8 to its default under another one,
// unless it was given later.
void SettleFp8Key(ResolvedConfig& resolved, std::string_view path, std::string_view why) {
  const RunConfig& config = resolved.config;
  const RunConfig defaults;
  const std::string off = FindField(path)->print(defaults);
  if (config.precision.compute_dtype == ComputeDtype::kFp8) return;
  if (FindField(path)->print(config) == off) return;
  const LeafOrigin compute = OriginOf(resolved, "precision.compute_dtype");
  LeafOrigin& origin = resolved.origins[path];
  if (origin.kind >= compute.kind) {
    resolved.Fail(path, fmt::format("{} only where compute_dtype is fp8, not {}; write {}, or "
                                    "compute_dtype: fp8",
                                    why, EnumName(config.precision.compute_dtype), off));
  }
  SetText(resolved, path, off);
  origin = compute;
}

// Keys that only mean something, or only have one value, under a value of another key.
void SettleDependent(ResolvedConfig& resolved) {
  RunConfig& config = resolved.config;
  if (config.precision.compute_dtype == ComputeDtype::kFp32 &&
      config.precision.grad_dtype != FloatDtype::kFp32) {
    const LeafOrigin& compute = OriginOf(resolved, "precision.compute_dtype");
    LeafOrigin& grad = resolved.origins["precision.grad_dtype"];
    if (grad.kind != OriginKind::kDefault && grad.kind >= compute.kind) {
      resolved.Fail("precision.grad_dtype",
                    "gradients are always fp32 under compute_dtype fp32; write fp32 or remove it");
    }
    config.precision.grad_dtype = FloatDtype::kFp32;
    grad = compute;
  }
  SettleFp8Key(resolved, "precision.fp8_lm_head", "the head is in FP8");
  SettleFp8Key(resolved, "precision.bf16_finish_ratio", "the last steps change to bf16");
  LrSchedulerSection& schedule = config.lr_scheduler;
  if (schedule.lr_scheduler_type != LrSchedulerType::kWsd && schedule.decay_steps) {
    const LeafOrigin& type = OriginOf(resolved, "lr_scheduler.lr_scheduler_type");
    LeafOrigin& decay = resolved.origins["lr_scheduler.decay_steps"];
    if (decay.kind >= type.kind) {
      resolved.Fail("lr_scheduler.decay_steps",
                    fmt::format("only lr_scheduler_type wsd has decay_steps, not {}; remove it or "
                                "write lr_scheduler_type: wsd",
                                EnumName(schedule.lr_scheduler_type)));
    }
    schedule.decay_steps.reset();
    decay = type;
  }
}

// The file's name without its folder and its last extension.
std::string NameFromFile(const std::string& file_name) {
  std::string name = std::filesystem::path(file_name).stem().string();
  for (char& c : name) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) c = '_';
  }
  if (name.empty() || name == "." || name == "..") name = "run";
  return name;
}

void SettleNames(ResolvedConfig& resolved) {
  RunConfig& config = resolved.config;
  if (config.run_name.empty()) config.run_name = NameFromFile(resolved.file_name);
  const std::string& name = config.run_name;
  if (name == "." || name == ".." || name.find('/') != std::string::npos || name.size() > 200) {
    resolved.Fail("run_name",
                  "a run's name is that of a folder; write one of at most 200 bytes "
                  "without '/'");
  }
  if (config.output_dir.empty()) config.output_dir = "runs/" + name;
}

// a * b, or a failure at `path`.
int64_t Product(const ResolvedConfig& resolved, std::string_view path, int64_t a, int64_t b,
                std::string_view what) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    resolved.Fail(path, fmt::format("{}, {} * {}, overflows; write a smaller number", what, a, b));
  }
  return product;
}

void ValidateBatch(const ResolvedConfig& resolved) {
  const TrainingSection& training = resolved.config.training;
  const int64_t sequence_len = resolved.config.data.sequence_len;
  constexpr std::string_view kAccumulation = "training.gradient_accumulation_steps";
  if (training.gradient_accumulation_steps && !training.micro_batch_size) {
    resolved.Fail(kAccumulation,
                  "needs training.micro_batch_size as a number, since 'auto' is chosen from "
                  "global_batch_size; write one");
  }
  std::string_view path = "training.global_batch_size";
  int64_t sequences = training.global_batch_size.value_or(1);
  if (training.gradient_accumulation_steps) {
    path = kAccumulation;
    sequences = Product(resolved, path, *training.gradient_accumulation_steps,
                        *training.micro_batch_size, "the number of sequences per step");
  }
  const int64_t tokens =
      Product(resolved, path, sequences, sequence_len, "the number of tokens per step");
  if (training.max_steps) {
    Product(resolved, "training.max_steps", *training.max_steps, tokens,
            "the number of tokens of the run");
  }
}

void ValidateLength(const ResolvedConfig& resolved) {
  const RunConfig& config = resolved.config;
  const LrSchedulerSection& schedule = config.lr_scheduler;
  if (schedule.lr_scheduler_type == LrSchedulerType::kWsd && !schedule.decay_steps) {
    resolved.Fail("lr_scheduler.lr_scheduler_type",
                  "wsd needs lr_scheduler.decay_steps; write how many of the last steps decay");
  }
  if (config.training.max_steps) CheckRunLength(resolved, *config.training.max_steps);
  if (config.training.max_tokens && config.training.global_batch_size) {
    const int64_t tokens_per_step = *config.training.global_batch_size * config.data.sequence_len;
    CheckRunLength(resolved, DivUp(*config.training.max_tokens, tokens_per_step));
  }
}

void ValidateAttention(const ResolvedConfig& resolved) {
  constexpr std::string_view kProvider = "precision.attention_provider";
  const RunConfig& config = resolved.config;
  if (config.precision.attention_provider != AttentionChoice::kCudnn) return;
  if (config.data.sample_packing) {
    resolved.Fail(kProvider,
                  "cuDNN computes sequences of one length, not packed documents; write "
                  "sample_packing: false, or attention_provider: auto");
  }
  if (config.precision.compute_dtype == ComputeDtype::kFp32) {
    resolved.Fail(kProvider,
                  "cuDNN's attention is in bf16; write attention_provider: auto, or another "
                  "compute_dtype than fp32");
  }
}

// It becomes a part of lists and patterns of Open MPI's and NCCL's.
void ValidateInterface(const ResolvedConfig& resolved) {
  constexpr size_t kLongestName = 15;  // of a network device in Linux
  const std::string& name = *resolved.config.comm.interface;
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
  });
  if (!name.empty() && name.size() <= kLongestName && plain) return;
  resolved.Fail("comm.interface",
                fmt::format("'{}' is no name of a network device; write one that `ip link` shows, "
                            "such as eth0, or auto",
                            name));
}

void ValidateComm(const ResolvedConfig& resolved) {
  if (resolved.config.comm.interface) ValidateInterface(resolved);
  const CommBackend backend = resolved.config.comm.backend;
  if (backend == CommBackend::kAuto || backend == CommBackend::kMpi) return;
  if (resolved.config.device != DeviceKind::kCpu) return;
  resolved.Fail("comm.backend",
                fmt::format("{} moves the memory of GPUs, and device: cpu uses none; write mpi or "
                            "auto, or another device",
                            EnumName(backend)));
}

void ValidateMemory(const ResolvedConfig& resolved) {
  const MemorySection& memory = resolved.config.memory;
  if (memory.optimizer_device != OptimizerDevice::kCpu) return;
  const OffloadSection& offload = memory.offload;
  for (const auto& [path, target] :
       {std::pair{"memory.offload.m", offload.m}, std::pair{"memory.offload.v", offload.v},
        std::pair{"memory.offload.master", offload.master}}) {
    if (target == OffloadTarget::kNone) {
      resolved.Fail(path,
                    "'none' keeps this on the device, but optimizer_device: cpu works on host "
                    "memory; write host or auto, or optimizer_device: gpu");
    }
  }
}

}  // namespace

void CheckRunLength(const ResolvedConfig& resolved, int64_t total_steps) {
  const LrSchedulerSection& schedule = resolved.config.lr_scheduler;
  const int64_t warmup = WarmupSteps(schedule, total_steps);
  if (warmup > total_steps) {
    resolved.Fail(
        "lr_scheduler.warmup_steps",
        fmt::format("a warm-up of {} steps is longer than the run of {}; write at most {}", warmup,
                    total_steps, total_steps));
  }
  const int64_t decay = schedule.decay_steps.value_or(0);
  if (decay > total_steps - warmup) {
    resolved.Fail(
        "lr_scheduler.decay_steps",
        fmt::format("{} steps of decay after {} of warm-up are longer than the run of {}; "
                    "write at most {}",
                    decay, warmup, total_steps, total_steps - warmup));
  }
}

void SettleChoices(ResolvedConfig& resolved) {
  const Alternatives length{
      .members = {"training.max_steps", "training.num_epochs", "training.max_tokens"},
      .fallback = "training.num_epochs"};
  const Alternatives batch{
      .members = {"training.global_batch_size", "training.gradient_accumulation_steps"},
      .fallback = "training.global_batch_size"};
  const Alternatives warmup{.members = {"lr_scheduler.warmup_steps", "lr_scheduler.warmup_ratio"},
                            .fallback = "lr_scheduler.warmup_ratio"};
  for (const Alternatives& choice : {length, batch, warmup}) SettleAlternatives(resolved, choice);
  SettleOffload(resolved);
  SettleDependent(resolved);
  SettleNames(resolved);
}

void Validate(const ResolvedConfig& resolved) {
  ValidateBatch(resolved);
  ValidateLength(resolved);
  ValidateMemory(resolved);
  ValidateAttention(resolved);
  ValidateComm(resolved);
}

}  // namespace hearth
