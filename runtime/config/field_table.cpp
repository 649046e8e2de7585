#include "runtime/config/field_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "runtime/config/fields.h"
#include "runtime/config/suggestion.h"

namespace hearth {
namespace {

// What other trainers call our keys, where the spelling alone would not lead there.
constexpr std::array<std::pair<std::string_view, std::string_view>, 22> kNamesElsewhere = {{
    {"lr", "optimizer.learning_rate"},
    {"beta1", "optimizer.adam_beta1"},
    {"beta2", "optimizer.adam_beta2"},
    {"eps", "optimizer.adam_epsilon"},
    {"epochs", "training.num_epochs"},
    {"num_train_epochs", "training.num_epochs"},
    {"steps", "training.max_steps"},
    {"batch_size", "training.global_batch_size"},
    {"train_batch_size", "training.global_batch_size"},
    {"per_device_train_batch_size", "training.micro_batch_size"},
    {"train_micro_batch_size_per_gpu", "training.micro_batch_size"},
    {"gradient_clipping", "training.max_grad_norm"},
    {"grad_clip", "training.max_grad_norm"},
    {"seq_len", "data.sequence_len"},
    {"max_seq_length", "data.sequence_len"},
    {"block_size", "data.sequence_len"},
    {"packing", "data.sample_packing"},
    {"base_model", "model.name_or_path"},
    {"model_name_or_path", "model.name_or_path"},
    {"scheduler", "lr_scheduler.lr_scheduler_type"},
    {"warmup", "lr_scheduler.warmup_steps"},
    {"resume_from_checkpoint", "checkpoint.resume"},
}};

std::vector<std::string_view> SectionPaths() {
  std::vector<std::string_view> sections;
  for (const Field& field : FieldTable()) {
    const std::string_view section = field.section();
    if (section.empty()) continue;
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
      sections.push_back(section);
    }
  }
  return sections;
}

// What may stand directly under `section`: its leaves and sub-sections.
std::vector<std::string_view> NamesUnder(std::string_view section) {
  std::vector<std::string_view> names;
  for (const Field& field : FieldTable()) {
    if (field.section() == section) names.push_back(field.leaf());
  }
  for (const std::string_view path : SectionPaths()) {
    const size_t dot = path.rfind('.');
    const std::string_view parent = dot == std::string_view::npos ? "" : path.substr(0, dot);
    if (parent == section)
      names.push_back(path.substr(dot == std::string_view::npos ? 0 : dot + 1));
  }
  return names;
}

std::string WriteUnder(const Field& field) {
  if (field.section().empty()) {
    return fmt::format("'{}' belongs to the top level; move it there", field.leaf());
  }
  return fmt::format("'{}' belongs to section '{}'; move it there ({})", field.leaf(),
                     field.section(), field.path);
}

}  // namespace

std::string_view Field::leaf() const {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : std::string_view(path).substr(dot + 1);
}

std::string_view Field::section() const {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : std::string_view(path).substr(0, dot);
}

const std::vector<Field>& FieldTable() {
  static const std::vector<Field> table = MakeFields();
  return table;
}

const Field* FindField(std::string_view path) {
  for (const Field& field : FieldTable()) {
    if (field.path == path) return &field;
  }
  return nullptr;
}

const Field* FindLeaf(std::string_view leaf) {
  for (const Field& field : FieldTable()) {
    if (field.leaf() == leaf && field.section() != "memory.offload") return &field;
  }
  return nullptr;
}

bool IsSection(std::string_view path) {
  const std::vector<Field>& fields = FieldTable();
  return !path.empty() && std::any_of(fields.begin(), fields.end(),
                                      [&](const Field& field) { return field.section() == path; });
}

std::string KeyAdvice(std::string_view section, std::string_view key) {
  if (const Field* field = FindLeaf(key)) return WriteUnder(*field);
  if (const Field* field = FindField(key)) {
    return fmt::format("sections are nested; write {}: {{{}: ...}}", field->section(),
                       field->leaf());
  }
  for (const std::string_view path : SectionPaths()) {
    const size_t dot = path.rfind('.');
    if (path == key) return fmt::format("'{}' belongs to the top level; move it there", key);
    if (dot != std::string_view::npos && path.substr(dot + 1) == key) {
      return fmt::format("'{}' belongs to section '{}'; move it there", key, path.substr(0, dot));
    }
  }
  for (const auto& [elsewhere, path] : kNamesElsewhere) {
    if (elsewhere == key) return fmt::format("did you mean '{}'?", path);
  }
  const std::vector<std::string_view> here = NamesUnder(section);
  if (const std::string_view meant = ClosestWord(key, here); !meant.empty()) {
    return fmt::format("did you mean '{}'?", meant);
  }
  std::vector<std::string_view> leaves;
  for (const Field& field : FieldTable()) {
    if (field.section() != "memory.offload") leaves.push_back(field.leaf());
  }
  if (const std::string_view meant = ClosestWord(key, leaves); !meant.empty()) {
    return fmt::format("did you mean '{}'?", FindLeaf(meant)->path);
  }
  return fmt::format("allowed here are {}", fmt::join(here, ", "));
}

void SetFieldText(const Field& field, std::string_view text, const std::string& place,
                  RunConfig& config) {
  const bool is_flow = field.is_list && text.find_first_of("[{") != std::string_view::npos;
  const YamlDocument document =
      is_flow ? YamlDocument::ParseValue(text, place) : YamlDocument::PlainScalar(text, place);
  field.read(config, document, document.root());
}

}  // namespace hearth
