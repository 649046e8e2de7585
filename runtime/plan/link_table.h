// What the links between the ranks of a host gave when `hearth probe` measured them: data, its
// text, and what follows from it. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

// Where it was measured. The figures of one machine say nothing of another.
struct LinkMachine {
  std::string host;
  std::string driver;                // of the GPUs; "" without
  std::string program;               // the version of Hearth
  std::vector<std::string> devices;  // by rank: a GPU's identity, or the name of the CPU
  bool operator==(const LinkMachine&) const = default;
};

// One direction between two ranks, by one way.
struct LinkDirection {
  int from = 0;
  int to = 0;
  std::string way;           // "copy_engine, host"; as in LinkFigure
  std::string problem;       // why the way cannot be used; "" where the data came whole
  double gb_per_s = 0;       // 10^9 bytes
  double both_gb_per_s = 0;  // while the other direction was under way too; 0: not measured
  bool operator==(const LinkDirection&) const = default;
};

// A collective of all ranks.
struct LinkFigure {
  std::string operation;  // "all-gather", "reduce-scatter", "all-reduce"
  std::string way;        // "mpi", "copy_engine", "copy_engine, host", "nccl"
  int64_t bytes = 0;      // of all ranks' ranges together
  double microseconds = 0;
  bool operator==(const LinkFigure&) const = default;
};

// A way that cannot be used, or must not.
struct LinkProblem {
  std::string way;
  std::string problem;
  bool operator==(const LinkProblem&) const = default;
};

struct LinkTable {
  LinkMachine machine;
  std::string device;  // for people: "NVIDIA H200"
  std::vector<LinkDirection> directions;
  std::vector<LinkFigure> figures;
  std::vector<LinkProblem> problems;
  int ranks() const { return static_cast<int>(machine.devices.size()); }
  bool operator==(const LinkTable&) const = default;
};

// IoError, "FILE:LINE:COLUMN: error: ..." in one line, for what LinkTableText has not written.
LinkTable ParseLinkTable(std::string_view text, const std::string& file);
// JSON, which a YAML reader takes too.
std::string LinkTableText(const LinkTable& table);

// A JSON string of a host's or a device's name, which have none but printable ASCII; what is not is
// '?'.
std::string QuotedName(std::string_view text);

// "2 ranks on one NVIDIA H200": for people, by what each rank's device is called and which one it
// is.
std::string DescribeRanks(const std::string& device, const std::vector<std::string>& identities);

// Why a table of `there` must not be used `here`; "" when it may.
std::string WhyStale(const LinkMachine& there, const LinkMachine& here);

// Collectives of an operation of up to so many bytes, of all ranks' ranges together, go by a way.
struct WayRule {
  std::string operation;
  int64_t up_to_bytes = INT64_MAX;
  std::string way;
  bool operator==(const WayRule&) const = default;
};

// The measured best of the allowed ways, rules of an operation in rising order. Between two sizes
// the limit is their geometric mean. What is best for the largest all-gather takes all for which
// nothing else is a tenth faster: each further way is a communicator with memory of its own. Empty
// where an operation was measured by none of the allowed ways.
std::vector<WayRule> ChooseWays(const LinkTable& table, const std::vector<std::string>& allowed);

// "all-gather by copy_engine; all-reduce by mpi up to 4096 bytes, then copy_engine".
std::string Describe(const std::vector<WayRule>& rules);

}  // namespace hearth
