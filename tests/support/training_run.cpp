#include "tests/support/training_run.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/config/resolved_config.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/telemetry/json_lines_log.h"
#include "runtime/train/gradients_run.h"
#include "runtime/train/trainer.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/inproc_world.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {

namespace {

constexpr int64_t kVocabulary = 90;
constexpr int64_t kSequence = 24;

// A token stream with structure to learn: the next token is mostly a function of the last two.
void WriteData(const std::string& path, const TrainingRunOptions& options, uint64_t seed) {
  HearthWriter writer(
      {.path = path, .vocab_size = kVocabulary, .has_loss_mask = options.masked_share > 0});
  int32_t previous = 1, before = 2;
  for (uint64_t i = 0; i < 3000; ++i) {
    const Philox4 draw = Philox4x32(seed, {static_cast<uint32_t>(i), 0, 0, 0});
    int32_t token = (previous * 3 + before * 7 + 5) % static_cast<int32_t>(kVocabulary);
    if (draw[0] % 4 == 0) token = static_cast<int32_t>(draw[1] % kVocabulary);
    const uint8_t counts = draw[2] * 0x1p-32 < options.masked_share ? 0 : 1;
    if (options.masked_share > 0) {
      writer.Append({&token, 1}, {&counts, 1});
    } else {
      writer.Append({&token, 1});
    }
    before = previous;
    previous = token;
    if (options.document_length > 0 &&
        draw[3] % static_cast<uint32_t>(options.document_length) == 0) {
      writer.EndDocument();
    }
  }
  writer.Finish();
}

std::string RunYaml(const TrainingRunOptions& options, const std::filesystem::path& folder) {
  std::map<std::string, std::string> sections = {
      {"model", fmt::format("  name_or_path: {}\n", (folder / "model.yaml").string())},
      {"data", fmt::format("  datasets: [{{path: {}}}]\n  eval_datasets: [{{path: {}}}]\n"
                           "  sequence_len: {}\n",
                           (folder / "train*.hearth").string(), (folder / "eval.hearth").string(),
                           kSequence)},
      {"training", fmt::format("  max_steps: {}\n", options.steps)},
      {"eval", "  eval_max_batches: 2\n"},
      {"logging", "  report_to: [jsonl]\n"},
      {"checkpoint", fmt::format("  export_hf: {}\n  save_steps: {}\n  save_interval_minutes: 0\n",
                                 options.export_hf ? "end" : "none", options.save_steps)},
  };
  bool batch_given = false;
  for (const auto& [section, line] : options.keys) {
    sections[section] += "  " + line + "\n";
    batch_given |=
        line.starts_with("global_batch_size") || line.starts_with("gradient_accumulation_steps");
  }
  if (!batch_given) sections["training"] += "  global_batch_size: 8\n";
  std::string text = fmt::format("output_dir: {}\n", (folder / "out").string());
  for (const auto& [section, lines] : sections) text += section + ":\n" + lines;
  return text;
}

void WriteInputs(const TrainingRunOptions& options, const std::filesystem::path& folder) {
  for (int i = 0; i < options.files; ++i) {
    const std::string name = i == 0 ? "train.hearth" : fmt::format("train{}.hearth", i);
    WriteData((folder / name).string(), options, 11 + 10 * static_cast<uint64_t>(i));
  }
  WriteData((folder / "eval.hearth").string(), options, 12);
  std::ofstream(folder / "model.yaml") << (options.model.empty() ? SmallModel() : options.model);
}

void ReadLog(const std::filesystem::path& folder, TrainingRunResult& result) {
  std::ifstream log(folder / "out" / "log.jsonl");
  std::string line;
  const auto number = [&](std::string_view name) {
    const std::string key = fmt::format("\"{}\":", name);
    const size_t at = line.find(key);
    if (at == std::string::npos) return std::optional<double>();
    const std::string value = line.substr(at + key.size());
    return std::optional<double>(value.starts_with('"') ? std::nan("") : std::stod(value));
  };
  while (std::getline(log, line)) {
    result.log += line + "\n";
    if (const auto loss = number("train/loss")) result.losses.push_back(*loss);
    if (const auto norm = number("train/grad_norm")) result.grad_norms.push_back(*norm);
    if (const auto repairs = number("fp8/repairs")) result.fp8_repairs.push_back(*repairs);
    if (const auto loss = number("eval/loss")) result.eval_losses.push_back(*loss);
  }
}

std::vector<float> AllWeights(Executor& executor, Bootstrap& bootstrap) {
  std::vector<float> weights;
  for (const ParameterSpec& parameter : executor.memory().spec.parameters) {
    std::vector<float> values(static_cast<size_t>(parameter.elements()));
    GatherMaster(executor, bootstrap, parameter, 0, values);
    weights.insert(weights.end(), values.begin(), values.end());
  }
  return weights;
}

// That a run in `folder` goes on from.
int64_t StepsSaved(const std::filesystem::path& folder) {
  const std::vector<int64_t> steps = CheckpointSteps(folder / "out");
  return steps.empty() ? 0 : steps.back();
}

ResolvedConfig Parse(const TrainingRunOptions& options, const std::filesystem::path& folder) {
  return ParseConfig({.text = RunYaml(options, folder),
                      .file_name = "test.yaml",
                      .features = {.cuda = BackendUnderTest() == "cuda"}});
}

struct RankParts {
  Bootstrap& bootstrap;
  KernelBackend& backend;
  std::string_view kind;
  const CommunicatorOptions& communicator;
  int boxes = 1;
  std::optional<int64_t> goes_on_from = std::nullopt;
};

// Whether box k's ranks have the bytes of box 0's: state and working weights.
bool BoxesAgree(Executor& executor, Bootstrap& peers) {
  Bytes mine;
  const auto add = [&](const TensorView& view) {
    const size_t at = mine.size();
    mine.resize(at + static_cast<size_t>(view.bytes()));
    executor.transfer().Download(view, mine.data() + at);
  };
  const RankMemory& memory = executor.memory();
  for (int unit = 0; unit < static_cast<int>(memory.spec.units.size()); ++unit) {
    for (StateKind kind : {StateKind::kMaster, StateKind::kM, StateKind::kV}) {
      add(executor.optimizer().Home(unit, kind));
    }
    const UnitSpec& spec = memory.spec.units[static_cast<size_t>(unit)];
    const UnitLayout& layout = memory.layout.units[static_cast<size_t>(unit)];
    const int64_t dense = DenseElements(memory.plan, spec) * SizeOf(memory.plan.precision.storage);
    add(memory.slab.View(layout.dense, DType::kU8, {dense}));
    add(memory.slab.View(layout.fp8_values, DType::kU8, {Fp8Elements(memory.plan, spec)}));
  }
  const std::vector<Bytes> all = peers.AllGather(mine);
  return std::all_of(all.begin(), all.end(), [&](const Bytes& bytes) { return bytes == mine; });
}

struct StageResult {
  TrainingRunResult run;
  RunEnd end = RunEnd::kFinished;
};

// What one rank knows of the result at the end: weights and steps.
StageResult RunTrainer(const TrainingRunOptions& options, const ResolvedConfig& resolved,
                       const RankParts& rank) {
  Heartbeat heartbeat;
  int64_t steps_begun = 0;
  const int per_box = rank.bootstrap.world() / rank.boxes;
  const auto box = rank.bootstrap.Split(rank.bootstrap.rank() / per_box);
  const auto peers = rank.bootstrap.Split(rank.bootstrap.rank() % per_box);
  const auto communicator = MakeCommunicator(rank.kind, *box, rank.backend, rank.communicator);
  std::unique_ptr<Communicator> network;
  std::optional<BoxLinks> links;
  if (rank.boxes > 1) {
    network = MakeCommunicator(rank.kind, *peers, rank.backend, rank.communicator);
    links.emplace(BoxLinks{.box = *box,
                           .peers = *peers,
                           .network = *network,
                           .host = fmt::format("box{}", peers->rank())});
  }
  const RunEnvironment environment{
      .bootstrap = rank.bootstrap,
      .backend = rank.backend,
      .communicator = *communicator,
      .heartbeat = heartbeat,
      .stop_requested =
          [&] { return options.stop_after >= 0 && steps_begun++ >= options.stop_after; },
      .host_threads = options.threads,
      .amend_plan = options.amend_plan,
      .links = links,
      .goes_on_from = rank.goes_on_from};
  Trainer trainer(resolved, environment);
  StageResult stage;
  TrainingRunResult& result = stage.run;
  const RunSummary summary = trainer.Run();
  stage.end = summary.end;
  result.steps = summary.steps;
  const RankMemory& memory = trainer.executor().memory();
  result.planned_bytes =
      memory.layout.slab_bytes + memory.layout.arena_bytes + memory.layout.host_bytes;
  result.used_bytes = memory.slab.high_water_bytes() + memory.arena.high_water_bytes() +
                      memory.host.high_water_bytes();
  result.weights = AllWeights(trainer.executor(), rank.bootstrap);
  const Bytes agree{std::byte(BoxesAgree(trainer.executor(), *peers) ? 1 : 0)};
  for (const Bytes& theirs : rank.bootstrap.AllGather(agree)) {
    result.boxes_agree &= theirs == Bytes{std::byte{1}};
  }
  return stage;
}

template <typename T>
double Difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::quiet_NaN();
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    error += (x - y) * (x - y);
    size += y * y;
  }
  return std::sqrt(error) / std::sqrt(size);
}

}  // namespace

