#include "runtime/bench/links_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "comm/api/gather_texts.h"
#include "kernels/core/error.h"
#include "runtime/bench/links_timer.h"
#include "runtime/bench/matmul_load.h"
#include "runtime/plan/link_table.h"

namespace hearth {

namespace {

constexpr std::chrono::milliseconds kTimeout{60'000};
constexpr int64_t kShareUnit = 64;  // bytes that shares are multiples of
constexpr int64_t kSmallBytes = 1024;

class Bench {
 public:
  Bench(Bootstrap& bootstrap, KernelBackend& backend, const LinksBenchOptions& options)
      : bootstrap_(bootstrap),
        backend_(backend),
        options_(options),
        stream_(backend.device().CreateStream("links")) {
    int64_t most = kSmallBytes;
    for (int64_t bytes : options.bytes) {
      const std::vector<SlabRange> ranges = Shares(bytes);
      most = std::max(most, ranges.back().offset_bytes + ranges.back().bytes);
    }
    slab_ = backend.device().Allocate(most, MemoryKind::kDevice);
    out_ = backend.device().Allocate(DivUp(most, bootstrap.world()) + 2 * kShareUnit,
                                     MemoryKind::kDevice);
    backend.Zero(*stream_, {.destination = slab_.View(0, DType::kU8, {most})});
    stream_->Synchronize(kTimeout);
    if (options.matmul_size > 0) load_.emplace(bootstrap, backend, options.matmul_size);
  }

  LinksBenchResult Run() {
    LinksBenchResult result{.device = backend_.device().name(), .identities = Identities()};
    for (const LinksBenchWay& way : options_.ways) {
      if (way.make_bare_copies) {
        RunBareCopies(way, &result);
      } else {
        RunCommunicator(way, &result);
      }
    }
    return result;
  }

 private:
  std::vector<std::string> Identities() const {
    const std::optional<GpuInfo> gpu = backend_.device().gpu();
    const std::string mine = gpu ? gpu->identity : backend_.device().name();
    return GatherTexts(bootstrap_, mine);
  }

  std::vector<SlabRange> Shares(int64_t bytes) const {
    const int64_t share = RoundUp(DivUp(bytes, bootstrap_.world()), kShareUnit);
    std::vector<SlabRange> ranges;
    for (int rank = 0; rank < bootstrap_.world(); ++rank) {
      ranges.push_back({.offset_bytes = rank * share, .bytes = share});
    }
    return ranges;
  }

  // What every rank has made, or nothing on any of them.
  template <typename Made>
  std::unique_ptr<Made> MakeTogether(const std::string& name,
                                     const std::function<std::unique_ptr<Made>()>& make,
                                     LinksBenchResult* result) {
    std::unique_ptr<Made> made;
    std::string error;
    try {
      made = make();
    } catch (const ConfigError& refusal) {
      error = refusal.what();
    } catch (const CommError& refusal) {
      error = refusal.what();
    }
    const std::string why = GatherFirstText(bootstrap_, error);
    if (why.empty()) return made;
    result->left_out.push_back(fmt::format("{}: {}", name, why));
    return nullptr;
  }

  void RunBareCopies(const LinksBenchWay& way, LinksBenchResult* result) {
    const TensorView slab = slab_.View(0, DType::kU8, {slab_.bytes()});
    const auto copies = MakeTogether<BareCopies>(
        way.name, [&] { return way.make_bare_copies(slab); }, result);
    if (!copies) return;
    for (int64_t bytes : options_.bytes) {
      const std::vector<SlabRange> ranges = Shares(bytes);
      result->cases.push_back(
          Measure("all-gather", way.name, ranges, [&] { copies->Enqueue(*stream_, ranges); }));
    }
  }

  void RunCommunicator(const LinksBenchWay& way, LinksBenchResult* result) {
    const auto communicator = MakeTogether<Communicator>(
        way.name,
        [&] {
          auto made = way.make_communicator();
          made->RegisterSlab(slab_.View(0, DType::kU8, {slab_.bytes()}));
          return made;
        },
        result);
    if (!communicator) return;
    for (int64_t bytes : options_.bytes) {
      const std::vector<SlabRange> ranges = Shares(bytes);
      result->cases.push_back(Measure("all-gather", way.name, ranges, [&] {
        communicator->AllGather(*stream_, {.ranges = ranges});
      }));
      const ReduceScatterArgs reduce{
          .dtype = DType::kBF16,
          .ranges = ranges,
          .out = out_.View(0, DType::kBF16, {ranges[0].bytes / SizeOf(DType::kBF16)})};
      result->cases.push_back(Measure("reduce-scatter", way.name, ranges,
                                      [&] { communicator->ReduceScatter(*stream_, reduce); }));
    }
    const SlabRange small{.offset_bytes = 0, .bytes = kSmallBytes};
    const std::vector<SlabRange> everywhere(static_cast<size_t>(bootstrap_.world()), small);
    result->cases.push_back(Measure("all-reduce", way.name, everywhere,
                                    [&] { communicator->AllReduce(*stream_, {.range = small}); }));
  }

  LinksBenchCase Measure(const std::string& operation, const std::string& way,
                         const std::vector<SlabRange>& ranges,
                         const std::function<void()>& enqueue) {
    int64_t bytes = 0;
    for (const SlabRange& range : ranges) bytes += range.bytes;
    const double median =
        TimeTogether(bootstrap_, *stream_, {.repetitions = options_.repetitions}, enqueue);
    const double received = static_cast<double>(bytes - ranges[0].bytes);
    LinksBenchCase measured{.operation = operation,
                            .way = way,
                            .bytes = bytes,
                            .milliseconds = median * 1e3,
                            .gb_per_s = received / median / 1e9};
    if (load_ && bytes >= options_.bytes.back()) {
      measured.matmul_slowdown = load_->Slowdown(*stream_, median, enqueue);
    }
    return measured;
  }

  Bootstrap& bootstrap_;
  KernelBackend& backend_;
  const LinksBenchOptions& options_;
  Buffer slab_;
  Buffer out_;
  std::unique_ptr<Stream> stream_;
  std::optional<MatmulLoad> load_;
};

// That of the bare copies through the same memory, if it was measured.
const LinksBenchCase* BareCase(const LinksBenchResult& result, const LinksBenchCase& measured) {
  const bool through_host = measured.way.find("host") != std::string::npos;
  for (const LinksBenchCase& bare : result.cases) {
    const bool is_bare = bare.way.rfind("bare", 0) == 0;
    const bool is_through_host = bare.way.find("host") != std::string::npos;
    if (is_bare && is_through_host == through_host && bare.bytes == measured.bytes) return &bare;
  }
  return nullptr;
}

}  // namespace

LinksBenchResult BenchLinks(Bootstrap& bootstrap, KernelBackend& backend,
                            const LinksBenchOptions& options) {
  CHECK(bootstrap.world() > 1, "links between {} ranks", bootstrap.world());
  return Bench(bootstrap, backend, options).Run();
}

std::string ToText(const LinksBenchResult& result) {
  std::string text = fmt::format("{}\n\n{:16} {:22} {:>12} {:>12} {:>10} {:>9} {:>9}\n",
                                 DescribeRanks(result.device, result.identities), "operation",
                                 "way", "bytes", "us", "GB/s", "of bare", "matmul");
  nlohmann::ordered_json json = {{"bench", "links"},
                                 {"ranks", result.identities.size()},
                                 {"device", result.device},
                                 {"devices", result.identities},
                                 {"cases", nlohmann::ordered_json::array()},
                                 {"left_out", result.left_out}};
  for (const LinksBenchCase& c : result.cases) {
    const LinksBenchCase* bare = BareCase(result, c);
    nlohmann::ordered_json row = {{"operation", c.operation},
                                  {"way", c.way},
                                  {"bytes", c.bytes},
                                  {"ms", c.milliseconds},
                                  {"gb_per_s", c.gb_per_s}};
    std::string fraction;
    if (bare != nullptr && bare != &c) {
      fraction = fmt::format("{:.0f} %", 100 * c.gb_per_s / bare->gb_per_s);
      row["fraction_of_bare"] = c.gb_per_s / bare->gb_per_s;
    }
    std::string slowdown;
    if (c.matmul_slowdown) {
      slowdown = fmt::format("{:+.1f} %", 100 * *c.matmul_slowdown);
      row["matmul_slowdown"] = *c.matmul_slowdown;
    }
    json["cases"].push_back(row);
    fmt::format_to(std::back_inserter(text), "{:16} {:22} {:>12} {:>12.1f} {:>10.2f} {:>9} {:>9}\n",
                   c.operation, c.way, c.bytes, c.milliseconds * 1e3, c.gb_per_s, fraction,
                   slowdown);
  }
  for (const std::string& why : result.left_out) text += fmt::format("left out: {}\n", why);
  return text + "\n" + json.dump() + "\n";
}

}  // namespace hearth
