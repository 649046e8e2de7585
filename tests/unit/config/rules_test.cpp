// Rules between keys, and what is not built yet.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/config/field_table.h"
#include "tests/unit/config/config_test_support.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(ConfigRules, OnlyOneLength) {
  EXPECT_EQ(MoreError("training:\n  max_steps: 10\n  num_epochs: 2\n"),
            "run.yaml:7:15: error: training.num_epochs: 'training.max_steps' is given too "
            "(run.yaml:6); keep only one of training.max_steps, training.num_epochs, "
            "training.max_tokens");
  EXPECT_THAT(MoreError("training: {max_tokens: 5, max_steps: 1}\n"),
              StartsWith("run.yaml:5:38: error: training.max_steps: 'training.max_tokens'"));
  const TrainingSection by_steps = MoreConfig("training: {max_steps: 10}\n").training;
  EXPECT_EQ(by_steps.max_steps, 10);
  EXPECT_FALSE(by_steps.num_epochs.has_value());
  const TrainingSection by_tokens = MoreConfig("training: {max_tokens: 1000000}\n").training;
  EXPECT_EQ(by_tokens.max_tokens, 1000000);
  EXPECT_FALSE(by_tokens.num_epochs.has_value());
  EXPECT_EQ(MoreConfig("training: {num_epochs: null}\n").training.num_epochs, 1);
  EXPECT_EQ(MoreConfig("training: {max_steps: null, num_epochs: 2}\n").training.num_epochs, 2);
}

TEST(ConfigRules, CommandLineReplacesTheFilesLength) {
  const TrainingSection training =
      MoreConfig("training: {max_tokens: 100000}\n", {"--max-steps", "7"}).training;
  EXPECT_EQ(training.max_steps, 7);
  EXPECT_FALSE(training.max_tokens.has_value());
  EXPECT_THAT(MoreError("", {"--max-steps", "7", "--num-epochs=2"}),
              StartsWith("command line: error: training."));
}

TEST(ConfigRules, OnlyOneBatchSize) {
  EXPECT_THAT(MoreError("training:\n  micro_batch_size: 2\n  global_batch_size: 8\n"
                        "  gradient_accumulation_steps: 2\n"),
              StartsWith("run.yaml:8:32: error: training.gradient_accumulation_steps: "
                         "'training.global_batch_size' is given too (run.yaml:7); keep only one"));
  const TrainingSection training =
      MoreConfig("training: {micro_batch_size: 2, gradient_accumulation_steps: 4}\n").training;
  EXPECT_EQ(training.gradient_accumulation_steps, 4);
  EXPECT_FALSE(training.global_batch_size.has_value());
  EXPECT_THAT(MoreError("training: {gradient_accumulation_steps: 4}\n"),
              HasSubstr("needs training.micro_batch_size as a number"));
}

TEST(ConfigRules, OnlyOneWarmup) {
  EXPECT_THAT(MoreError("lr_scheduler: {warmup_steps: 5, warmup_ratio: 0.1}\n"),
              StartsWith("run.yaml:5:47: error: lr_scheduler.warmup_ratio: "
                         "'lr_scheduler.warmup_steps' is given too"));
  const LrSchedulerSection by_steps = MoreConfig("lr_scheduler: {warmup_steps: 5}\n").lr_scheduler;
  EXPECT_EQ(by_steps.warmup_steps, 5);
  EXPECT_FALSE(by_steps.warmup_ratio.has_value());
}

TEST(ConfigRules, WarmupFitsIntoTheRun) {
  EXPECT_EQ(MoreError("training: {max_steps: 10}\nlr_scheduler: {warmup_steps: 11}\n"),
            "run.yaml:6:30: error: lr_scheduler.warmup_steps: a warm-up of 11 steps is longer than "
            "the run of 10; write at most 10");
  EXPECT_EQ(MoreError("training: {max_steps: 10}\nlr_scheduler: {warmup_steps: 10}\n"), "no error");
  // 2 * 1024 tokens a step: 4,096 tokens are 2 steps.
  EXPECT_THAT(MoreError("training: {max_tokens: 4096, global_batch_size: 2}\n"
                        "lr_scheduler: {warmup_steps: 3}\n"),
              HasSubstr("longer than the run of 2"));
  const ResolvedConfig resolved = ParseRun(kMinimal + "lr_scheduler: {warmup_steps: 11}\n");
  EXPECT_EQ(ErrorOf([&] { CheckRunLength(resolved, 11); }), "no error");
  EXPECT_THAT(ErrorOf([&] { CheckRunLength(resolved, 10); }),
              StartsWith("run.yaml:5:30: error: lr_scheduler.warmup_steps: a warm-up of 11"));
}