TrainingKeys Join(TrainingKeys keys, const TrainingKeys& more) {
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

void ExpectSameBits(const TrainingRunResult& a, const TrainingRunResult& b) {
  ASSERT_FALSE(a.losses.empty());
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.grad_norms, b.grad_norms);
  EXPECT_EQ(a.eval_losses, b.eval_losses);
  EXPECT_EQ(a.weights, b.weights);
}

TrainingKeys PrecisionKeys(const std::string& precision) {
  const std::string compute = precision.substr(0, precision.find('_'));
  TrainingKeys keys = {{"precision", "compute_dtype: " + compute}};
  if (precision == "fp8_verified")
    keys.emplace_back("precision", "fp8_recipe: tensorwise_verified");
  if (precision == "fp8_head") keys.emplace_back("precision", "fp8_lm_head: true");
  return keys;
}

std::string SmallModel() {
  return fmt::format(
      "model_type: qwen3\nvocab_size: {}\nhidden_size: 48\nintermediate_size: 112\n"
      "num_hidden_layers: 2\nnum_attention_heads: 4\nnum_key_value_heads: 2\nhead_dim: 16\n"
      "max_position_embeddings: 64\nrms_norm_eps: 1.0e-6\nrope_theta: 10000.0\n"
      "tie_word_embeddings: false\ninitializer_range: 0.05\n",
      kVocabulary);
}

