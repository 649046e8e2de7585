#include "runtime/plan/simulation.h"

#include <algorithm>
#include <limits>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr int kNone = -1;

class Simulation {
 public:
  Simulation(const Schedule& schedule, const std::vector<TaskPrice>& prices)
      : tasks_(schedule.tasks),
        prices_(prices),
        left_(tasks_.size()),
        cause_(tasks_.size(), kNone) {
    CHECK(tasks_.size() == prices.size(), "{} tasks with {} prices", tasks_.size(), prices.size());
    step_.spans.resize(tasks_.size());
    ended_.resize(tasks_.size());
    for (const Task& task : tasks_) {
      queue_[static_cast<size_t>(task.stream)].push_back(task.id);
      left_[static_cast<size_t>(task.id)] = prices_[static_cast<size_t>(task.id)].seconds;
    }
  }

  SimulatedStep Run() {
    Start();
    while (IsRunning()) {
      Advance();
      Start();
    }
    for (size_t stream = 0; stream < queue_.size(); ++stream) {
      CHECK(next_[stream] == queue_[stream].size(), "a schedule that waits for itself");
    }
    WalkBack();
    return std::move(step_);
  }

 private:
  bool IsRunning() const {
    return std::any_of(running_.begin(), running_.end(), [](int task) { return task != kNone; });
  }

  // Whether all that the task waits for has ended.
  bool IsFree(const Task& task) const {
    return std::all_of(task.waits.begin(), task.waits.end(),
                       [&](int wait) { return ended_[static_cast<size_t>(wait)]; });
  }

  void Start() {
    for (size_t stream = 0; stream < queue_.size(); ++stream) {
      if (running_[stream] != kNone || next_[stream] == queue_[stream].size()) continue;
      const int id = queue_[stream][next_[stream]];
      const Task& task = tasks_[static_cast<size_t>(id)];
      if (!IsFree(task)) continue;
      running_[stream] = id;
      step_.spans[static_cast<size_t>(id)].begin = now_;
      // What let it begin: of the stream's task before and those it waited for, the last to end.
      int cause = next_[stream] > 0 ? queue_[stream][next_[stream] - 1] : kNone;
      for (int wait : task.waits) {
        if (cause == kNone || End(wait) > End(cause)) cause = wait;
      }
      cause_[static_cast<size_t>(id)] = cause;
    }
  }

  double End(int task) const { return step_.spans[static_cast<size_t>(task)].end; }

  // Of what runs, by stream: all gain speed together until a resource is used up, which settles
  // those that use it; the others gain further.
  std::array<double, kStreamCount> Speeds() const {
    std::array<double, kStreamCount> speed{};
    std::array<double, kSharedResourceCount> left{};
    left.fill(1);
    std::vector<size_t> gaining;
    for (size_t stream = 0; stream < running_.size(); ++stream) {
      if (running_[stream] != kNone) gaining.push_back(stream);
    }
    for (double level = 0; !gaining.empty();) {
      std::array<double, kSharedResourceCount> wanted{};
      for (size_t stream : gaining) {
        for (size_t r = 0; r < wanted.size(); ++r) wanted[r] += UseOf(stream, r);
      }
      size_t narrowest = wanted.size();
      double gain = 1 - level;
      for (size_t r = 0; r < wanted.size(); ++r) {
        if (!(wanted[r] * gain > left[r])) continue;
        narrowest = r;
        gain = left[r] / wanted[r];
      }
      level += gain;
      for (size_t r = 0; r < wanted.size(); ++r)
        left[r] = std::max(0.0, left[r] - gain * wanted[r]);
      std::erase_if(gaining, [&](size_t stream) {
        const bool settles = narrowest == wanted.size() || UseOf(stream, narrowest) > 0;
        if (settles) speed[stream] = level;
        return settles;
      });
    }
    return speed;
  }

  double UseOf(size_t stream, size_t resource) const {
    return prices_[static_cast<size_t>(running_[stream])].use[resource];
  }

  void Advance() {
    const std::array<double, kStreamCount> speed = Speeds();
    double until = std::numeric_limits<double>::infinity();
    for (size_t stream = 0; stream < running_.size(); ++stream) {
      if (running_[stream] == kNone) continue;
      until = std::min(until, left_[static_cast<size_t>(running_[stream])] / speed[stream]);
    }
    now_ += until;
    for (size_t stream = 0; stream < running_.size(); ++stream) {
      if (running_[stream] == kNone) continue;
      const auto id = static_cast<size_t>(running_[stream]);
      const bool ends = left_[id] / speed[stream] <= until;
      left_[id] -= until * speed[stream];
      step_.busy[stream] += until;
      if (ends) Finish(stream);
    }
  }

  void Finish(size_t stream) {
    const auto id = static_cast<size_t>(running_[stream]);
    step_.spans[id].end = now_;
    ended_[id] = true;
    running_[stream] = kNone;
    ++next_[stream];
    step_.seconds = now_;
    last_ = static_cast<int>(id);
  }

  void WalkBack() {
    for (int id = last_; id != kNone; id = cause_[static_cast<size_t>(id)]) {
      const TaskSpan& span = step_.spans[static_cast<size_t>(id)];
      step_.critical[static_cast<size_t>(tasks_[static_cast<size_t>(id)].stream)] +=
          span.end - span.begin;
    }
  }

  const std::vector<Task>& tasks_;
  const std::vector<TaskPrice>& prices_;
  std::vector<double> left_;  // seconds at full speed, by task
  std::vector<int> cause_;    // by task
  std::vector<bool> ended_;
  std::array<std::vector<int>, kStreamCount> queue_;
  std::array<size_t, kStreamCount> next_{};
  std::array<int, kStreamCount> running_ = [] {
    std::array<int, kStreamCount> none{};
    none.fill(kNone);
    return none;
  }();
  double now_ = 0;
  int last_ = kNone;
  SimulatedStep step_;
};

}  // namespace

SimulatedStep Simulate(const Schedule& schedule, const std::vector<TaskPrice>& prices) {
  return Simulation(schedule, prices).Run();
}

}  // namespace hearth
