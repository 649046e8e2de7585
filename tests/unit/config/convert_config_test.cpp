#include "runtime/config/convert_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runtime/config/convert_reader.h"
#include "runtime/config/convert_tables.h"
#include "runtime/config/field_table.h"
#include "tests/unit/config/config_test_support.h"

namespace hearth {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

ConvertedConfig Convert(const std::string& text, const std::string& format,
                        const std::string& model = "", const std::string& data = "") {
  return ConvertConfig(text,
                       {.format = format, .file_name = "theirs", .model = model, .data = data});
}

// What the result says when the config library reads it.
RunConfig Read(const ConvertedConfig& converted) {
  return ParseConfig({.text = converted.yaml,
                      .file_name = "run.yaml",
                      .overrides = {},
                      .features = {.cuda = true}})
      .config;
}

bool IsListed(const std::vector<std::string>& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != line.npos; });
}

TEST(ConvertTablesTest, EveryRowNamesAKeyOfRunYamlAndTakesItsOwnValues) {
  for (const ForeignFormat& format : ForeignFormats()) {
    for (const Mapping& mapping : format.mappings) {
      const std::string where = std::string(format.name) + ": " + std::string(mapping.key);
      if (mapping.rule == ValueRule::kLost) {
        EXPECT_EQ(mapping.path, "") << where;
        continue;
      }
      const Field* field = FindField(mapping.path);
      ASSERT_NE(field, nullptr) << where;
      RunConfig config;
      if (!mapping.fallback.empty()) {
        EXPECT_NO_THROW(SetFieldText(*field, mapping.fallback, where, config)) << where;
      }
      EXPECT_EQ(mapping.words.empty(),
                mapping.rule != ValueRule::kWords && mapping.rule != ValueRule::kAddToList)
          << where;
      for (std::string_view rest = mapping.words; !rest.empty();) {
        const std::string_view word = rest.substr(0, rest.find(';'));
        rest.remove_prefix(std::min(rest.size(), word.size() + 1));
        std::string value(word.substr(word.find('=') + 1));
        if (mapping.rule == ValueRule::kAddToList) value = "[" + value + "]";
        EXPECT_NO_THROW(SetFieldText(*field, value, where, config)) << where << " " << value;
      }
    }
  }
}

// The text of TrainingArguments.to_json_string, shortened.
constexpr const char* kTrainingArguments = R"({
  "output_dir": "out/my run",
  "per_device_train_batch_size": 4,
  "gradient_accumulation_steps": 8,
  "learning_rate": 2e-05,
  "weight_decay": 0.01,
  "adam_beta1": 0.9,
  "num_train_epochs": 3.0,
  "max_steps": -1,
  "lr_scheduler_type": "cosine",
  "lr_scheduler_kwargs": {"num_cycles": 0.5},
  "warmup_ratio": 0.1,
  "warmup_steps": 0,
  "bf16": true,
  "fp16": false,
  "optim": "adamw_torch_fused",
  "save_steps": 200,
  "save_total_limit": null,
  "logging_steps": 10,
  "report_to": ["tensorboard", "comet_ml"],
  "deepspeed": null,
  "fsdp": [],
  "gradient_checkpointing": true,
  "label_smoothing_factor": 0.1,
  "dataloader_num_workers": 4,
  "something_new": "x",
  "seed": 7
})";

