// What the report reads: a run's folder, and a sweep's with one run in it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>

#include "runtime/report/run_data.h"
#include "runtime/report/run_files.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

// Between the files of a folder.
constexpr char kSeparator = '\x1e';
constexpr const char* kRun = "0123456789abcdef";
// In the order in which an input has them, the sweep's last.
constexpr std::array<const char*, 7> kFiles = {"0123456789abcdef/log.jsonl",
                                               "0123456789abcdef/resolved.yaml",
                                               "0123456789abcdef/plan.yaml",
                                               "0123456789abcdef/outcome.json",
                                               "0123456789abcdef/tb/events.out.tfevents.1.host",
                                               "sweep.yaml",
                                               "results.jsonl"};

std::string_view TakeFile(std::string_view* rest) {
  const size_t end = std::min(rest->find(kSeparator), rest->size());
  const std::string_view file = rest->substr(0, end);
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return file;
}

using Contents = std::array<std::string_view, kFiles.size()>;

Contents Split(std::string_view input) {
  Contents contents;
  for (std::string_view& content : contents) content = TakeFile(&input);
  return contents;
}

class FolderOnDisk {
 public:
  explicit FolderOnDisk() {
    std::filesystem::create_directories(folder_.Path(kRun) + "/tb");
    std::filesystem::create_directories(folder_.Path(kRun) + "/checkpoint-3");
    for (const char* file : kFiles) folder_.Write(file, "");
  }

  void Write(const Contents& contents) {
    for (size_t i = 0; i < kFiles.size(); ++i) {
      if (written_[i] == contents[i]) continue;
      written_[i] = contents[i];
      folder_.Write(kFiles[i], contents[i]);
    }
  }

  std::filesystem::path sweep() const { return folder_.Path(""); }

 private:
  FuzzFolder folder_;
  std::array<std::string, kFiles.size()> written_;
};

// The same folder in memory.
class FolderInMemory : public ReportFiles {
 public:
  explicit FolderInMemory(const Contents& contents) : contents_(contents) {}

  bool Exists(const std::filesystem::path& path) const override { return Find(path) != nullptr; }
  std::optional<std::string> ReadHead(const std::filesystem::path& file,
                                      int64_t most_bytes) const override {
    const std::string_view* content = Find(file);
    if (content == nullptr) return std::nullopt;
    return std::string(content->substr(0, static_cast<size_t>(most_bytes)));
  }
  std::optional<std::string> ReadTail(const std::filesystem::path& file,
                                      int64_t most_bytes) const override {
    return ReadHead(file, most_bytes);  // there is no more
  }
  void ReadPieces(const std::filesystem::path& file,
                  const std::function<void(std::string_view)>& use) const override {
    if (const std::string_view* content = Find(file)) use(*content);
  }
  std::vector<std::string> NamesIn(const std::filesystem::path& folder,
                                   std::string_view prefix) const override {
    if (folder.empty()) return {kRun, "results.jsonl", "sweep.yaml"};
    if (prefix.starts_with("checkpoint")) return {"checkpoint-3"};
    return {"events.out.tfevents.1.host"};
  }

 private:
  const std::string_view* Find(const std::filesystem::path& path) const {
    for (size_t i = 0; i < kFiles.size(); ++i) {
      if (path.native() == kFiles[i]) return &contents_[i];
    }
    return nullptr;
  }

  const Contents& contents_;
};

void CheckRun(const RunData& run) {
  Require(run.step_tokens.value_or(1) > 0 && run.total_steps.value_or(1) > 0, "nothing to do");
  const auto place = [](const RunEvent& event) {
    return event.step.value_or(std::numeric_limits<int64_t>::max());
  };
  Require(std::is_sorted(run.events.begin(), run.events.end(),
                         [&](const RunEvent& a, const RunEvent& b) { return place(a) < place(b); }),
          "events that go back in steps");
  for (const PlannedPool& pool : run.pools) Require(pool.bytes >= 0, "a negative pool");
  Require(!StateText(run.state).empty(), "a state without a name");
}

void CheckSweep(const SweepData& sweep) {
  Require(sweep.runs.size() == 1, "a sweep that loses its run");
  CheckRun(sweep.runs[0].run);
}

