#include "kernels/cpu/cpu_stream.h"

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

bool Reached(uint32_t word, uint32_t value) { return static_cast<int32_t>(word - value) >= 0; }

void SetWord(CpuSignalWord& word, uint32_t value) {
  {
    std::lock_guard lock(word.mutex);
    word.value = value;
  }
  word.changed.notify_all();
}

// Waits under `lock` until the word has the value; throws when the signal failed instead.
template <typename WaitUntil>
bool AwaitWord(const CpuSignalWord& word, uint32_t value, const WaitUntil& wait_until) {
  const bool ended = wait_until([&] { return word.error || Reached(word.value, value); });
  if (word.error) std::rethrow_exception(word.error);
  return ended;
}

}  // namespace

std::shared_ptr<CpuRecord> CpuEvent::last() const {
  std::lock_guard lock(mutex_);
  return last_;
}

bool CpuEvent::Done() const {
  const std::shared_ptr<CpuRecord> record = last();
  if (record == nullptr) return true;
  std::lock_guard lock(record->mutex);
  return record->is_reached;
}

std::chrono::steady_clock::time_point CpuEvent::Time() const {
  const std::shared_ptr<CpuRecord> record = last();
  CHECK(timed_ && record != nullptr, "the time of an event: timed {}, recorded {}", timed_,
        record != nullptr);
  std::lock_guard lock(record->mutex);
  CHECK(record->is_reached, "the time of an event that is not reached");
  return record->time;
}

double CpuEvent::SecondsSince(const Event& earlier) const {
  const auto since = Time() - dynamic_cast<const CpuEvent&>(earlier).Time();
  return std::chrono::duration<double>(since).count();
}

void CpuHostSignal::Set(uint32_t value) { SetWord(*word_, value); }

uint32_t CpuHostSignal::value() const {
  std::lock_guard lock(word_->mutex);
  return word_->value;
}

bool CpuHostSignal::WaitFor(uint32_t value, std::chrono::milliseconds timeout) const {
  std::unique_lock lock(word_->mutex);
  return AwaitWord(*word_, value, [&](const auto& reached) {
    return word_->changed.wait_for(lock, timeout, reached);
  });
}

void CpuHostSignal::Fail(std::exception_ptr error) {
  {
    std::lock_guard lock(word_->mutex);
    if (!word_->error) word_->error = std::move(error);
  }
  word_->changed.notify_all();
}

CpuStream::CpuStream(std::string_view name) : name_(name), thread_([this] { Run(); }) {}

CpuStream::~CpuStream() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CpuStream::Push(Item item) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
  }
  changed_.notify_all();
}

void CpuStream::Enqueue(std::function<void()> work) {
  if (captured_ != nullptr) {
    captured_->push_back(std::move(work));
    return;
  }
  Push({std::move(work), false});
}

void CpuStream::Record(Event& event) {
  CHECK(captured_ == nullptr, "stream {}: an event may not be captured", name_);
  auto& cpu_event = dynamic_cast<CpuEvent&>(event);
  const auto record = std::make_shared<CpuRecord>();
  {
    std::lock_guard lock(cpu_event.mutex_);
    cpu_event.last_ = record;
  }
  Push({[record, timed = cpu_event.timed_] {
          {
            std::lock_guard lock(record->mutex);
            record->is_reached = true;
            if (timed) record->time = std::chrono::steady_clock::now();
          }
          record->changed.notify_all();
        },
        true});
}

void CpuStream::Wait(const Event& event) {
  CHECK(captured_ == nullptr, "stream {}: a wait may not be captured", name_);
  const std::shared_ptr<CpuRecord> record = dynamic_cast<const CpuEvent&>(event).last();
  if (record == nullptr) return;
  Push({[record] {
          std::unique_lock lock(record->mutex);
          record->changed.wait(lock, [&] { return record->is_reached; });
        },
        true});
}

void CpuStream::Wait(const HostSignal& signal, uint32_t value) {
  CHECK(captured_ == nullptr, "stream {}: a wait may not be captured", name_);
  auto word = dynamic_cast<const CpuHostSignal&>(signal).word_;
  Push({[word, value] {
          std::unique_lock lock(word->mutex);
          AwaitWord(*word, value, [&](const auto& reached) {
            word->changed.wait(lock, reached);
            return true;
          });
        },
        true});
}

void CpuStream::Signal(HostSignal& signal, uint32_t value) {
  CHECK(captured_ == nullptr, "stream {}: a signal may not be captured", name_);
  auto word = dynamic_cast<CpuHostSignal&>(signal).word_;
  Push({[word, value] { SetWord(*word, value); }, true});
}

void CpuStream::Synchronize(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const bool done = changed_.wait_for(lock, timeout, [this] { return queue_.empty() && !busy_; });
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  if (!done) {
    throw DeviceError(Format("stream {} did not finish within {} ms ({} items left)", name_,
                             timeout.count(), queue_.size()));
  }
}

void CpuStream::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Item item = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    if (item.always || !error_) {
      lock.unlock();
      std::exception_ptr error;
      try {
        item.work();
      } catch (...) {
        error = std::current_exception();
      }
      // What the work captured ends here, not under the lock.
      item.work = nullptr;
      lock.lock();
      if (error && !error_) error_ = error;
    }
    busy_ = false;
    if (queue_.empty()) changed_.notify_all();
  }
}

}  // namespace hearth
