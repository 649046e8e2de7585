#include "launcher/hostfile.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr size_t kMaxHosts = 1024;
constexpr int kMaxSlots = 1024;

struct Word {
  std::string_view text;
  size_t column = 0;  // 1-based
};

std::vector<Word> SplitWords(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r";
  line = line.substr(0, line.find('#'));
  std::vector<Word> words;
  for (size_t begin = line.find_first_not_of(kBlanks); begin != std::string_view::npos;) {
    const size_t end = std::min(line.find_first_of(kBlanks, begin), line.size());
    words.push_back({.text = line.substr(begin, end - begin), .column = begin + 1});
    begin = line.find_first_not_of(kBlanks, end);
  }
  return words;
}

bool IsHostName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-';
  };
  // A leading '-' would be an option of whatever program gets the name.
  return name.size() <= 253 && name[0] != '-' && std::all_of(name.begin(), name.end(), allowed);
}

// "slots=N"; 0 when it is anything else.
int ParseSlots(std::string_view word) {
  constexpr std::string_view kKey = "slots=";
  if (word.substr(0, kKey.size()) != kKey) return 0;
  word.remove_prefix(kKey.size());
  int slots = 0;
  const auto parsed = std::from_chars(word.data(), word.data() + word.size(), slots);
  const bool whole = parsed.ec == std::errc() && parsed.ptr == word.data() + word.size();
  return whole && slots >= 1 && slots <= kMaxSlots ? slots : 0;
}

}  // namespace

std::vector<HostEntry> ParseHostfile(std::string_view text, const std::string& file_name) {
  std::vector<HostEntry> hosts;
  int64_t line_number = 0;
  const auto fail = [&](const Word& word, std::string_view what) {
    throw ConfigError(
        fmt::format("{}:{}:{}: error: {}", file_name, line_number, word.column, what));
  };
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::vector<Word> words = SplitWords(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (words.empty()) continue;
    if (words[0].text.find(':') != std::string_view::npos) {
      fail(
          words[0],
          "':' in a host's name; write its ranks as slots=N, and for an IPv6 address, which mpirun "
          "does not take, a name");
    }
    if (!IsHostName(words[0].text)) fail(words[0], "not a host name; write HOST slots=N");
    HostEntry host{.name = std::string(words[0].text), .slots = 1};
    if (words.size() > 1) host.slots = ParseSlots(words[1].text);
    if (host.slots == 0) {
      fail(words[1], fmt::format("not a number of ranks from 1 to {}; write slots=N", kMaxSlots));
    }
    if (words.size() > 2) fail(words[2], "more than a host and its slots; write HOST slots=N");
    for (const HostEntry& other : hosts) {
      if (other.name == host.name) fail(words[0], "named twice; give it one line with all slots");
    }
    if (hosts.size() == kMaxHosts) fail(words[0], fmt::format("more than {} hosts", kMaxHosts));
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) {
    throw ConfigError(fmt::format("{}: error: no hosts; write one HOST slots=N a line", file_name));
  }
  return hosts;
}

std::vector<HostEntry> ReadHostfile(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw ConfigError(fmt::format("{}: error: the hostfile cannot be read", file));
  return ParseHostfile(std::string(std::istreambuf_iterator<char>(in), {}), file);
}

std::string FormatHostfile(const std::vector<HostEntry>& hosts) {
  std::string text;
  for (const HostEntry& host : hosts) text += fmt::format("{} slots={}\n", host.name, host.slots);
  return text;
}

bool AreLocal(const std::vector<HostEntry>& hosts) {
  std::array<char, 256> own{};
  gethostname(own.data(), own.size() - 1);
  return std::all_of(hosts.begin(), hosts.end(), [&](const HostEntry& host) {
    return host.name == "localhost" || host.name == "127.0.0.1" || host.name == own.data();
  });
}

int TotalSlots(const std::vector<HostEntry>& hosts) {
  int slots = 0;
  for (const HostEntry& host : hosts) slots += host.slots;
  return slots;
}

}  // namespace hearth