TEST(ConfigRules, DecayStepsBelongToWsd) {
  EXPECT_THAT(
      MoreError("lr_scheduler: {decay_steps: 5}\n"),
      StartsWith("run.yaml:5:29: error: lr_scheduler.decay_steps: only lr_scheduler_type wsd "
                 "has decay_steps, not cosine; remove it"));
  EXPECT_THAT(MoreError("lr_scheduler: {lr_scheduler_type: wsd}\n"),
              HasSubstr("wsd needs lr_scheduler.decay_steps; write"));
  const std::string wsd =
      "lr_scheduler: {lr_scheduler_type: wsd, warmup_steps: 4, decay_steps: 7}\n";
  EXPECT_EQ(MoreError("training: {max_steps: 11}\n" + wsd), "no error");
  EXPECT_THAT(
      MoreError("training: {max_steps: 10}\n" + wsd),
      StartsWith("run.yaml:6:70: error: lr_scheduler.decay_steps: 7 steps of decay after 4"));
  EXPECT_FALSE(
      MoreConfig(wsd, {"--lr-scheduler-type", "linear"}).lr_scheduler.decay_steps.has_value());
}

TEST(ConfigRules, GradientsAreFp32UnderFp32Compute) {
  EXPECT_EQ(MoreConfig("precision: {compute_dtype: fp32}\n").precision.grad_dtype,
            FloatDtype::kFp32);
  EXPECT_THAT(MoreError("precision: {compute_dtype: fp32, grad_dtype: bf16}\n"),
              StartsWith("run.yaml:5:46: error: precision.grad_dtype: gradients are always fp32"));
  EXPECT_EQ(
      MoreConfig("precision: {grad_dtype: bf16}\n", {"--compute-dtype=fp32"}).precision.grad_dtype,
      FloatDtype::kFp32);
  EXPECT_EQ(MoreConfig("precision: {compute_dtype: bf16}\n").precision.grad_dtype,
            FloatDtype::kBf16);
  EXPECT_EQ(MoreConfig("precision: {grad_dtype: fp32}\n").precision.grad_dtype, FloatDtype::kFp32);
}

TEST(ConfigRules, AnFp8HeadNeedsFp8Blocks) {
  const std::string head = "precision: {fp8_lm_head: true}\n";
  EXPECT_TRUE(MoreConfig(head).precision.fp8_lm_head);
  EXPECT_EQ(MoreError("precision: {compute_dtype: bf16, fp8_lm_head: true}\n"),
            "run.yaml:5:47: error: precision.fp8_lm_head: the head is in FP8 only where "
            "compute_dtype is fp8, not bf16; write false, or compute_dtype: fp8");
  // What is asked for later decides.
  EXPECT_FALSE(MoreConfig(head, {"--compute-dtype=bf16"}).precision.fp8_lm_head);
  EXPECT_THAT(MoreError("precision: {compute_dtype: fp32}\n", {"--fp8-lm-head", "true"}),
              HasSubstr("precision.fp8_lm_head: the head is in FP8 only where"));
}

TEST(ConfigRules, OnlyAnFp8RunChangesToBf16) {
  const std::string finish = "precision: {bf16_finish_ratio: 0.1}\n";
  EXPECT_EQ(MoreConfig(finish).precision.bf16_finish_ratio, 0.1);
  EXPECT_EQ(MoreError("precision: {compute_dtype: bf16, bf16_finish_ratio: 0.1}\n"),
            "run.yaml:5:53: error: precision.bf16_finish_ratio: the last steps change to bf16 only "
            "where compute_dtype is fp8, not bf16; write 0.0, or compute_dtype: fp8");
  // What is asked for later decides.
  EXPECT_EQ(MoreConfig(finish, {"--compute-dtype=bf16"}).precision.bf16_finish_ratio, 0.0);
  EXPECT_THAT(MoreError("precision: {compute_dtype: fp32}\n", {"--bf16-finish-ratio", "0.1"}),
              HasSubstr("precision.bf16_finish_ratio: the last steps change to bf16 only"));
  for (const char* value : {"1", "1.5", "-0.1", "true", "half", ".nan", "null"}) {
    SCOPED_TRACE(value);
    const std::string error =
        MoreError(std::string("precision: {bf16_finish_ratio: ") + value + "}\n");
    EXPECT_THAT(error, StartsWith("run.yaml:5:32: error: precision.bf16_finish_ratio: "));
    EXPECT_THAT(error, HasSubstr("below 1"));
  }
}

