#include "tests/golden/gradients/golden_run.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

#include "runtime/config/resolved_config.h"
#include "runtime/model/safetensors.h"
#include "runtime/train/gradients_run.h"
#include "runtime/train/trainer.h"
#include "tests/support/inproc_world.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {

namespace {

std::string RunYaml(const GoldenRun& run, const std::filesystem::path& output) {
  const std::string format = run.data.extension() == ".hearth" ? "hearth" : "nanogpt";
  std::map<std::string, std::string> sections = {
      {"model", fmt::format("  name_or_path: {}\n", run.model.string())},
      {"data", fmt::format("  datasets: [{{path: {}, format: {}}}]\n  sequence_len: {}\n",
                           run.data.string(), format, run.sequence_len)},
      {"training", fmt::format("  global_batch_size: {}\n  micro_batch_size: {}\n", run.samples,
                               run.micro_batch_size)},
      {"logging", "  report_to: [jsonl]\n"},
      {"checkpoint", "  export_hf: none\n  save_steps: 0\n  save_interval_minutes: 0\n"},
  };
  for (const auto& [section, line] : run.keys) sections[section] += "  " + line + "\n";
  std::string text = fmt::format("output_dir: {}\n", output.string());
  for (const auto& [section, lines] : sections) text += section + ":\n" + lines;
  return text;
}

// Calls body(environment) on every rank.
template <typename Body>
void OnRanks(int ranks, const Body& body) {
  RunInprocWorld({.ranks = ranks, .threads = 1}, [&](InprocRank& rank) {
    Heartbeat heartbeat;
    const RunEnvironment environment{.bootstrap = rank.bootstrap,
                                     .backend = rank.backend,
                                     .communicator = rank.communicator,
                                     .heartbeat = heartbeat};
    body(environment);
  });
}

// A batch takes samples in the order of the shuffle; back to the order of the file.
void SortLogits(const ResolvedConfig& resolved, const GoldenRun& run, std::vector<float>& logits) {
  const ModelSetup model = SetUpModel(resolved, "");
  const auto data = OpenTrainingData(resolved, model.spec);
  const auto size = static_cast<int64_t>(logits.size()) / run.samples;
  std::vector<float> sorted(logits.size(), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < run.samples; ++i) {
    const int64_t sample = data->Locate(i).offset / run.sequence_len;
    std::copy_n(logits.begin() + i * size, size, sorted.begin() + sample * size);
  }
  logits = std::move(sorted);
}

float LoggedNumber(const std::string& line, const std::string& name) {
  const std::string key = "\"" + name + "\":";
  const size_t at = line.find(key);
  if (at == std::string::npos || line[at + key.size()] == '"') {
    return std::numeric_limits<float>::quiet_NaN();
  }
  return std::stof(line.substr(at + key.size()));
}

}  // namespace

std::filesystem::path GoldenFolder(const std::string& name) {
  return std::filesystem::path(HEARTH_SOURCE_DIR) / "tests/golden/models" / name;
}

Tensors ReadTensors(const std::filesystem::path& file) {
  const SafetensorsFile source(file);
  Tensors tensors;
  for (const SafetensorsTensor& tensor : source.tensors()) {
    std::vector<float>& values = tensors[tensor.name];
    values.resize(static_cast<size_t>(tensor.elements()));
    if (tensor.dtype == SafetensorsDType::kF32) {
      source.ReadFloats(tensor, 0, values);
    } else if (tensor.dtype == SafetensorsDType::kI32) {
      std::vector<int32_t> whole(values.size());
      source.ReadBytes(tensor, 0, std::as_writable_bytes(std::span(whole)));
      values.assign(whole.begin(), whole.end());
    } else {
      throw std::runtime_error(tensor.name + " is neither F32 nor I32");
    }
  }
  return tensors;
}

std::vector<int32_t> ReadTokens(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(stream)), {});
  std::vector<uint16_t> stored(bytes.size() / sizeof(uint16_t));
  std::memcpy(stored.data(), bytes.data(), stored.size() * sizeof(uint16_t));
  return {stored.begin(), stored.end()};
}

Tensors HearthGradients(const GoldenRun& run) {
  const TemporaryFolder folder;
  const std::filesystem::path out = folder.path() / "gradients.safetensors";
  const ResolvedConfig resolved =
      ParseConfig({.text = RunYaml(run, folder.path() / "out"), .file_name = "golden.yaml"});
  OnRanks(run.ranks, [&](const RunEnvironment& environment) {
    RunGradients(resolved, environment, out, /*with_logits=*/true);
  });
  Tensors tensors = ReadTensors(out);
  SortLogits(resolved, run, tensors.at("logits"));
  return tensors;
}

TrainingCurve HearthTraining(const GoldenRun& run) {
  const TemporaryFolder folder;
  const ResolvedConfig resolved =
      ParseConfig({.text = RunYaml(run, folder.path() / "out"), .file_name = "golden.yaml"});
  OnRanks(run.ranks, [&](const RunEnvironment& environment) {
    Trainer trainer(resolved, environment);
    trainer.Run();
  });
  std::ifstream log(folder.path() / "out" / "log.jsonl");
  TrainingCurve curve;
  for (std::string line; std::getline(log, line);) {
    if (line.find("\"train/loss\"") == std::string::npos) continue;
    curve.losses.push_back(LoggedNumber(line, "train/loss"));
    curve.grad_norms.push_back(LoggedNumber(line, "train/grad_norm"));
  }
  return curve;
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::quiet_NaN();
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - b[i];
    error += difference * difference;
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(error) / std::sqrt(size);
}

InnerProducts& InnerProducts::operator+=(const InnerProducts& other) {
  aa += other.aa;
  ab += other.ab;
  bb += other.bb;
  return *this;
}

InnerProducts Multiply(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan, nan};
  }
  InnerProducts sums;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    sums.aa += x * x;
    sums.ab += x * y;
    sums.bb += y * y;
  }
  return sums;
}

}  // namespace hearth::test
