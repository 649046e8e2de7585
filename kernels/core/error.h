// Exception types. Each failure a user can meet is one of these; the launcher's rank entry is the
// only place that catches them.
#pragma once

#include <stdexcept>
#include <string>

namespace hearth {

// A wrong file, key, value or command line. The message is complete: place, what is wrong, remedy.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A run that does not fit a memory or disk budget (exit code 3).
class BudgetError : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

// A device, its memory or one of its libraries failed.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A rank, a link or a collective failed or did not answer in time.
class CommError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A file could not be read or written, or its content is damaged.
class IoError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A broken invariant of Hearth itself, thrown by CHECK.
class CheckError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

}  // namespace hearth