TEST(ConvertConfigTest, TrainingArgumentsBecomeARun) {
  const ConvertedConfig converted =
      Convert(kTrainingArguments, "hf", "configs/models/tiny.yaml", "a.hearth");
  const RunConfig run = Read(converted);
  EXPECT_EQ(run.output_dir, "out/my run");
  EXPECT_EQ(run.seed, 7);
  EXPECT_EQ(run.model.name_or_path, "configs/models/tiny.yaml");
  ASSERT_EQ(run.data.datasets.size(), 1u);
  EXPECT_EQ(run.data.datasets[0].path, "a.hearth");
  EXPECT_EQ(run.training.micro_batch_size, 4);
  EXPECT_EQ(run.training.gradient_accumulation_steps, 8);
  EXPECT_EQ(run.training.global_batch_size, std::nullopt);
  EXPECT_EQ(run.training.num_epochs, 3);
  EXPECT_EQ(run.training.max_steps, std::nullopt);
  EXPECT_EQ(run.optimizer.learning_rate, 2e-5);
  EXPECT_EQ(run.optimizer.weight_decay, 0.01);
  EXPECT_EQ(run.lr_scheduler.lr_scheduler_type, LrSchedulerType::kCosine);
  EXPECT_EQ(run.lr_scheduler.warmup_ratio, 0.1);
  EXPECT_EQ(run.precision.compute_dtype, ComputeDtype::kBf16);
  EXPECT_EQ(run.memory.recompute, std::vector{RecomputeItem::kBlock});
  EXPECT_EQ(run.checkpoint.save_steps, 200);
  EXPECT_EQ(run.checkpoint.save_total_limit, std::nullopt);
  EXPECT_EQ(run.logging.logging_steps, 10);
  // Theirs, which differ from ours.
  EXPECT_EQ(run.optimizer.adam_beta2, 0.999);
  EXPECT_EQ(run.lr_scheduler.min_lr_ratio, 0.0);
  EXPECT_EQ(run.optimizer.m_dtype, FloatDtype::kFp32);
  EXPECT_THAT(converted.assumed, Contains("optimizer.adam_beta2: 0.999"));
  EXPECT_THAT(converted.assumed, Not(Contains(HasSubstr("adam_beta1"))));
  EXPECT_THAT(converted.missing, IsEmpty());

  for (const char* lost :
       {"lr_scheduler_kwargs.num_cycles: 0.5: no counterpart", "label_smoothing_factor: 0.1",
        "something_new: x: no counterpart", "report_to: comet_ml"}) {
    EXPECT_TRUE(IsListed(converted.lost, lost)) << lost << "\n" << converted.yaml;
    EXPECT_THAT(converted.yaml, HasSubstr(lost));
  }
  EXPECT_EQ(converted.lost.size(), 4u) << converted.yaml;
}

TEST(ConvertConfigTest, WhatTheFileCannotSayIsLeftToBeFilledIn) {
  const ConvertedConfig converted = Convert("{\"learning_rate\": 1e-4}", "hf");
  EXPECT_EQ(converted.missing, (std::vector<std::string>{"model.name_or_path", "data.datasets"}));
  EXPECT_THAT(converted.yaml, HasSubstr("name_or_path: MODEL  # to be filled in\n"));
  EXPECT_EQ(Read(converted).precision.compute_dtype, ComputeDtype::kFp32);  // as theirs
}

TEST(ConvertConfigTest, StepsWinOverEpochsAndRatiosAsTheirsDo) {
  const RunConfig run =
      Read(Convert("{\"max_steps\": 500, \"num_train_epochs\": 3.0, \"warmup_steps\": 20, "
                   "\"warmup_ratio\": 0.5}",
                   "hf"));
  EXPECT_EQ(run.training.max_steps, 500);
  EXPECT_EQ(run.training.num_epochs, std::nullopt);
  EXPECT_EQ(run.lr_scheduler.warmup_steps, 20);
  EXPECT_EQ(run.lr_scheduler.warmup_ratio, std::nullopt);
}

TEST(ConvertConfigTest, ValuesThatDoNotFitAreListedNotGuessed) {
  const ConvertedConfig converted = Convert(
      "{\"num_train_epochs\": 1.5, \"optim\": \"adafactor\", \"fp16\": true, \"deepspeed\": "
      "\"cfg/ds_z3_offload.json\", \"lr_scheduler_type\": \"polynomial\"}",
      "hf");
  EXPECT_TRUE(IsListed(converted.lost, "num_train_epochs: 1.5: training.num_epochs takes"));
  EXPECT_TRUE(IsListed(converted.lost, "optim: adafactor: AdamW is used"));
  EXPECT_TRUE(IsListed(converted.lost, "lr_scheduler_type: polynomial"));
  EXPECT_TRUE(IsListed(converted.lost,
                       "deepspeed: cfg/ds_z3_offload.json: parallel.zero_stage: 3 is "
                       "not built yet; it is left at 1") ||
              Read(converted).parallel.zero_stage == 3)
      << converted.yaml;
  EXPECT_EQ(Read(converted).precision.compute_dtype, ComputeDtype::kBf16);
  EXPECT_THAT(converted.yaml, HasSubstr("compute_dtype: bf16  # fp16; there is no fp16\n"));
}