void WriteGradients(const ResolvedConfig& resolved, int ranks, const std::filesystem::path& out,
                    bool with_logits) {
  RunInprocWorld({.ranks = ranks}, [&](InprocRank& rank) {
    Heartbeat heartbeat;
    RunGradients(resolved,
                 {.bootstrap = rank.bootstrap,
                  .backend = rank.backend,
                  .communicator = rank.communicator,
                  .heartbeat = heartbeat},
                 out, with_logits);
  });
}

TrainingRunResult TrainInProcess(const TrainingRunOptions& given) {
  TrainingRunOptions options = given;
  const TemporaryFolder temporary;
  const std::filesystem::path folder = options.folder.empty() ? temporary.path() : options.folder;
  if (!std::filesystem::exists(folder / "model.yaml")) WriteInputs(options, folder);
  const ResolvedConfig resolved = Parse(options, folder);
  StageResult stage;
  const InprocWorldOptions world{
      .ranks = options.ranks, .threads = options.threads, .backend = options.backend};
  int64_t done = StepsSaved(folder);
  std::optional<int64_t> goes_on_from;
  do {
    RunInprocWorld(world, [&](InprocRank& rank) {
      StageResult mine = RunTrainer(options, resolved,
                                    {.bootstrap = rank.bootstrap,
                                     .backend = rank.backend,
                                     .kind = "inproc",
                                     .communicator = world.communicator,
                                     .boxes = options.boxes,
                                     .goes_on_from = goes_on_from});
      if (rank.bootstrap.rank() == 0) stage = std::move(mine);
    });
    if (options.stop_after >= 0) options.stop_after -= stage.run.steps - done;
    done = stage.run.steps;
    goes_on_from = done;
  } while (stage.end == RunEnd::kTurnsToBf16);
  ReadLog(folder, stage.run);
  return stage.run;
}

TrainingRunResult TrainAsRank(const TrainingRunOptions& options, const TrainingRank& rank) {
  std::optional<TemporaryFolder> temporary;
  std::string path = options.folder.string();
  if (rank.bootstrap.rank() == 0) {
    if (path.empty()) path = temporary.emplace().path().string();
    if (!std::filesystem::exists(std::filesystem::path(path) / "model.yaml")) {
      WriteInputs(options, path);
    }
  }
  const auto bytes = std::as_bytes(std::span(path));
  const Bytes shared = rank.bootstrap.Broadcast(Bytes(bytes.begin(), bytes.end()), 0);
  path.assign(reinterpret_cast<const char*>(shared.data()), shared.size());
  const ResolvedConfig resolved = Parse(options, path);
  const StageResult stage = RunTrainer(
      options, resolved, {rank.bootstrap, rank.backend, rank.kind, rank.communicator, rank.boxes});
  CHECK(stage.end != RunEnd::kTurnsToBf16, "a second stage needs a backend of its own");
  TrainingRunResult result = stage.run;
  if (rank.bootstrap.rank() == 0) ReadLog(path, result);
  rank.bootstrap.Barrier();  // nobody reads the folder any more
  return result;
}

double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  return Difference(a, b);
}
double RelativeDifference(const std::vector<double>& a, const std::vector<double>& b) {
  return Difference(a, b);
}

}  // namespace hearth::test
