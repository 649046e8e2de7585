#include "runtime/train/generate_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/core/check.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/json_reader.h"
#include "runtime/train/fill_weights.h"
#include "runtime/train/machine_memory.h"

namespace hearth {

namespace {

constexpr int64_t kByteVocabulary = 256;
constexpr const char* kTokenizerFile = "tokenizer.json";

// One sequence of at most `tokens` tokens in fp32, nothing kept for a backward.
Plan InferencePlan(const ModelSpec& spec, int64_t tokens) {
  Plan plan;
  plan.inference = true;
  plan.zero_stage = 0;
  plan.precision = {.storage = DType::kF32, .gradient = DType::kF32};
  plan.state_types = {.master = DType::kF32, .m = DType::kF32, .v = DType::kF32};
  plan.sequence_len = tokens;
  plan.global_batch_size = 1;
  plan.tokens_per_micro_batch = RoundUp(tokens, 16);
  plan.max_sequences = 1;
  plan.head_chunk_tokens = 1;
  plan.numeric.head_slab_tokens = 1;
  // Whatever can be dropped is: every layer then shares one set of buffers.
  plan.recompute.assign(static_cast<size_t>(spec.config.num_layers),
                        MakeRecomputeSet({RecomputeItem::kBlock}, spec.config, plan.precision));
  return plan;
}

// A model with its weights.
struct Weights {
  std::shared_ptr<const ModelSetup> model;
  WeightReader read;
};

Weights OpenWeights(const std::filesystem::path& folder, const std::string& installed_configs) {
  auto model = std::make_shared<ModelSetup>();
  if (std::filesystem::exists(folder / kManifestName)) {
    const auto checkpoint = std::make_shared<const Checkpoint>(folder);
    model->spec = checkpoint->ReadModel();
    return {model, [checkpoint](size_t parameter, int64_t begin, std::span<float> out) {
              checkpoint->ReadMaster(parameter, begin, out);
            }};
  }
  model->loaded = LoadModel(folder.string(), installed_configs);
  model->spec = BuildModelSpec(model->loaded.config);
  model->pretrained = true;
  if (!model->loaded.has_weights) {
    throw ConfigError(
        fmt::format("{}: error: no weights (model.safetensors) in this folder; name "
                    "a checkpoint, the hf/ folder of a finished run or a Hugging "
                    "Face folder",
                    folder.string()));
  }
  return {model, InitialWeights(*model, 0)};
}

// Every id that ends a text: of the model, of how it is to be used, and of the caller.
std::vector<int64_t> StopIds(const std::filesystem::path& folder, const ModelConfig& config,
                             const GenerateOptions& options) {
  std::vector<int64_t> ids = config.eos_token_ids;
  ids.insert(ids.end(), options.stop_ids.begin(), options.stop_ids.end());
  const std::filesystem::path file = folder / "generation_config.json";
  if (!std::filesystem::exists(file)) return ids;
  const JsonDocument document = JsonDocument::ReadFile(file);
  const JsonNode root = document.root();
  root.RequireObject();
  if (!root.Has("eos_token_id") || root.Get("eos_token_id").IsNull()) return ids;
  const JsonNode eos = root.Get("eos_token_id");
  const bool list = eos.value().kind == JsonValue::Kind::kArray;
  for (const JsonNode& id : list ? eos.AsArray() : std::vector{eos}) {
    ids.push_back(id.AsInteger(0, std::numeric_limits<int32_t>::max()));
  }
  return ids;
}

MicroBatch OneSequence(const std::vector<int32_t>& tokens) {
  MicroBatch batch;
  batch.tokens = tokens;
  batch.targets.assign(tokens.size(), kMaskedTarget);
  batch.positions.resize(tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.sequence_offsets = {0, static_cast<int32_t>(tokens.size())};
  batch.max_sequence = static_cast<int32_t>(tokens.size());
  batch.rows = 1;
  return batch;
}

// Candidates by falling probability: at most top_k, and the fewest that reach top_p.
std::vector<std::pair<double, int32_t>> Candidates(std::span<const float> logits,
                                                   const SamplingOptions& options) {
  std::vector<std::pair<double, int32_t>> candidates;
  for (size_t id = 0; id < logits.size(); ++id) {
    candidates.emplace_back(static_cast<double>(logits[id]) / options.temperature,
                            static_cast<int32_t>(id));
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(candidates.size())) {
    candidates.resize(static_cast<size_t>(options.top_k));
  }
  const double largest = candidates.front().first;
  double total = 0;
  for (auto& [value, id] : candidates) {
    value = std::exp(value - largest);
    total += value;
  }
  double sum = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    sum += candidates[i].first;
    if (sum >= options.top_p * total) {
      candidates.resize(i + 1);
      break;
    }
  }
  return candidates;
}

}  // namespace

int32_t SampleToken(std::span<const float> logits, const SamplingOptions& options,
                    int64_t position) {
  CHECK(!logits.empty(), "no logits to draw from");
  if (options.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  const auto candidates = Candidates(logits, options);
  double total = 0;
  for (const auto& [weight, id] : candidates) total += weight;
  const RandomStream stream{.seed = options.seed, .use = RandomUse::kSampling};
  const double uniform =
      static_cast<double>(stream.DrawElement(static_cast<uint64_t>(position))) * 0x1p-32;
  double target = uniform * total;
  for (const auto& [weight, id] : candidates) {
    if (target < weight) return id;
    target -= weight;
  }
  return candidates.back().second;
}

std::optional<std::filesystem::path> FindTokenizer(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / kTokenizerFile)) return folder;
  if (!std::filesystem::exists(folder / kManifestName)) return std::nullopt;
  const std::filesystem::path source = Checkpoint(folder).manifest().info.model_folder;
  if (source.empty() || !std::filesystem::exists(source / kTokenizerFile)) return std::nullopt;
  return source;
}