TEST(ConvertConfigTest, AxolotlBecomesARun) {
  const ConvertedConfig converted = Convert(
      "base_model: NousResearch/Llama-3.2-1B\n"
      "datasets:\n"
      "  - path: teknium/GPT4-LLM-Cleaned\n"
      "    type: alpaca\n"
      "val_set_size: 0.1\n"
      "output_dir: ./outputs/out\n"
      "sequence_len: 2048\n"
      "sample_packing: true\n"
      "adapter: lora\n"
      "lora_r: 16\n"
      "gradient_accumulation_steps: 2\n"
      "micro_batch_size: 3\n"
      "num_epochs: 1\n"
      "optimizer: adamw_8bit\n"
      "lr_scheduler: cosine\n"
      "learning_rate: 0.0002\n"
      "bf16: auto\n"
      "tf32: false\n"
      "gradient_checkpointing: true\n"
      "resume_from_checkpoint:\n"
      "logging_steps: 1\n"
      "warmup_steps: 10\n"
      "evals_per_epoch: 4\n"
      "weight_decay: 0.0\n"
      "wandb_project:\n",
      "axolotl");
  const RunConfig run = Read(converted);
  EXPECT_EQ(run.model.name_or_path, "NousResearch/Llama-3.2-1B");
  ASSERT_EQ(run.data.datasets.size(), 1u);
  EXPECT_EQ(run.data.datasets[0].path, "GPT4-LLM-Cleaned.hearth");
  EXPECT_EQ(run.data.sequence_len, 2048);
  EXPECT_TRUE(run.data.sample_packing);
  EXPECT_EQ(run.training.micro_batch_size, 3);
  EXPECT_EQ(run.training.gradient_accumulation_steps, 2);
  EXPECT_EQ(run.training.num_epochs, 1);
  EXPECT_EQ(run.precision.compute_dtype, ComputeDtype::kBf16);
  EXPECT_EQ(run.lr_scheduler.warmup_steps, 10);
  EXPECT_EQ(run.optimizer.weight_decay, 0.0);
  EXPECT_THAT(converted.assumed, Not(Contains(HasSubstr("num_epochs"))));
  for (const char* lost : {"datasets: [teknium/GPT4-LLM-Cleaned]: make it of them: hearth prepare",
                           "adapter: lora: Hearth trains all weights", "optimizer: adamw_8bit",
                           "val_set_size: 0.1: hearth prepare --holdout", "evals_per_epoch: 4"}) {
    EXPECT_TRUE(IsListed(converted.lost, lost)) << lost << "\n" << converted.yaml;
  }
  EXPECT_EQ(converted.lost.size(), 5u) << converted.yaml;
  EXPECT_THAT(converted.missing, IsEmpty());
}

TEST(ConvertConfigTest, LlamaFactoryBecomesARun) {
  const ConvertedConfig converted = Convert(
      "### model\n"
      "model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\n"
      "stage: sft\n"
      "finetuning_type: full\n"
      "deepspeed: examples/deepspeed/ds_z0_config.json\n"
      "dataset: identity,alpaca_en_demo\n"
      "template: qwen\n"
      "cutoff_len: 4096\n"
      "per_device_train_batch_size: 1\n"
      "gradient_accumulation_steps: 2\n"
      "learning_rate: 1.0e-5\n"
      "num_train_epochs: 3.0\n"
      "lr_scheduler_type: cosine\n"
      "warmup_ratio: 0.1\n"
      "bf16: true\n"
      "ddp_timeout: 180000000\n"
      "plot_loss: true\n",
      "llamafactory");
  const RunConfig run = Read(converted);
  EXPECT_EQ(run.model.name_or_path, "Qwen/Qwen2.5-0.5B-Instruct");
  EXPECT_EQ(run.data.sequence_len, 4096);
  EXPECT_FALSE(run.data.sample_packing);
  EXPECT_EQ(run.parallel.zero_stage, 0);
  EXPECT_EQ(run.training.num_epochs, 3);
  EXPECT_EQ(run.memory.recompute, std::vector{RecomputeItem::kBlock});  // theirs, untold
  EXPECT_TRUE(IsListed(converted.lost, "template: qwen"));
  EXPECT_EQ(converted.lost.size(), 2u) << converted.yaml;  // and the data to be prepared
}