TEST(ConfigRules, FinishStepsAreAShareRoundedDown) {
  const auto steps = [](double ratio, int64_t total) {
    return FinishSteps({.bf16_finish_ratio = ratio}, total);
  };
  EXPECT_EQ(steps(0.1, 1000), 100);
  EXPECT_EQ(steps(0.29, 100), 29);  // the product is a hair below 29
  EXPECT_EQ(steps(0.1, 9), 0);
  EXPECT_EQ(steps(0.5, 3), 1);
  EXPECT_EQ(steps(0.0, 1000), 0);
  EXPECT_EQ(steps(0.9999999, 10), 9);  // one step at least is in FP8
  EXPECT_EQ(steps(0.9, 1), 0);
  EXPECT_EQ(FinishSteps({.compute_dtype = ComputeDtype::kBf16, .bf16_finish_ratio = 0.1}, 1000), 0);
}

TEST(ConfigRules, OffloadOptimizerSetsThree) {
  const OffloadSection all =
      MoreConfig("memory: {offload: {m: auto, optimizer: host}}\n").memory.offload;
  EXPECT_EQ(all.m, OffloadTarget::kHost);
  EXPECT_EQ(all.v, OffloadTarget::kHost);
  EXPECT_EQ(all.master, OffloadTarget::kHost);
  EXPECT_EQ(all.weights, OffloadTarget::kAuto);
  EXPECT_FALSE(all.optimizer.has_value());
  EXPECT_EQ(
      MoreError("memory: {offload: {m: none, optimizer: host}}\n"),
      "run.yaml:5:23: error: memory.offload.m: 'none' contradicts memory.offload.optimizer: host "
      "(run.yaml:5); keep one of them");
  const OffloadSection typed =
      MoreConfig("memory: {offload: {optimizer: host}}\n", {"--set", "memory.offload.m=none"})
          .memory.offload;
  EXPECT_EQ(typed.m, OffloadTarget::kNone);
  EXPECT_EQ(typed.v, OffloadTarget::kHost);
  const OffloadSection typed_all =
      MoreConfig("memory: {offload: {m: none}}\n", {"--set", "memory.offload.optimizer=host"})
          .memory.offload;
  EXPECT_EQ(typed_all.m, OffloadTarget::kHost);
}

TEST(ConfigRules, HostOptimizerNeedsStateOnTheHost) {
  EXPECT_THAT(
      MoreError("memory: {optimizer_device: cpu, offload: {v: none}}\n"),
      StartsWith("run.yaml:5:46: error: memory.offload.v: 'none' keeps this on the device"));
  EXPECT_EQ(MoreError("memory: {optimizer_device: cpu, offload: {optimizer: host}}\n"), "no error");
  EXPECT_EQ(MoreError("memory: {optimizer_device: cpu}\n"), "no error");
}

TEST(ConfigRules, OverflowingProductsAreErrors) {
  EXPECT_THAT(
      MoreError("training: {max_steps: 1099511627776, global_batch_size: 16777216}\n"),
      StartsWith("run.yaml:5:23: error: training.max_steps: the number of tokens of the run"));
  EXPECT_THAT(
      RunError("model: {name_or_path: m}\ndata: {sequence_len: 16777216, datasets: [{path: d}]}\n"
               "training: {gradient_accumulation_steps: 16777216, micro_batch_size: 16777216}\n"),
      HasSubstr("the number of tokens per step, 281474976710656 * 16777216, overflows"));
}

struct Refused {
  std::string path;
  std::string value;
};