bool IsByteLevel(const std::filesystem::path& folder) {
  return LoadModel(folder.string(), "").config.vocab_size == kByteVocabulary &&
         !FindTokenizer(folder);
}

void RunGenerate(const std::filesystem::path& folder, const GenerateOptions& options,
                 const RunEnvironment& environment, const std::function<void(int32_t)>& emit) {
  const Weights weights = OpenWeights(folder, environment.installed_configs);
  const ModelSetup& model = *weights.model;
  const ModelConfig& config = model.spec.config;
  const int64_t length = static_cast<int64_t>(options.prompt.size()) + options.max_tokens;
  if (options.prompt.empty() || length > config.max_position_embeddings) {
    throw ConfigError(
        fmt::format("{}: error: a prompt of {} tokens and max_tokens {}; the model has {} "
                    "positions and needs at "
                    "least one token to start from",
                    folder.string(), options.prompt.size(), options.max_tokens,
                    config.max_position_embeddings));
  }
  for (int32_t id : options.prompt) {
    if (id < 0 || id >= config.vocab_size) {
      throw ConfigError(fmt::format("{}: error: prompt id {} is outside the vocabulary of {}",
                                    folder.string(), id, config.vocab_size));
    }
  }
  const std::vector<int64_t> stop_ids = StopIds(folder, config, options);
  const Plan plan = InferencePlan(model.spec, length);
  RequireFit(folder.string(), NeedOf(plan, model.spec),
             LimitsOf(MemorySection{}, MeasureMachine(environment)),
             "ask for fewer tokens, or run it where there is more memory");
  Executor executor(environment.backend, environment.communicator, plan, model.spec, 0,
                    {.host_threads = environment.host_threads});
  FillMasterWeights(executor, weights.read);
  executor.Publish(0);
  std::vector<int32_t> tokens = options.prompt;
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const auto last = static_cast<int64_t>(tokens.size()) - 1;
    const std::vector<float> logits = executor.Logits(OneSequence(tokens), 0, last, 1);
    const int32_t token = SampleToken(logits, options.sampling, last);
    if (std::ranges::find(stop_ids, token) != stop_ids.end()) return;
    tokens.push_back(token);
    emit(token);
  }
}

}  // namespace hearth