TEST(ConvertConfigTest, AnLlmqCommandLineBecomesARun) {
  const ConvertedConfig converted = Convert(
      "# the larger example\n"
      "CUDA_VISIBLE_DEVICES=0,1 ./build/train --model=Qwen/Qwen2.5-1.5B \\\n"
      "   --from-scratch \"--train-file=data/climb 10b/train-*.bin\" --eval-file='data/eval.bin' "
      "\\\n"
      "   --ckpt-interval=10000 --steps 33900 --lr=0.0006 --final-lr-fraction=0.1 --warmup=150 \\\n"
      "   --seq-len=2048 --batch-size=9 --matmul-dtype=e4m3 --opt-m-dtype=bf16 \\\n"
      "   --gpus=4 --recompute-ffn --recompute-norm --offload-master --shard-weights \\\n"
      "   --memcpy-all-gather --frobnicate=3\n",
      "llmq");
  const RunConfig run = Read(converted);
  EXPECT_EQ(run.model.init, ModelInit::kRandom);
  ASSERT_EQ(run.data.datasets.size(), 1u);
  EXPECT_EQ(run.data.datasets[0].path, "data/climb 10b/train-*.bin");
  ASSERT_EQ(run.data.eval_datasets.size(), 1u);
  EXPECT_EQ(run.training.max_steps, 33900);
  EXPECT_EQ(run.training.num_epochs, std::nullopt);
  EXPECT_EQ(run.training.micro_batch_size, 9);
  EXPECT_EQ(run.training.gradient_accumulation_steps, 4);
  EXPECT_EQ(run.optimizer.learning_rate, 0.0006);
  EXPECT_EQ(run.optimizer.m_dtype, FloatDtype::kBf16);
  EXPECT_EQ(run.optimizer.v_dtype, FloatDtype::kFp32);
  EXPECT_EQ(run.optimizer.master_dtype, MasterDtype::kBf16Stochastic);
  EXPECT_EQ(run.lr_scheduler.warmup_steps, 150);
  EXPECT_EQ(run.precision.compute_dtype, ComputeDtype::kFp8);
  EXPECT_EQ(run.memory.recompute, (std::vector{RecomputeItem::kNorm, RecomputeItem::kFfn}));
  EXPECT_EQ(run.memory.offload.master, OffloadTarget::kHost);
  EXPECT_EQ(run.launch.nproc_per_node, 4);
  EXPECT_TRUE(IsListed(converted.lost, "frobnicate: 3: no counterpart"));
}

TEST(ConvertConfigTest, WhatCannotBeReadIsRefusedWithItsPlace) {
  EXPECT_EQ(ErrorOf([] { Convert("a: [1", "axolotl"); }).rfind("theirs:", 0), 0u);
  EXPECT_THAT(ErrorOf([] { Convert("just words", "hf"); }), HasSubstr(": error: no keys"));
  EXPECT_THAT(ErrorOf([] { Convert("a: 1", "nemo"); }),
              HasSubstr("--from nemo: not known; write hf | axolotl | llamafactory | llmq"));
  EXPECT_EQ(ErrorOf([] { Convert("train \\\n --name 'x\n", "llmq"); }),
            "theirs:2:9: error: this quote is not closed; close it");
  EXPECT_THAT(ErrorOf([] { Convert("./train model\n", "llmq"); }), HasSubstr("no options"));
  EXPECT_THAT(ErrorOf([] { Convert(std::string("a\0b", 3), "llmq"); }), HasSubstr("error"));
}

TEST(ConvertConfigTest, TheirTextCannotEscapeItsComment) {
  const ConvertedConfig converted =
      Convert("{\"evil\": \"a\\nseed: 1\", \"run_name\": \"b # c\\u0022\"}", "hf");
  EXPECT_EQ(Read(converted).seed, 42);
  EXPECT_EQ(Read(converted).run_name, "b # c\"");
  // U+0085 is a line's end to some readers of YAML.
  Read(Convert("{\"a\": \"\\x85seed: 1\"}", "hf"));
  EXPECT_THAT(ErrorOf([] { Convert("--name \xff", "llmq"); }), HasSubstr("this is not UTF-8"));
}

TEST(ConvertReaderTest, WordsAreTakenApartAsAShellDoes) {
  const auto values = ReadCommandLine("a --b=c\\ d --e \"f \\\" g\" --h --i='' # --j", "x");
  ASSERT_EQ(values.size(), 4u);
  EXPECT_EQ(values[0].key + "|" + values[0].text, "b|c d");
  EXPECT_EQ(values[1].key + "|" + values[1].text, "e|f \" g");
  EXPECT_EQ(values[2].key + "|" + values[2].text, "h|true");
  EXPECT_EQ(values[3].key + "|" + values[3].text, "i|");
}

}  // namespace
}  // namespace hearth
