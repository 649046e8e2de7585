// The CPU's streams: each one a real thread, so that a missing wait is a data race a sanitizer sees
// and not an accident of execution order.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/stream.h"

namespace hearth {

// One Record of an event: shared by the stream that reaches it and everybody who waits for it.
struct CpuRecord {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_reached = false;
  std::chrono::steady_clock::time_point time;  // of a timed event that is reached
};

// Stands for its last record; who waits for an earlier one keeps that.
class CpuEvent final : public Event {
 public:
  explicit CpuEvent(bool timed = false) : timed_(timed) {}
  bool Done() const override;
  double SecondsSince(const Event& earlier) const override;

 private:
  friend class CpuStream;
  std::shared_ptr<CpuRecord> last() const;  // null before the first
  std::chrono::steady_clock::time_point Time() const;

  const bool timed_;
  mutable std::mutex mutex_;
  std::shared_ptr<CpuRecord> last_;
};

struct CpuSignalWord {
  std::mutex mutex;
  std::condition_variable changed;
  uint32_t value = 0;
  std::exception_ptr error;
};

class CpuHostSignal final : public HostSignal {
 public:
  CpuHostSignal() : word_(std::make_shared<CpuSignalWord>()) {}
  void Set(uint32_t value) override;
  uint32_t value() const override;
  void Fail(std::exception_ptr error) override;
  bool WaitFor(uint32_t value, std::chrono::milliseconds timeout) const override;

 private:
  friend class CpuStream;
  std::shared_ptr<CpuSignalWord> word_;
};

class CpuStream final : public Stream {
 public:
  explicit CpuStream(std::string_view name);
  ~CpuStream() override;

  const std::string& name() const override { return name_; }
  void Record(Event& event) override;
  void Wait(const Event& event) override;
  void Wait(const HostSignal& signal, uint32_t value) override;
  void Signal(HostSignal& signal, uint32_t value) override;
  void Synchronize(std::chrono::milliseconds timeout) override;

  // Appends work; while capturing, to the captured list instead. After an error later work is
  // dropped (waits and signals still pass, so that other streams do not hang).
  void Enqueue(std::function<void()> work);

 private:
  friend class CpuDevice;
  struct Item {
    std::function<void()> work;
    bool always = false;  // bookkeeping that runs even after an error
  };
  void Push(Item item);
  void Run();

  const std::string name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;
  std::exception_ptr error_;
  bool busy_ = false;
  bool stopping_ = false;
  std::vector<std::function<void()>>* captured_ = nullptr;
  std::thread thread_;
};

}  // namespace hearth
