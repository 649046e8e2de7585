#include "tests/unit/report/run_folder.h"

#include <fmt/format.h>

#include <fstream>

namespace hearth::test {

void WriteFile(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

std::string LogText(int steps, bool is_torn) {
  std::string text = "{\"step\":0,\"eval/loss\":5.5}\n";
  for (int step = 1; step <= steps; ++step) {
    text += fmt::format(
        "{{\"step\":{},\"train/loss\":{},\"train/grad_norm\":1.5,\"train/learning_rate\":0.001,"
        "\"train/tokens_per_second\":2000.0,\"fp8/repairs\":{},\"train/step_time_ms/total\":32.0,"
        "\"train/step_time_ms/forward\":10.0,\"train/sol\":0.5,\"train/mfu\":0.45,"
        "\"mem/device\":1530,\"mem/host\":300,\"fp8/amax/block0.qkv\":3.5,\"gpu/"
        "power_w\":350.0}}\n",
        step, 5.0 - static_cast<double>(step) / steps, step % 3);
  }
  text += fmt::format(
      "{{\"step\":{},\"eval/loss\":4.25,\"plan/predicted_step_ms\":25.0,"
      "\"plan/measured_step_ms\":32.0}}\n",
      steps);
  if (is_torn) text += "{\"step\":999999,\"train/lo";
  return text;
}

std::string ResolvedYaml(const FolderText& text) {
  return fmt::format(
      "# 2 x NVIDIA H200, 139.8 GiB\n"
      "# Written by hearth: every key of the run, and where its value comes from.\n"
      "schema_version: 1  # default\n"
      "run_name: {}  # default\n"
      "output_dir: runs/{}  # default\n"
      "model:\n"
      "  name_or_path: configs/models/tiny.yaml  # run.yaml:2\n"
      "training:\n"
      "  max_steps: {}  # run.yaml:4\n"
      "optimizer:\n"
      "  learning_rate: {}  # command line\n"
      "  weight_decay: {}  # default\n"
      "precision:\n"
      "  compute_dtype: fp8  # default\n"
      "memory:\n"
      "  offload:\n"
      "    m: auto  # default\n",
      text.name, text.name, text.max_steps, text.rate, text.decay);
}

const std::string kPlanYaml =
    "plan_version: 1\nworld: 2\nglobal_batch_size: 16\nsequence_len: 64\n"
    "optimizer:\n  master: {type: f32, tier: device}\nrecompute: []\nmemory:  # bytes, by rank 0\n"
    "  - {tier: device, pool: weights, bytes: 1000}\n"
    "  - {tier: device, pool: activations, bytes: 500}\n"
    "  - {tier: host, pool: batch, bytes: 300}\n";

void WriteRun(const std::filesystem::path& folder, const FolderText& text) {
  WriteFile(folder / "resolved.yaml", ResolvedYaml(text));
  WriteFile(folder / "plan.yaml", kPlanYaml);
  WriteFile(folder / "log.jsonl", LogText(text.max_steps));
  std::filesystem::create_directories(folder / "checkpoint-20");
}

void WriteSweepRun(const std::filesystem::path& sweep, const std::string& id,
                   const FolderText& text, const std::string& outcome) {
  WriteRun(sweep / id, text);
  WriteFile(sweep / id / "outcome.json", outcome + "\n");
}

}  // namespace hearth::test
