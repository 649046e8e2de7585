#include "runtime/train/boxes.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/check.h"
#include "runtime/checkpoint/find_checkpoint.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/data/hashing.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

// How often those who wait hear that there is something to wait for.
constexpr std::chrono::seconds kTickInterval{1};
constexpr std::byte kWaitOn{0};
constexpr std::byte kReady{1};
constexpr int64_t kPieceBytes = int64_t{4} << 20;

bool IsInFirstBox(const RunEnvironment& environment) {
  return !environment.links || environment.links->peers.rank() == 0;
}

// Rank 0's text, everywhere.
std::string Tell(const RunEnvironment& environment, const std::string& text) {
  return ToText(environment.bootstrap.Broadcast(ToBytes(text), 0));
}

bool AllEqual(const std::vector<Bytes>& all) {
  return std::all_of(all.begin(), all.end(),
                     [&](const Bytes& theirs) { return theirs == all.front(); });
}

void CopyPiece(Executor& executor, Bootstrap& peers, const TensorView& piece) {
  Bytes bytes(static_cast<size_t>(piece.bytes()));
  executor.transfer().Download(piece, bytes.data());
  const Hash128 hash = Xxh3Hash128(std::span<const std::byte>(bytes));
  Bytes mine(sizeof(hash));
  std::memcpy(mine.data(), &hash, sizeof(hash));
  if (AllEqual(peers.AllGather(mine))) return;
  const Bytes first = peers.Broadcast(bytes, 0);
  CHECK(first.size() == bytes.size(), "{} bytes of state for {}", first.size(), bytes.size());
  if (peers.rank() != 0) executor.transfer().Upload(first.data(), piece);
}

// FindCheckpoint by the first box, for all.
std::unique_ptr<Checkpoint> ReadTogether(const ResolvedConfig& resolved,
                                         const RunEnvironment& environment) {
  std::unique_ptr<Checkpoint> checkpoint;
  const auto progress = [&] { environment.heartbeat.Progress(0, RunPhase::kLoading); };
  InFirstBox(environment, progress, [&](const std::function<void()>& tick) {
    Bootstrap& readers = environment.links ? environment.links->box : environment.bootstrap;
    checkpoint =
        FindCheckpoint(resolved, readers, {.threads = environment.host_threads, .progress = tick});
  });
  if (!environment.links) return checkpoint;
  const std::string folder = Tell(environment, checkpoint ? checkpoint->folder().string() : "");
  const std::string manifest =
      Tell(environment, checkpoint ? ManifestText(checkpoint->manifest()) : "");
  if (IsInFirstBox(environment) || folder.empty()) return checkpoint;
  return std::make_unique<Checkpoint>(folder, ParseManifest(manifest, folder));
}

}  // namespace

ModelSetup SetUpModelTogether(const ResolvedConfig& resolved, const RunEnvironment& environment) {
  const bool reads = IsInFirstBox(environment);
  ModelSetup setup;
  if (reads) setup = SetUpModel(resolved, environment.installed_configs);
  if (!environment.links) return setup;
  std::string config, pretrained;
  if (environment.bootstrap.rank() == 0) {
    config = HfConfigText(setup.loaded.config, WeightDType::kBF16);
    pretrained = setup.pretrained ? "yes" : "no";
  }
  config = Tell(environment, config);
  pretrained = Tell(environment, pretrained);
  if (reads) return setup;
  const std::string& name = resolved.config.model.name_or_path;
  setup.loaded.config = ParseHfConfig(JsonDocument::Parse(config, name));
  setup.loaded.config_file = name;
  setup.spec = BuildModelSpec(setup.loaded.config);
  setup.pretrained = pretrained == "yes";
  return setup;
}

void InFirstBox(const RunEnvironment& environment, const std::function<void()>& progress,
                const std::function<void(const std::function<void()>& tick)>& work) {
  if (!environment.links) return work(progress);
  Bootstrap& peers = environment.links->peers;
  if (peers.rank() != 0) {
    while (peers.Broadcast({}, 0) != Bytes{kReady}) progress();
    return;
  }
  auto told = std::chrono::steady_clock::now();
  work([&] {
    progress();
    const auto now = std::chrono::steady_clock::now();
    if (now - told < kTickInterval) return;
    told = now;
    peers.Broadcast({kWaitOn}, 0);
  });
  peers.Broadcast({kReady}, 0);
}

std::unique_ptr<Checkpoint> FindCheckpointTogether(const ResolvedConfig& given,
                                                   const RunEnvironment& environment) {
  ResolvedConfig resolved = given;
  if (environment.goes_on_from) resolved.config.checkpoint.resume = {};
  std::unique_ptr<Checkpoint> checkpoint = ReadTogether(resolved, environment);
  const int64_t step = checkpoint ? checkpoint->manifest().info.step : 0;
  if (step == environment.goes_on_from.value_or(step)) return checkpoint;
  throw IoError(
      fmt::format("{}: error: {} was written and cannot be read again; see to the disk, and start "
                  "the run once more: it goes on from {}",
                  resolved.config.output_dir, CheckpointName(*environment.goes_on_from),
                  step > 0 ? CheckpointName(step) : "its beginning"));
}

void CopyStateFromFirstBox(Executor& executor, const RunEnvironment& environment) {
  if (!environment.links) return;
  const auto units = static_cast<int>(executor.memory().spec.units.size());
  for (int unit = 0; unit < units; ++unit) {
    for (StateKind kind : {StateKind::kMaster, StateKind::kM, StateKind::kV}) {
      const TensorView home = executor.optimizer().Home(unit, kind);
      const int64_t elements = home.shape().elements();
      const int64_t step = kPieceBytes / SizeOf(home.dtype());
      for (int64_t begin = 0; begin < elements; begin += step) {
        CopyPiece(executor, environment.links->peers,
                  home.Rows(begin, std::min(step, elements - begin)));
        environment.heartbeat.Progress(0, RunPhase::kLoading);
      }
    }
  }
}

void RequireEqualData(const ResolvedConfig& resolved, std::string_view key,
                      const TokenDataset& data, const RunEnvironment& environment) {
  if (!environment.links || environment.links->box.rank() != 0) return;
  const std::vector<ShardHash> files = data.ShardHashes();
  std::string mine;
  for (const ShardHash& file : files) mine += fmt::format("{} {}\n", file.bytes, ToHex(file.hash));
  const std::vector<Bytes> all =
      environment.links->peers.AllGather(ToBytes(environment.links->host + "\n" + mine));
  const auto split = [](const Bytes& bytes) {
    const std::string text = ToText(bytes);
    const size_t end = text.find('\n');
    return std::pair(text.substr(0, end), text.substr(end + 1));
  };
  const auto [first_host, first] = split(all.front());
  for (const Bytes& theirs : all) {
    const auto [host, hashes] = split(theirs);
    if (hashes == first) continue;
    resolved.Fail(key,
                  fmt::format("the {} files on {} are not the same bytes in the same "
                              "order as those on {}; copy them, so that every host has equal ones",
                              std::count(hashes.begin(), hashes.end(), '\n'), host, first_host));
  }
}

}  // namespace hearth
