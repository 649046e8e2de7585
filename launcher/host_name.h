// What this host calls itself, and how two of one name are told apart.
#pragma once

#include <string>

namespace hearth {

std::string HostName();

// The name and, in a second line, the number that the running kernel gave itself when it booted:
// machines that were never named, or were copied, differ in it. Hosts with a kernel in common
// (containers) differ in their names alone.
std::string HostIdentity();

}  // namespace hearth
