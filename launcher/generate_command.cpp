#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/single_rank.h"
#include "launcher/supervisor.h"
#include "runtime/train/generate_run.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("prompt", po::value<std::string>()->value_name("TEXT"),
                         "text to go on from, for a model of bytes")(
      "prompt-ids", po::value<std::string>()->value_name("1,2,..."),
      "token ids to go on from; the new ones are printed as ids")(
      "max-tokens", po::value<int64_t>()->default_value(100), "most new tokens")(
      "temperature", po::value<double>()->default_value(1.0, "1"),
      "0: always the most likely token")("top-k", po::value<int64_t>()->default_value(0),
                                         "only the k most likely tokens; 0: all")(
      "top-p", po::value<double>()->default_value(1.0, "1"),
      "only the most likely tokens that together reach this probability; 1: all")(
      "seed", po::value<uint64_t>()->default_value(42), "of the choices");
}

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

std::vector<int32_t> ParseIds(std::string_view text) {
  std::vector<int32_t> ids;
  const std::string_view whole = text;
  while (true) {
    const size_t end = text.find(',');
    const std::string_view part = text.substr(0, end);
    int32_t id = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != part.data() + part.size() || id < 0) {
      FailUsage(fmt::format("--prompt-ids {}: '{}' is no token id; write 1,2,3", whole, part));
    }
    ids.push_back(id);
    if (end == std::string_view::npos) return ids;
    text.remove_prefix(end + 1);
  }
}

std::vector<int32_t> ReadPrompt(const Invocation& invocation) {
  if (invocation.Has("prompt") == invocation.Has("prompt-ids")) {
    FailUsage("give either --prompt TEXT or --prompt-ids 1,2,...");
  }
  if (invocation.Has("prompt-ids")) return ParseIds(invocation.Get<std::string>("prompt-ids"));
  if (!IsByteLevel(invocation.file)) {
    FailUsage(
        fmt::format("--prompt: the tokenizer of {} cannot be read in this version; give "
                    "--prompt-ids 1,2,...",
                    invocation.file));
  }
  std::vector<int32_t> bytes;
  for (const char c : invocation.Get<std::string>("prompt")) {
    bytes.push_back(static_cast<unsigned char>(c));
  }
  return bytes;
}

SamplingOptions ReadSampling(const Invocation& invocation) {
  const SamplingOptions sampling{.temperature = invocation.Get<double>("temperature"),
                                 .top_k = invocation.Get<int64_t>("top-k"),
                                 .top_p = invocation.Get<double>("top-p"),
                                 .seed = invocation.Get<uint64_t>("seed")};
  if (!(sampling.temperature >= 0 && sampling.temperature <= 1e6)) {
    FailUsage("--temperature must be a number from 0 up");
  }
  if (sampling.top_k < 0) FailUsage("--top-k must not be negative");
  if (!(sampling.top_p > 0 && sampling.top_p <= 1))
    FailUsage("--top-p must be above 0 and at most 1");
  return sampling;
}

int Run(const Invocation& invocation) {
  const GenerateOptions options{.prompt = ReadPrompt(invocation),
                                .max_tokens = invocation.Get<int64_t>("max-tokens"),
                                .sampling = ReadSampling(invocation)};
  if (options.max_tokens < 1) FailUsage("--max-tokens must be at least 1");
  const bool as_text = invocation.Has("prompt");
  const SingleRank rank(DeviceKind::kAuto);
  bool first = true;
  RunGenerate(invocation.file, options, rank.environment(), [&](int32_t token) {
    if (first && as_text) fmt::print("{}", invocation.Get<std::string>("prompt"));
    if (as_text) {
      std::fputc(token, stdout);
    } else {
      fmt::print("{}{}", first ? "" : ",", token);
    }
    first = false;
    std::fflush(stdout);
  });
  fmt::print("\n");
  return kExitDone;
}

}  // namespace

Command MakeGenerateCommand() {
  return {.name = "generate",
          .file = "MODEL",
          .summary = "continue a prompt with a trained model",
          .details =
              "MODEL is a checkpoint or a Hugging Face folder, such as the hf/ of a finished run.",
          .takes_run_keys = false,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
