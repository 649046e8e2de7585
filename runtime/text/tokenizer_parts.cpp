#include "runtime/text/tokenizer_parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

namespace hearth {

namespace {

// A part, or the parts of a Sequence in order; null has none. `key` is what Sequence calls its
// list.
std::vector<JsonNode> Steps(const JsonNode& node, std::string_view key) {
  node.RequireObject();
  if (!node.Has("type") || node.Get("type").AsString() != "Sequence") return {node};
  RequireKeys(node, {"type", key});
  std::vector<JsonNode> steps;
  for (const JsonNode& part : node.Get(key).AsArray()) {
    for (const JsonNode& step : Steps(part, key)) steps.push_back(step);
  }
  return steps;
}

SplitPattern ReadSplit(const JsonNode& split) {
  RequireKeys(split, {"type", "pattern", "behavior", "invert"});
  const JsonNode pattern = split.Get("pattern");
  pattern.RequireObject();
  RequireKeys(pattern, {"Regex", "String"});
  if (!pattern.Has("Regex")) pattern.Fail("other than a \"Regex\" is not built");
  const std::optional<SplitPattern> known = FindSplitPattern(pattern.Get("Regex").AsString());
  if (!known) {
    pattern.Get("Regex").Fail(
        "is not a pattern that is built; those of GPT-2, Llama 3 and Qwen2 are");
  }
  // The patterns match everywhere, so that to keep the matches or to remove the rest is the same.
  const std::string& behavior = split.Get("behavior").AsString();
  const bool invert = split.Get("invert").AsBool();
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
    split.Get("behavior")
        .Fail(fmt::format("\"{}\" with invert {} is not built; \"Isolated\" is", behavior, invert));
  }
  return *known;
}

// ByteLevel appears as pre-tokenizer, post-processor and decoder, with the same members.
void CheckByteLevel(const JsonNode& node) {
  RequireKeys(node, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  for (const std::string_view key : {"add_prefix_space", "trim_offsets", "use_regex"}) {
    OptionalBool(node, key, true);
  }
}

void ReadTemplate(const JsonNode& processor, const TokenizerTables& tables,
                  SurroundingTokens* around) {
  RequireKeys(processor, {"type", "single", "pair", "special_tokens"});
  bool seen_text = false;
  for (const JsonNode& piece : processor.Get("single").AsArray()) {
    RequireKeys(piece, {"Sequence", "SpecialToken"});
    if (piece.Has("Sequence")) {
      if (seen_text || piece.Get("Sequence").Get("id").AsString() != "A") {
        piece.Fail("is not the one text \"A\" of a \"single\" template");
      }
      seen_text = true;
      continue;
    }
    const std::string& name = piece.Get("SpecialToken").Get("id").AsString();
    const JsonNode token = processor.Get("special_tokens").Get(name);
    for (const JsonNode& node : token.Get("ids").AsArray()) {
      const auto id =
          static_cast<int32_t>(node.AsInteger(0, std::numeric_limits<int32_t>::max() - 1));
      if (!tables.bytes.contains(id)) node.Fail(fmt::format("is {}, which no token has", id));
      (seen_text ? around->suffix : around->prefix).push_back(id);
    }
  }
  if (!seen_text) processor.Get("single").Fail("lacks the text, a \"Sequence\" with the id \"A\"");
}

}  // namespace

bool HasValue(const JsonNode& node, std::string_view key) {
  return node.Has(key) && !node.Get(key).IsNull();
}

bool OptionalBool(const JsonNode& node, std::string_view key, bool if_absent) {
  return node.Has(key) ? node.Get(key).AsBool() : if_absent;
}

void RequireKeys(const JsonNode& node, std::initializer_list<std::string_view> known) {
  node.RequireObject();
  for (const auto& [key, value] : node.value().members) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      node.Get(key).Fail(fmt::format("is not known here; known are {}", fmt::join(known, ", ")));
    }
  }
}

std::string_view RequireType(const JsonNode& node, std::initializer_list<std::string_view> built,
                             TypeKey type_key) {
  node.RequireObject();
  if (type_key == TypeKey::kOptional && !node.Has("type")) return *built.begin();
  const std::string& type = node.Get("type").AsString();
  const auto found = std::find(built.begin(), built.end(), type);
  if (found == built.end()) {
    node.Get("type").Fail(
        fmt::format("\"{}\" is not built; here only {} is", type, fmt::join(built, " or ")));
  }
  return *found;
}

bool ReadsAsNfc(const JsonNode& normalizer) {
  bool nfc = false;
  for (const JsonNode& step : Steps(normalizer, "normalizers")) {
    RequireType(step, {"NFC"});
    RequireKeys(step, {"type"});
    nfc = true;
  }
  return nfc;
}

SplitterSettings ReadPreTokenizer(const JsonNode& pre_tokenizer) {
  if (pre_tokenizer.IsNull()) pre_tokenizer.Fail("is null; only byte-level BPE is built");
  std::optional<SplitPattern> pattern;
  bool byte_level = false;
  SplitterSettings settings;
  for (const JsonNode& step : Steps(pre_tokenizer, "pretokenizers")) {
    const std::string_view type = RequireType(step, {"Split", "ByteLevel"});
    if (byte_level) step.Fail("behind ByteLevel is not built");
    if (type == "Split") {
      if (pattern) step.Fail("is a second pattern to split by, which is not built");
      pattern = ReadSplit(step);
      continue;
    }
    byte_level = true;
    CheckByteLevel(step);
    settings.add_prefix_space = OptionalBool(step, "add_prefix_space", true);
    const bool use_regex = OptionalBool(step, "use_regex", true);
    if (use_regex && pattern) {
      step.Fail("splits again with use_regex, which is not built; make it false");
    }
    if (settings.add_prefix_space && pattern) {
      step.Get("add_prefix_space").Fail("behind Split is not built; make it false");
    }
    if (use_regex) pattern = SplitPattern::kGpt2;
  }
  if (!byte_level) pre_tokenizer.Fail("has no ByteLevel; only byte-level BPE is built");
  if (!pattern) {
    pre_tokenizer.Fail("does not split text into words, which is not built; set use_regex");
  }
  settings.pattern = *pattern;
  return settings;
}

void CheckDecoder(const JsonNode& decoder) {
  if (decoder.IsNull()) decoder.Fail("is null; it must be a ByteLevel");
  const std::vector<JsonNode> steps = Steps(decoder, "decoders");
  if (steps.empty()) decoder.Fail("does nothing; it must be a ByteLevel");
  for (const JsonNode& step : steps) {
    RequireType(step, {"ByteLevel"});
    CheckByteLevel(step);
  }
}

SurroundingTokens ReadPostProcessor(const JsonNode& post_processor, const TokenizerTables& tables) {
  SurroundingTokens around;
  bool has_template = false;
  for (const JsonNode& step : Steps(post_processor, "processors")) {
    if (RequireType(step, {"ByteLevel", "TemplateProcessing"}) == "ByteLevel") {
      CheckByteLevel(step);  // about offsets only
      continue;
    }
    if (has_template) step.Fail("is a second template, which is not built");
    has_template = true;
    ReadTemplate(step, tables, &around);
  }
  return around;
}

}  // namespace hearth