TEST(ConfigRules, WhatIsNotBuiltIsRefusedByName) {
  const std::vector<Refused> refused = {
      {"training.clip_mode", "per_tensor"}, {"training.clip_mode", "speculate"},
      {"memory.offload.m", "ssd"},          {"memory.offload.v", "ssd"},
      {"memory.offload.master", "ssd"},     {"memory.offload.optimizer", "ssd"},
      {"memory.offload.weights", "ssd"},    {"memory.offload.gradients", "ssd"},
      {"memory.offload.residual", "ssd"},   {"memory.attention_chunks", "2"},
      {"memory.ssd_path", "/mnt/ssd"},
  };
  for (const Refused& each : refused) {
    const std::string typed = MoreError("", {"--set", each.path + "=" + each.value});
    EXPECT_THAT(typed, StartsWith("command line: error: " + each.path + ": '" + each.value +
                                  "' is not built yet; use "));
    // In the file, with its place: nest the path.
    std::string yaml = each.value;
    for (size_t end = each.path.size(); end != std::string::npos;) {
      const size_t dot = each.path.rfind('.', end - 1);
      const size_t start = dot == std::string::npos ? 0 : dot + 1;
      yaml = fmt::format("{{{}: {}}}", each.path.substr(start, end - start), yaml);
      end = dot;
    }
    const std::string placed = MoreError(yaml.substr(1, yaml.size() - 2) + "\n");
    EXPECT_THAT(placed, StartsWith("run.yaml:5:"));
    EXPECT_THAT(placed,
                HasSubstr(": error: " + each.path + ": '" + each.value + "' is not built yet"));
  }
}

TEST(ConfigRules, WhatIsBuiltIsAccepted) {
  for (const char* assignment : {"parallel.zero_stage=0",
                                 "parallel.zero_stage=2",
                                 "parallel.zero_stage=3",
                                 "memory.offload.gradients=host",
                                 "memory.plan=manual",
                                 "memory.offload.m=host",
                                 "memory.offload.v=none",
                                 "memory.offload.weights=none",
                                 "memory.offload.weights=host",
                                 "memory.schedule=horizontal",
                                 "memory.recompute=[block]",
                                 "memory.recompute=none",
                                 "memory.optimizer_device=cpu",
                                 "memory.lm_head_chunks=4",
                                 "memory.attention_chunks=1",
                                 "comm.backend=mpi",
                                 "comm.interface=eth0",
                                 "device=cpu",
                                 "precision.fp8_format=hybrid",
                                 "precision.fp8_fast_accumulation=true",
                                 "precision.fp8_lm_head=true",
                                 "parallel.reduction_order=rank_then_micro",
                                 "optimizer.master_dtype=bf16_stochastic",
                                 "launch.nproc_per_node=2",
                                 "checkpoint.save_total_limit=null"}) {
    EXPECT_EQ(MoreError("", {"--set", assignment}), "no error") << assignment;
  }
}

TEST(ConfigRules, AnInterfaceIsTheNameOfOneDevice) {
  for (const char* fine : {"eth0", "enp3s0f1", "ib0.8001", "br-lan", "123456789012345"}) {
    const std::string assignment = std::string("comm.interface=") + fine;
    EXPECT_EQ(MoreError("", {"--set", assignment}), "no error") << fine;
  }
  // Lists and patterns mean different things to Open MPI and NCCL.
  for (const char* wrong : {"eth0,eth1", "10.0.0.0/24", "^eth0", "=eth0", "1234567890123456"}) {
    const std::string typed = MoreError("", {"--set", std::string("comm.interface=") + wrong});
    EXPECT_THAT(typed, HasSubstr("comm.interface: ")) << wrong;
    EXPECT_THAT(typed, HasSubstr("is no name of a network device")) << wrong;
  }
}

TEST(ConfigRules, CudaDependsOnTheBuild) {
  EXPECT_EQ(
      MoreError("device: cuda\n"),
      "run.yaml:5:9: error: device: this build has no CUDA backend, so 'cuda' cannot be had; use "
      "auto or cpu, or build with CUDA");
  EXPECT_EQ(ParseRun(kMinimal + "device: cuda\n", {}, {.cuda = true}).config.device,
            DeviceKind::kCuda);
}

