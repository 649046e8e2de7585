#include "launcher/starter_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "kernels/core/error.h"
#include "launcher/rank_report.h"

namespace hearth {

namespace {

constexpr size_t kMaxLine = 1 << 20;  // then it is passed on in pieces
constexpr size_t kLeastDashes = 60;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool IsFrame(std::string_view line) {
  return line.size() >= kLeastDashes && line.find_first_not_of('-') == std::string_view::npos;
}

// The word, or the rest of the line, after the last `label`.
std::string After(std::string_view text, std::string_view label, std::string_view ends) {
  const size_t at = text.rfind(label);
  if (at == std::string_view::npos) return "?";
  text.remove_prefix(at + label.size());
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return std::string(text.substr(0, text.find_first_of(ends)));
}

std::string Word(std::string_view text, std::string_view label) {
  return After(text, label, " \n,.");
}
std::string RestOfLine(std::string_view text, std::string_view label) {
  return After(text, label, "\n");
}

void WriteSlot(HeartbeatSlot& slot, const HeartbeatReading& reading) {
  slot.pid = reading.pid;
  slot.beats = reading.beats;
  slot.progress = reading.progress;
  slot.step = reading.step;
  slot.phase = static_cast<int64_t>(reading.phase);
  slot.collectives = reading.collectives;
  slot.exit_code = reading.exit_code;
  const size_t length = std::min(reading.message.size(), slot.message.size() - 1);
  std::memcpy(slot.message.data(), reading.message.data(), length);
  slot.message[length] = '\0';
  // Clocks of hosts differ: the order in which reports arrive is the order of events.
  if (slot.ended_ns == 0 && reading.state != RankState::kRunning) {
    slot.ended_ns = std::chrono::steady_clock::now().time_since_epoch().count();
  }
  slot.state.store(static_cast<int64_t>(reading.state), std::memory_order_release);
}

}  // namespace

std::optional<StarterVerdict> JudgeStarterBlock(std::string_view block) {
  if (Contains(block, "noticed that process rank")) {
    return StarterVerdict{
        .message = fmt::format(
            "hearth: rank {} (process {} on {}) died: killed by signal {} or crashed (out of "
            "memory? see dmesg there)",
            Word(block, "process rank"), Word(block, "with PID"), After(block, "on node", " \n"),
            Word(block, "on signal"))};
  }
  if (Contains(block, "lost communication with a remote daemon")) {
    return StarterVerdict{
        .message =
            fmt::format("hearth: host {} was lost: it is down, or the network to it, or its "
                        "orted was killed",
                        After(block.substr(std::min(block.find("Remote daemon"), block.size())),
                              "on node", " \n"))};
  }
  if (Contains(block, "change to the specified working directory")) {
    return StarterVerdict{.started = false,
                          .message = fmt::format(
                              "hearth: host {}: no folder {}: the folder that the run is started "
                              "in must be there, under the same path, on every host",
                              RestOfLine(block, "Node:"), RestOfLine(block, "Working directory:"))};
  }
  if (Contains(block, "or execute an executable")) {
    return StarterVerdict{
        .started = false,
        .message = fmt::format("hearth: host {}: {} cannot be run: install the same program under "
                               "the same path on every host, or share its folder",
                               RestOfLine(block, "Node:"), RestOfLine(block, "Executable:"))};
  }
  if (Contains(block, "unable to reliably start one or more daemons") ||
      Contains(block, "does not know how to route a message") ||
      Contains(block, "daemons required to complete an operation")) {
    return StarterVerdict{
        .started = false,
        .message =
            "hearth: Open MPI's daemon could not be started on a host: `ssh HOST orted "
            "--version` must work from here without a question, and name the version of "
            "`mpirun --version`",
        .unreachable = true};
  }
  for (const char* known :
       {"Primary job", "detected that one or more processes exited", "MPI_ABORT was invoked",
        "peer process has unexpectedly disconnected"}) {
    if (Contains(block, known)) return StarterVerdict{};
  }
  return std::nullopt;
}

StarterOutput::StarterOutput(const HeartbeatBoard& board, std::string token, MessageLog* log)
    : board_(board),
      token_(std::move(token)),
      log_(log),
      pipe_("mpirun"),
      hosts_(static_cast<size_t>(board.ranks())) {}

void StarterOutput::Drain() { DrainToEnd(std::chrono::milliseconds(0)); }

void StarterOutput::DrainToEnd(std::chrono::milliseconds timeout) {
  if (!pipe_.Drain(timeout, [this](std::string_view text) { Take(text); })) return;
  // The end: nothing will complete what was begun.
  if (!line_.empty()) TakeLine(std::exchange(line_, ""));
  if (in_block_) EndBlock();
}

void StarterOutput::Take(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    line_ += text.substr(0, end);
    if (end == std::string_view::npos && line_.size() < kMaxLine) return;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    TakeLine(std::exchange(line_, ""));
  }
}

void StarterOutput::TakeLine(const std::string& line) {
  if (IsRankReport(token_, line)) {
    const auto report = ParseRankReport(token_, line);
    // A damaged one is no loss: the next follows soon.
    if (!report || report->rank >= board_.ranks()) return;
    hosts_[static_cast<size_t>(report->rank)] = report->reading.host;
    WriteSlot(board_.slot(report->rank), report->reading);
  } else if (IsFrame(line)) {
    if (in_block_)
      EndBlock();
    else
      in_block_ = true;
  } else if (in_block_) {
    block_ += line + "\n";
  } else {
    if (log_ != nullptr && !muted_) log_->Take(line);
    PassOn(line + "\n");
  }
}

void StarterOutput::PassOn(std::string_view text) const {
  if (muted_) return;
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void StarterOutput::EndBlock() {
  in_block_ = false;
  const std::string block = std::exchange(block_, "");
  const auto verdict = JudgeStarterBlock(block);
  if (!verdict) {
    PassOn(block);
  } else if (!verdict->message.empty() && !verdict_) {
    verdict_ = verdict;
  }
}

}  // namespace hearth
