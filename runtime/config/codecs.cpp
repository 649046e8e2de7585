#include "runtime/config/codecs.h"

namespace hearth {
namespace {

constexpr size_t kMostDatasets = 1024;
constexpr NumberRange kWeightRange{.min = 0, .max = 1e9, .open_min = true};

DatasetEntry ReadDataset(const ReadContext& in) {
  in.document.CheckKeys(in.node, in.path, {"path", "format", "weight"}, {"path"});
  DatasetEntry dataset;
  for (const YamlEntry& entry : in.node.entries) {
    const std::string path = fmt::format("{}.{}", in.path, entry.key);
    const auto read = [&](const auto& codec) {
      const std::string form = codec.Form();
      return codec.Read({in.document, entry.value, path, form});
    };
    if (entry.key == "path") dataset.path = read(TextCodec("a file or a glob"));
    if (entry.key == "format") dataset.format = read(EnumCodec<DataFormat>{});
    if (entry.key == "weight") dataset.weight = read(NumberCodec(kWeightRange));
  }
  return dataset;
}

}  // namespace

RecomputeCodec::Value RecomputeCodec::Read(const ReadContext& in) const {
  if (in.IsWord("auto")) return std::nullopt;
  if (in.IsWord("none")) return std::vector<RecomputeItem>{};
  return list.Read(in);
}

std::string RecomputeCodec::Print(const Value& value) const {
  if (!value) return "auto";
  return value->empty() ? "none" : list.Print(*value);
}

BudgetCodec::Value BudgetCodec::Read(const ReadContext& in) const {
  const bool is_size = in.node.IsScalar() && !in.node.quoted && in.node.text.ends_with('B');
  if (is_size) {
    const int64_t bytes = in.Take(ParseSize(in.node.text));
    if (bytes == 0) in.Fail("the size is 0 bytes");
    return {.fraction = 1.0, .bytes = bytes};
  }
  const NumberRange share{.min = 0, .max = 1, .open_min = true};
  return {.fraction = in.Take(ReadNumber(in.node, share)), .bytes = std::nullopt};
}

std::string BudgetCodec::Print(const Value& value) const {
  return value.bytes ? SizeText(*value.bytes) : NumberText(value.fraction);
}

PlanCodec::Value PlanCodec::Read(const ReadContext& in) const {
  if (in.IsWord("auto")) return {.mode = PlanMode::kAuto, .path = ""};
  if (in.IsWord("manual")) return {.mode = PlanMode::kManual, .path = ""};
  return {.mode = PlanMode::kFile, .path = in.Take(ReadText(in.node))};
}

std::string PlanCodec::Print(const Value& value) const {
  if (value.mode == PlanMode::kAuto) return "auto";
  return value.mode == PlanMode::kManual ? "manual" : QuoteYaml(value.path);
}

ResumeCodec::Value ResumeCodec::Read(const ReadContext& in) const {
  if (in.IsWord("auto")) return {.mode = ResumeMode::kAuto, .path = ""};
  if (in.IsWord("none")) return {.mode = ResumeMode::kNone, .path = ""};
  return {.mode = ResumeMode::kFolder, .path = in.Take(ReadText(in.node))};
}

std::string ResumeCodec::Print(const Value& value) const {
  if (value.mode == ResumeMode::kAuto) return "auto";
  return value.mode == ResumeMode::kNone ? "none" : QuoteYaml(value.path);
}

DatasetsCodec::Value DatasetsCodec::Read(const ReadContext& in) const {
  if (!in.node.IsSequence()) in.Fail("the value is not a list");
  if (in.node.items.empty() && !may_be_empty) in.Fail("the list is empty");
  if (in.node.items.size() > kMostDatasets) {
    in.Fail(fmt::format("{} entries are more than {}", in.node.items.size(), kMostDatasets));
  }
  Value datasets;
  for (size_t i = 0; i < in.node.items.size(); ++i) {
    const std::string path = fmt::format("{}[{}]", in.path, i);
    datasets.push_back(ReadDataset({in.document, in.node.items[i], path, in.form}));
  }
  return datasets;
}

std::string DatasetsCodec::Print(const Value& datasets) const {
  std::vector<std::string> texts;
  for (const DatasetEntry& dataset : datasets) {
    texts.push_back(fmt::format("{{path: {}, format: {}, weight: {}}}", QuoteYaml(dataset.path),
                                EnumName(dataset.format), NumberText(dataset.weight)));
  }
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

}  // namespace hearth
