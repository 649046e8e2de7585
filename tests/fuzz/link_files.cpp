// The files of `hearth probe`.
#include "runtime/plan/host_rates.h"
#include "runtime/plan/link_table.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

int FuzzLinkTable(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const LinkTable table = ParseLinkTable(AsText(data, size), "links.json");
    RunAccepted("a table of links", [&] {
      const std::string text = LinkTableText(table);
      const LinkTable again = ParseLinkTable(text, "links.json");
      Require(LinkTableText(again) == text, "a table of links reads back as another");
      const std::vector<std::string> allowed = {"copy_engine", "copy_engine, host", "mpi", "nccl"};
      int64_t below = -1;
      std::string operation;
      for (const WayRule& rule : ChooseWays(table, allowed)) {
        if (rule.operation != operation) below = -1;
        operation = rule.operation;
        Require(rule.up_to_bytes > below, "rules of an operation that do not rise");
        below = rule.up_to_bytes;
      }
    });
  });
}

std::vector<std::string> LinkTableSeeds() {
  const LinkTable table{
      .machine = {.host = "box-1",
                  .driver = "580",
                  .program = "0.1",
                  .devices = {"GPU-a", "GPU-b"}},
      .device = "NVIDIA H200",
      .directions = {{.from = 0, .to = 1, .way = "copy_engine", .gb_per_s = 374.5},
                     {.from = 1, .to = 0, .way = "nccl", .problem = "hangs"}},
      .figures = {{"all-gather", "mpi", 65536, 27.5},
                  {"all-gather", "copy_engine", 1 << 20, 3},
                  {"reduce-scatter", "mpi", 65536, 28},
                  {"reduce-scatter", "copy_engine", 65536, 1},
                  {"all-reduce", "mpi", 2048, 4},
                  {"all-reduce", "copy_engine, host", 2048, 5}},
      .problems = {{"nccl", "rank 1 to 0: hangs"}}};
  return {LinkTableText(table), LinkTableText({.machine = {.devices = {"a"}}}), "{}"};
}

std::vector<std::string> LinkTableWords() {
  return {"\"links_version\"",
          "\"devices\"",
          "\"directions\"",
          "\"figures\"",
          "\"problems\"",
          "\"bytes\"",
          "\"us\"",
          "all-gather",
          "all-reduce",
          "copy_engine, host",
          "9223372036854775807",
          "1e308",
          "-1",
          "0",
          "null"};
}

int FuzzHostRates(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const HostRates rates = ParseHostRates(AsText(data, size), "host.json");
    RunAccepted("a host's rates", [&] {
      const std::string text = HostRatesText(rates);
      Require(HostRatesText(ParseHostRates(text, "host.json")) == text,
              "a host's rates read back as others");
      const HardwareProfile here = WithHost({}, rates, 3);
      Require(here.memory_gbps > 0 && here.adamw_gbps > 0 && here.adamw_stochastic_gbps > 0,
              "rates that are none");
    });
  });
}

std::vector<std::string> HostRatesSeeds() {
  return {HostRatesText({.host = "box-1",
                         .processor = "A CPU",
                         .program = "0.1",
                         .threads = 16,
                         .memory_gbps = 120.5,
                         .adamw_gbps = 100,
                         .adamw_stochastic_gbps = 60.25}),
          "{}"};
}

std::vector<std::string> HostRatesWords() {
  return {"\"host_version\"",
          "\"threads\"",
          "\"memory_gbps\"",
          "\"adamw_gbps\"",
          "1e308",
          "1e-320",
          "4e-324",
          "65536",
          "-1",
          "0",
          "null"};
}

}  // namespace hearth::test
