// Files of lines: the log that a run goes on with, what a sweep reads of its runs, JSON lines to
// prepare, and hostfiles.
#include <initializer_list>
#include <limits>

#include "launcher/hostfile.h"
#include "launcher/sweep_log.h"
#include "launcher/sweep_outcome.h"
#include "runtime/data/jsonl_reader.h"
#include "runtime/telemetry/json_lines_log.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

constexpr int64_t kCutStep = 5;

std::vector<StepRecord> Records(const std::string& log) {
  std::vector<StepRecord> records;
  ReadJsonLines(log, [&](const StepRecord& record) { records.push_back(record); });
  return records;
}

// Those of a log that comes in these pieces.
std::vector<StepRecord> RecordsOf(std::initializer_list<std::string_view> pieces) {
  std::vector<StepRecord> records;
  RecordLines lines;
  for (const std::string_view piece : pieces) {
    lines.Take(piece,
               [&](std::string_view, const StepRecord& record) { records.push_back(record); });
  }
  return records;
}

// Those up to the step, as lines.
std::vector<std::string> Texts(const std::vector<StepRecord>& records, int64_t last_step) {
  std::vector<std::string> texts;
  for (const StepRecord& record : records) {
    if (record.step <= last_step) texts.push_back(ToJson(record));
  }
  return texts;
}

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

void RequireSame(const std::vector<StepRecord>& a, const std::vector<StepRecord>& b,
                 std::string_view otherwise) {
  Require(Texts(a, kAll) == Texts(b, kAll), otherwise);
}

void CutBackOnDisk(std::string_view text) {
  static const FuzzFolder folder;
  const std::string log = folder.Path("log.jsonl");
  folder.Write("log.jsonl", text);
  const std::vector<StepRecord> all = Records(log);
  RequireSame(all, RecordsOf({text}), "a log is read otherwise from its file");
  CutBackTo(log, kCutStep);
  Require(Texts(Records(log), kAll) == Texts(all, kCutStep),
          "cutting back loses records or keeps later ones");
  const std::string cut = folder.Read("log.jsonl");
  CutBackTo(log, kCutStep);
  Require(folder.Read("log.jsonl") == cut, "cutting back twice changes the log");
}

}  // namespace

int FuzzLog(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const std::string_view text = AsText(data, size);
    if (IsReadFromDisk(text)) return CutBackOnDisk(text);
    const std::vector<StepRecord> all = RecordsOf({text});
    // Each takes as long as all of the above.
    if (IsInShare(text, 4)) {
      RequireSame(RecordsOf({text.substr(0, size / 2), text.substr(size / 2)}), all,
                  "a log that comes in two pieces is read otherwise");
    } else if (IsInShare(text, 3)) {
      std::string again;
      for (const std::string& record : Texts(all, kAll)) again += record + "\n";
      RequireSame(RecordsOf({again}), all, "a record changes when it is read back");
    }
  });
}

std::vector<std::string> LogSeeds() {
  return {
      "{\"step\":0,\"eval/loss\":4.5}\n{\"step\":1,\"train/loss\":4.25,\"mem/peak\":123}\n"
      "{\"step\":5,\"train/loss\":\"NaN\",\"fp8/amax/x\":\"-Infinity\"}\n"
      "{\"step\":6,\"note\":\"text\",\"train/loss\":1e-05}\n{\"step\":7,\"tra",
      "{\"step\":3,\"a\":-0.0,\"a\":1,\"b\":9223372036854775807}\n\n[]\n{\"step\":\"x\"}\nnull\n"};
}

std::vector<std::string> LogWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word : {"{\"step\":", "\"NaN\"", "\"Infinity\"", "\"-Infinity\"",
                           "\"a\":", "\"train/loss\":", "{\"step\":4}\n", "\n{\"step\":5}"}) {
    words.emplace_back(word);
  }
  return words;
}

