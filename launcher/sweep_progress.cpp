#include "launcher/sweep_progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace hearth {

namespace {

// Less than this says nothing about the rest.
constexpr double kLeastSeconds = 3;

}  // namespace

void TimeLeft::Update(double done, double left, double now_s) {
  if (!start_s_) {
    start_s_ = now_s;
    start_done_ = done;
  }
  elapsed_s_ = now_s - *start_s_;
  rate_ = elapsed_s_ > 0 ? (done - start_done_) / elapsed_s_ : 0;
  left_ = left;
}

std::optional<double> TimeLeft::seconds() const {
  if (elapsed_s_ < kLeastSeconds || !(rate_ > 0)) return std::nullopt;
  return left_ / rate_;
}

void SweepScreen::Say(const std::string& line) {
  Clear();
  std::fputs((line + "\n").c_str(), out_);
  std::fflush(out_);
}

void SweepScreen::Show(const std::string& line) {
  if (columns_ == 0) return;
  const std::string cut = line.substr(0, static_cast<size_t>(std::max(1, columns_ - 1)));
  if (cut == shown_) return;
  Clear();
  shown_ = cut;
  std::fputs(shown_.c_str(), out_);
  std::fflush(out_);
}

void SweepScreen::Clear() {
  if (!shown_.empty()) std::fputs("\r\x1b[K", out_);
  shown_.clear();
}

int OutputColumns() {
  winsize size{};
  if (isatty(STDOUT_FILENO) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace hearth
