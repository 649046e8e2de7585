// Hostfiles: one host a line, "host slots=N".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct HostEntry {
  std::string name;  // a name or IPv4 address, of letters, digits, '.' and '-'
  int slots = 1;
};

// Reads a hostfile: blank lines and comments (#) aside, each line is a host with an optional number
// of ranks. ConfigError "FILE:LINE:COLUMN: error: ..." for anything else.
std::vector<HostEntry> ParseHostfile(std::string_view text, const std::string& file_name);

// ParseHostfile of a file. ConfigError also where it cannot be read.
std::vector<HostEntry> ReadHostfile(const std::string& file);

// The same in mpirun's form.
std::string FormatHostfile(const std::vector<HostEntry>& hosts);

// Whether all of them are this host.
bool AreLocal(const std::vector<HostEntry>& hosts);

int TotalSlots(const std::vector<HostEntry>& hosts);

}  // namespace hearth