TEST(ConfigRules, CudnnNeedsAGpuAndSequencesOfOneLength) {
  const std::string asked = "precision: {attention_provider: cudnn}\n";
  const BuildFeatures cuda{.cuda = true};
  EXPECT_EQ(RunError(kMinimal + asked, {}, cuda),
            "run.yaml:5:33: error: precision.attention_provider: cuDNN computes sequences of one "
            "length, not packed documents; write sample_packing: false, or attention_provider: "
            "auto");
  const std::vector<std::string> whole = {"--set", "data.sample_packing=false"};
  EXPECT_EQ(MoreError(asked, whole),
            "run.yaml:5:33: error: precision.attention_provider: this build has no CUDA backend, "
            "so 'cudnn' cannot be had; use auto or own, or build with CUDA");
  EXPECT_THAT(RunError(kMinimal + "precision: {attention_provider: cudnn, compute_dtype: fp32}\n",
                       whole, cuda),
              HasSubstr("cuDNN's attention is in bf16"));
  EXPECT_EQ(ParseRun(kMinimal + asked, whole, cuda).config.precision.attention_provider,
            AttentionChoice::kCudnn);
  EXPECT_EQ(MoreError("precision: {attention_provider: own}\n"), "no error");
}

TEST(ConfigRules, GpusExchangeByCopyEnginesWhereThereAreAny) {
  const BuildFeatures cuda{.cuda = true};
  for (const std::string backend : {"nccl", "copy_engine"}) {
    EXPECT_EQ(MoreError("comm: {backend: " + backend + "}\n"),
              "run.yaml:5:17: error: comm.backend: this build has no CUDA backend, so '" + backend +
                  "' cannot be had; use auto or mpi, or build with CUDA");
  }
  EXPECT_EQ(RunError(kMinimal + "comm: {backend: nccl}\n", {}, cuda),
            "run.yaml:5:17: error: comm.backend: 'nccl' is not built yet; use auto or copy_engine "
            "or mpi");
  const std::string asked = "comm: {backend: copy_engine}\n";
  EXPECT_EQ(RunError(kMinimal + asked, {"--device", "cpu"}, cuda),
            "run.yaml:5:17: error: comm.backend: copy_engine moves the memory of GPUs, and device: "
            "cpu uses none; write mpi or auto, or another device");
  EXPECT_EQ(EnumName(ParseRun(kMinimal + asked, {}, cuda).config.comm.backend), "copy_engine");
  EXPECT_EQ(RunError(kMinimal + "comm: {backend: mpi}\ndevice: cpu\n", {}, cuda), "no error");
}

TEST(ConfigRules, EveryPartlyBuiltRowNamesARealFieldAndItsDefault) {
  int rows = 0;
  const RunConfig defaults;
  for (const Field& field : FieldTable()) {
    const std::vector<std::string_view> built = BuiltValues(field, {});
    if (built.empty()) continue;
    ++rows;
    EXPECT_NE(std::find(built.begin(), built.end(), field.print(defaults)), built.end())
        << field.path;
  }
  EXPECT_EQ(rows, 13);  // all rows were found by a field, those of a build without CUDA included
}

TEST(ConfigRules, HelpOffersWhatIsBuiltOnly) {
  const std::string help = OptionsHelp({});
  EXPECT_THAT(help, HasSubstr("--learning-rate VALUE"));
  EXPECT_THAT(help, HasSubstr("a number above 0 and at most 1000; default 0.0003"));
  EXPECT_THAT(help, HasSubstr("--set memory.offload.m=VALUE"));
  EXPECT_THAT(help, HasSubstr("      an integer from 0 to 3; default 1\n"));
  EXPECT_THAT(help, HasSubstr("      auto | horizontal | vertical; default auto\n"));
  EXPECT_THAT(help, HasSubstr("      a shape file or a folder; required\n"));
  for (const char* word : {"ssd", "nccl", "copy_engine", "speculate", "per_tensor", "cuda",
                           "ssd-path", "attention-chunks"}) {
    EXPECT_THAT(help, Not(HasSubstr(word)));
  }
  EXPECT_THAT(OptionsHelp({.cuda = true}), HasSubstr("auto | cpu | cuda"));
}

}  // namespace
}  // namespace hearth
