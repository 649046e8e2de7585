// Configurations of other trainers: whatever they hold, what becomes of them is YAML of ours.
#include "kernels/core/error.h"
#include "runtime/config/convert_config.h"
#include "runtime/config/resolved_config.h"
#include "runtime/config/yaml_document.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

// The result may break a rule between values, in one line, but nothing in it is unknown to us.
void RequireOurs(const std::string& yaml) {
  RunAccepted("the result is no YAML", [&] { YamlDocument::Parse(yaml, "run.yaml"); });
  RunReader([&] {
    ParseConfig(
        {.text = yaml, .file_name = "run.yaml", .overrides = {}, .features = {.cuda = true}});
  });
}

}  // namespace

int FuzzConvertConfig(const uint8_t* data, size_t size) {
  // Each format takes the lengths that leave its number.
  const std::vector<std::string_view> formats = ForeignFormatNames();
  const ConvertOptions options{.format = std::string(formats[size % formats.size()]),
                               .file_name = "theirs",
                               .model = "",
                               .data = ""};
  return RunReader([&] {
    const std::string text(AsText(data, size));
    const std::string yaml = ConvertConfig(text, options).yaml;
    if (IsInShare(text, 4)) RequireOurs(yaml);  // which takes as long
  });
}

std::vector<std::string> ConvertConfigSeeds() {
  const std::vector<std::string> texts = {
      "{\"learning_rate\": 2e-05, \"num_train_epochs\": 3.0, \"bf16\": true, \"max_steps\": -1,\n"
      "\"deepspeed\": \"ds_z3.json\", \"report_to\": [\"wandb\", \"x\"], \"lr_scheduler_kwargs\": "
      "{\"min_lr_rate\": 0.1}}",
      "base_model: a/b\ndatasets:\n  - path: c/d.jsonl\n    type: alpaca\nsequence_len: 2048\n"
      "adapter: lora\nwarmup_steps: 10\ngradient_checkpointing: true\n",
      "model_name_or_path: a/b\ndataset: a,b\ncutoff_len: 4096\nneat_packing: true\npure_bf16: "
      "true\n",
      "./train --model=a/b --train-file='data/x y*.bin' --steps 30 \\\n --recompute-ffn "
      "--recompute-norm --offload-opt-m --matmul-dtype=e4m3 # end\n"};
  std::vector<std::string> seeds;
  for (const std::string& text : texts) {
    for (size_t format = 0; format < ForeignFormatNames().size(); ++format) {
      seeds.push_back(text + std::string(format, '\n'));
    }
  }
  return seeds;
}

std::vector<std::string> ConvertConfigWords() {
  return {"output_dir: ",
          "run_name: ",
          "per_device_train_batch_size: ",
          "--lr=",
          "--batch-size ",
          "--name=",
          "true",
          "null",
          "1e400",
          "-0",
          "3.0",
          "[block]",
          "datasets: [",
          "{path: ",
          "\\\n",
          "\"",
          "'",
          "#",
          ": "};
}

}  // namespace hearth::test