void RequireSame(const RunData& a, const RunData& b) {
  Require(a.state == b.state && a.last_step == b.last_step && a.message == b.message &&
              a.label == b.label && a.series.size() == b.series.size() &&
              a.events.size() == b.events.size() && a.remarks == b.remarks,
          "a run on a disk has another report");
}

std::string Seed(const std::vector<std::string>& files) {
  std::string input;
  for (const std::string& file : files) input += file + kSeparator;
  return input;
}

std::string Record(std::string_view event) {
  std::string record;
  Put(record, static_cast<uint64_t>(event.size()));
  Put(record, uint32_t{0});
  record += event;
  Put(record, uint32_t{0});
  return record;
}

// When it was written, and that it goes on from a step.
std::string Events(double wall_time_s, char step) {
  std::string first(1, '\x09'), second(1, '\x09');
  Put(first, wall_time_s);
  Put(second, wall_time_s);
  return Record(first + "\x1a\x0d" + "brain.Event:2") +
         Record(second + "\x10" + step + "\x3a\x02\x08\x01");
}

}  // namespace

// Nothing that a file says may keep a report from being made.
int FuzzReport(const uint8_t* data, size_t size) {
  const std::string_view input = AsText(data, size);
  const Contents contents = Split(input);
  const FolderInMemory memory(contents);
  RunAccepted("the run has no report", [&] {
    const RunData run = ReadRun(kRun, {.most_buckets = 8, .files = memory});
    CheckRun(run);
    if (IsReadFromDisk(input)) {
      static FolderOnDisk disk;
      disk.Write(contents);
      RequireSame(ReadRun(disk.sweep() / kRun, {.most_buckets = 8}), run);
      CheckSweep(ReadSweep(disk.sweep(), "", {.most_buckets = 8}, 1));
    } else if (IsInShare(input, 6)) {
      CheckSweep(
          ReadSweep("", "", {.most_buckets = 8, .files = memory}, static_cast<int64_t>(size % 2)));
    }
  });
  return 0;
}

std::vector<std::string> ReportSeeds() {
  const std::string log =
      "{\"step\":0,\"eval/loss\":4.5}\n{\"step\":1,\"train/loss\":4.25,\"fp8\":\"x\"}\n"
      "{\"step\":2,\"train/loss\":\"NaN\",\"train/grad_norm\":1e300}\n{\"step\":3,\"tr";
  const std::string resolved =
      "# Written by hearth\n# 2 x GPU, 80 GiB\nrun_name: a  # run.yaml:1\ntraining:\n"
      "  max_steps: null  # default\n  max_tokens: 1000  # command line\n";
  const std::string plan =
      "plan_version: 1\nglobal_batch_size: 8\nsequence_len: 16\n"
      "memory:\n  - {tier: device, pool: weights, bytes: 4096}\nmatmuls: |\n  a\n  b\n";
  const std::string outcome =
      "{\"step\":2,\"state\":\"failed\",\"message\":\"killed\",\"metric\":\"eval/loss\","
      "\"value\":2.5}\n";
  const std::string sweep =
      "base: b.yaml\nmethod: grid\nparameters: {seed: {values: [1, 2]}}\n"
      "metric: {name: train/loss, goal: maximize}\n";
  const std::string results = fmt::format("{{\"step\":2,\"run\":\"{}\"}}\n", kRun);
  return {Seed({log, resolved, plan, outcome, Events(1.7e9, 3), sweep, results}),
          Seed({log, "", "", "", "", "", ""}), Seed({"", resolved, plan, "", "", "", ""}),
          Seed({"", "", "", outcome, Events(-1, 0), sweep, results})};
}

std::vector<std::string> ReportWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word :
       {"{\"step\":", "\"NaN\"", "\"train/loss\":", "\"state\":", "\"finished\"", "max_steps: ",
        "  # ", "global_batch_size: ", "sequence_len: ", "bytes: ", "\x1e", "\x10\xff\xff\xff"}) {
    words.emplace_back(word);
  }
  return words;
}

}  // namespace hearth::test
