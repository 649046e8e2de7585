// Questions that may never be answered (a dead network disk, a sick driver), asked by a child
// process that can be given up.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace hearth {

// What `question` returns in a forked child, at most 64 KiB of it; nullopt when it does not return
// in time, throws or ends the child. To be called where there are no other threads.
std::optional<std::string> AskChild(const std::function<std::string()>& question,
                                    std::chrono::milliseconds timeout);

}  // namespace hearth
