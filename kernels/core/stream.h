// Queues of device work, and the points at which they wait for each other and for the host.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

namespace hearth {

// A point in a stream's work. A wait on an event that was never recorded returns at once (CUDA's
// rule, kept by every backend), so an event cannot stand for something the host will do later.
class Event {
 public:
  virtual ~Event() = default;
  // True when everything before the last Record has finished, or nothing was recorded.
  virtual bool Done() const = 0;
  // From the moment the device reached `earlier` to the moment it reached this one; negative where
  // that was the later. Both are timed (Device::CreateTimedEvent), recorded and Done.
  virtual double SecondsSince(const Event& earlier) const = 0;
};

// A 32-bit word both sides see: the host sets it and a stream waits, or the other way round.
// Values compare cyclically: a wait for v ends when (int32)(word - v) >= 0. Thread-safe.
class HostSignal {
 public:
  virtual ~HostSignal() = default;
  virtual void Set(uint32_t value) = 0;
  virtual uint32_t value() const = 0;
  // Ends every present and later wait for this signal with the error, so that nothing hangs on what
  // will never happen: a waiting stream keeps it like an error of its work, WaitFor throws it. The
  // first error stays.
  virtual void Fail(std::exception_ptr error) = 0;
  // Host side. Waits until the word reaches `value`; false after the timeout.
  virtual bool WaitFor(uint32_t value, std::chrono::milliseconds timeout) const = 0;
};

// A FIFO of work. Enqueueing never blocks on the work itself. An error inside the work is kept and
// thrown by the next call of Synchronize on that stream. One host thread uses a stream at a time.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual const std::string& name() const = 0;
  virtual void Record(Event& event) = 0;
  virtual void Wait(const Event& event) = 0;
  // Work after this starts when the host (or another stream) has set the signal to `value`.
  virtual void Wait(const HostSignal& signal, uint32_t value) = 0;
  // Sets the signal when everything before has finished.
  virtual void Signal(HostSignal& signal, uint32_t value) = 0;
  // Blocks the host until all work has finished; DeviceError naming the stream after the timeout.
  virtual void Synchronize(std::chrono::milliseconds timeout) = 0;
};

// Work recorded once by Device::Capture and replayed as a whole.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void Launch(Stream& stream) = 0;
};

}  // namespace hearth
