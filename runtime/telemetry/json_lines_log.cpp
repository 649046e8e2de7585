#include "runtime/telemetry/json_lines_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "kernels/core/error.h"

namespace hearth {

namespace {

double NumberOfText(const std::string& text) {
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

// Takes the members of a line's object from nlohmann's events; building its tree takes twice as
// long. A callback that returns false ends the parse.
class MemberReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  // The record, once the text has been read to its end.
  std::optional<StepRecord> TakeRecord();

  bool null() override { return Add(std::nullopt); }
  bool boolean(bool) override { return Add(std::nullopt); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override {
    return Add(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override {
    const bool is_number = value == "NaN" || value == "Infinity" || value == "-Infinity";
    if (is_number) return Add(NumberOfText(value));
    return Add(std::move(value));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return depth_ == 0 ? ++depth_ > 0 : Open(); }
  bool start_array(std::size_t) override { return Open(); }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(string_t& name) override {
    if (depth_ == 1) name_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  // What is no value of a record leaves none, not even an earlier one of that name.
  using Member = std::pair<std::string, std::optional<StepValue>>;

  bool Open() {
    if (!Add(std::nullopt)) return false;
    ++depth_;
    return true;
  }
  // What lies deeper belongs to no record.
  bool Add(std::optional<StepValue> value) {
    if (depth_ == 1) members_.emplace_back(std::move(name_), std::move(value));
    return depth_ > 0;
  }

  int64_t depth_ = 0;
  std::string name_;
  std::vector<Member> members_;
};

std::optional<StepRecord> MemberReader::TakeRecord() {
  std::ranges::stable_sort(members_, {}, &Member::first);
  StepRecord record;
  bool has_step = false;
  for (auto member = members_.begin(); member != members_.end(); ++member) {
    if (member + 1 != members_.end() && (member + 1)->first == member->first) continue;
    if (member->first == "step") {
      const auto* step = member->second ? std::get_if<int64_t>(&*member->second) : nullptr;
      if (step == nullptr) return std::nullopt;
      record.step = *step;
      has_step = true;
    } else if (member->second) {
      record.values.emplace_back(std::move(member->first), *std::move(member->second));
    }
  }
  return has_step ? std::optional(std::move(record)) : std::nullopt;
}

constexpr size_t kPieceBytes = 64 << 10;

// A file that is read, or that does not exist.
class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& path)
      : path_(path), file_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (file_ < 0 && errno != ENOENT) Fail();
  }
  ~OpenFile() {
    if (file_ >= 0) close(file_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  bool exists() const { return file_ >= 0; }
  // How many bytes there were, 0 at the end.
  size_t Read(int64_t offset, std::span<char> bytes) const {
    ssize_t count = -1;
    do {
      count = pread(file_, bytes.data(), bytes.size(), offset);
    } while (count < 0 && errno == EINTR);
    if (count < 0) Fail();
    return static_cast<size_t>(count);
  }

 private:
  [[noreturn]] void Fail() const {
    throw IoError(fmt::format("{}: cannot be read: {}", path_.string(), std::strerror(errno)));
  }

  const std::filesystem::path& path_;
  const int file_;
};

}  // namespace

std::optional<StepRecord> ParseJsonLine(std::string_view line) {
  // An object ends so; the parser would say at length what is wrong with a torn line.
  const size_t last = line.find_last_not_of(" \t\r\n");
  if (last == std::string_view::npos || line[last] != '}') return std::nullopt;
  MemberReader reader;
  if (!nlohmann::json::sax_parse(line.begin(), line.end(), &reader)) return std::nullopt;
  return reader.TakeRecord();
}

void RecordLines::Take(std::string_view piece, const Use& use) {
  for (size_t end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n')) {
    const std::string_view line = piece.substr(0, end);
    piece.remove_prefix(end + 1);
    if (rest_.empty()) {
      TakeLine(line, use);
    } else {
      rest_ += line;
      TakeLine(rest_, use);
      rest_.clear();
    }
  }
  rest_ += piece;
}

void RecordLines::TakeLine(std::string_view line, const Use& use) {
  if (const std::optional<StepRecord> record = ParseJsonLine(line)) {
    use(line, *record);
  } else {
    ++other_lines_;
  }
}

void ReadPieces(const std::filesystem::path& file, int64_t offset,
                const std::function<void(std::string_view)>& use) {
  const OpenFile open_file(file);
  if (!open_file.exists()) return;
  std::vector<char> piece(kPieceBytes);
  while (const size_t count = open_file.Read(offset, piece)) {
    use({piece.data(), count});
    offset += static_cast<int64_t>(count);
  }
}

void ReadJsonLines(const std::filesystem::path& log,
                   const std::function<void(const StepRecord&)>& use) {
  RecordLines lines;
  ReadPieces(log, 0, [&](std::string_view piece) {
    lines.Take(piece, [&](std::string_view, const StepRecord& record) { use(record); });
  });
}

void CutBackTo(const std::filesystem::path& log, int64_t step) {
  RecordLines lines;
  bool later = false;
  ReadPieces(log, 0, [&](std::string_view piece) {
    lines.Take(piece,
               [&](std::string_view, const StepRecord& record) { later |= record.step > step; });
  });
  if (!later && lines.other_lines() == 0 && !lines.is_torn()) return;

  const std::filesystem::path kept = log.string() + ".cut";
  std::filesystem::remove(kept);
  {
    AppendFile out(kept);
    std::string block;
    RecordLines again;
    ReadPieces(log, 0, [&](std::string_view piece) {
      again.Take(piece, [&](std::string_view line, const StepRecord& record) {
        if (record.step > step) return;
        block += line;
        block += '\n';
      });
      if (block.size() < (1 << 20)) return;
      out.Append(block);
      block.clear();
    });
    out.Append(block);
    out.Sync();
  }
  std::error_code error;
  std::filesystem::rename(kept, log, error);
  if (error)
    throw IoError(fmt::format("{}: cannot be cut back: {}", log.string(), error.message()));
}

}  // namespace hearth