// The log comes in two parts, as a sweep meets it.
int FuzzMetricLog(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const std::string_view text = AsText(data, size);
    MetricLog whole("log.jsonl", "train/loss");
    whole.Take(text);
    for (size_t i = 1; i < whole.curve().size(); ++i) {
      Require(whole.curve()[i - 1].step < whole.curve()[i].step, "steps that do not rise");
    }
    if (!IsInShare(text, 4)) return;
    static const FuzzFolder folder;
    MetricLog growing(folder.Path("log.jsonl"), "train/loss");
    if (IsReadFromDisk(text)) {
      folder.Write("log.jsonl", text.substr(0, size / 2));
      growing.Read();
      folder.Write("log.jsonl", text);
      growing.Read();
    } else {
      growing.Take(text.substr(0, size / 2));
      growing.Take(text.substr(size / 2));
    }
    Require(growing.curve().size() == whole.curve().size() &&
                growing.last_step() == whole.last_step() &&
                growing.is_broken() == whole.is_broken(),
            "a log that grows reads differently");
  });
}

namespace {

void RequireSameOutcome(const RunOutcome& a, const RunOutcome& b) {
  Require(a.state == b.state && a.step == b.step && a.exit_code == b.exit_code &&
              a.message == b.message && a.metric == b.metric && a.value == b.value,
          "an outcome changes when it is read back");
}

}  // namespace

int FuzzSweepOutcome(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const std::string_view text = AsText(data, size);
    if (!IsReadFromDisk(text)) {
      const RunOutcome outcome = ParseOutcome(text, "outcome.json");
      RunAccepted("the same outcome written again is refused", [&] {
        RequireSameOutcome(ParseOutcome(OutcomeText(outcome), "again"), outcome);
      });
      return;
    }
    static const FuzzFolder folder, again;
    folder.Write("outcome.json", text);
    const auto outcome = ReadOutcome(folder.Path(""));
    Require(outcome.has_value(), "an outcome that is there and not found");
    RunAccepted("the same outcome written again is refused", [&] {
      WriteOutcome(again.Path(""), *outcome);
      RequireSameOutcome(ReadOutcome(again.Path("")).value(), *outcome);
    });
  });
}

std::vector<std::string> SweepOutcomeSeeds() {
  return {
      "{\"step\":120,\"state\":\"finished\",\"exit_code\":0,\"message\":\"\",\"metric\":\"eval/"
      "loss\","
      "\"value\":2.5}\n",
      "{\"step\":7,\"state\":\"failed\",\"exit_code\":-9,\"message\":\"killed \\u00e4\"}\n"};
}

int FuzzPrepareJsonl(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const std::string_view text = AsText(data, size);
    JsonlReader reader("input.jsonl", text, "text");
    size_t bytes = 0;
    while (const auto document = reader.Next()) {
      bytes += document->size();
      Require(bytes <= size, "more text than the input has");
    }
    Require(reader.bytes_read() == static_cast<int64_t>(size), "bytes that were not read");
  });
}

std::vector<std::string> PrepareJsonlSeeds() {
  return {
      "{\"text\": \"one\"}\n\n{\"id\": 1, \"text\": \"two\\u00e4\\n\", \"m\": {\"text\": [1]}}\r\n"
      "  {\"a\": [null, true, -1.5e3], \"text\": \"\"}",
      "{\"text\": \"\\ud83d\\ude00 \xF0\x9F\x98\x80\"}\n{\"text\": 1}\n"};
}

std::vector<std::string> PrepareJsonlWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word : {"\"text\": ", "{\"text\": \"a\"}\n", "\\n", "\\u00", "\\udc00"}) {
    words.emplace_back(word);
  }
  return words;
}

int FuzzHostfile(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const auto hosts = ParseHostfile(AsText(data, size), "hosts");
    RunAccepted("the same hosts written again are refused", [&] {
      const std::string text = FormatHostfile(hosts);
      Require(FormatHostfile(ParseHostfile(text, "hosts")) == text, "hosts change when read back");
      Require(TotalSlots(hosts) >= std::ssize(hosts), "a host without slots");
    });
  });
}

std::vector<std::string> HostfileSeeds() {
  return {
      "# cluster\nnode-1 slots=8\nnode-2\tslots=4 # four\r\n\n10.0.0.1\nnode-3.local slots=1024\n"};
}

std::vector<std::string> HostfileWords() {
  return {" slots=", "\n", "#", " ", "\t", "-", "localhost", "slots=0", "slots=1025", "slots=+1"};
}

}  // namespace hearth::test
