#include "runtime/train/fill_weights.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/bfloat16.h"
#include "runtime/bench/repeated_weights.h"
#include "runtime/model/initialization.h"
#include "tests/unit/train/executor_case.h"

namespace hearth::test {
namespace {

std::vector<ExecutorCase> FillCases() {
  std::vector<ExecutorCase> cases;
  for (const char* backend : {"cpu", "split"}) {
    for (const char* memory : {"", "recompute: [block], offload: {optimizer: host}",
                               "offload: {optimizer: host}, resident_layers: 1"}) {
      for (const char* master : {"fp32", "bf16_stochastic"}) {
        for (int ranks : {1, 2}) {
          for (int threads : {1, 5}) {
            cases.push_back({backend, ranks, threads, memory, master});
          }
        }
      }
    }
  }
  return cases;
}

using Bits = std::vector<uint32_t>;

Bits BitsOf(const std::vector<float>& values, const std::string& type) {
  Bits bits;
  for (float value : values) {
    bits.push_back(std::bit_cast<uint32_t>(type == "fp32" ? value : ToFloat(ToBFloat16(value))));
  }
  return bits;
}

// Master weights by type and parameter, drawn one parameter at a time.
std::map<std::string, std::vector<Bits>> DrawBits(const ModelSpec& spec, uint64_t seed) {
  std::map<std::string, std::vector<Bits>> bits;
  for (const ParameterSpec& parameter : spec.parameters) {
    std::vector<float> values(static_cast<size_t>(parameter.elements()));
    InitialValues(parameter, seed, 0, values);
    for (const char* type : {"fp32", "bf16_stochastic"}) {
      bits[type].push_back(BitsOf(values, type));
    }
  }
  return bits;
}

TEST(FillMasterWeights, GivesTheSameBitsForAnyPlaceAndNumberOfThreads) {
  const ModelSetup model = SmallSetup();
  const auto expected = DrawBits(model.spec, 17);
  for (const ExecutorCase& c : FillCases()) {
    SCOPED_TRACE(c.Name());
    WithExecutor(c, model.spec, [&](InprocRank& rank, Executor& executor) {
      FillMasterWeights(executor, InitialWeights(model, 17));
      for (size_t index = 0; index < model.spec.parameters.size(); ++index) {
        const ParameterSpec& parameter = model.spec.parameters[index];
        std::vector<float> filled(static_cast<size_t>(parameter.elements()));
        GatherMaster(executor, rank.bootstrap, parameter, 0, filled);
        ASSERT_TRUE(BitsOf(filled, "fp32") == expected.at(c.master)[index]) << parameter.name;
      }
    });
  }
}

// Every element is asked for once, and what is told about it grows to all of them.
TEST(FillMasterWeights, AsksForEachElementOnceAndTellsHowMany) {
  const ModelSetup model = SmallSetup();
  for (const ExecutorCase& c :
       {ExecutorCase{.threads = 5}, ExecutorCase{.backend = "split", .threads = 5},
        ExecutorCase{.threads = 5, .memory = "offload: {optimizer: host}"}}) {
    SCOPED_TRACE(c.Name());
    std::vector<std::vector<std::atomic<int>>> asked;
    for (const ParameterSpec& parameter : model.spec.parameters) {
      asked.emplace_back(static_cast<size_t>(parameter.elements()));
    }
    int64_t told = 0, calls = 0;
    WithExecutor(c, model.spec, [&](InprocRank&, Executor& executor) {
      FillMasterWeights(
          executor,
          [&](size_t parameter, int64_t begin, std::span<float> out) {
            for (size_t i = 0; i < out.size(); ++i) {
              ++asked[parameter][static_cast<size_t>(begin) + i];
              out[i] = 1;
            }
          },
          [&](int64_t done, int64_t all) {
            EXPECT_GT(done, told);
            EXPECT_EQ(all, model.spec.ParameterCount());
            told = done;
            ++calls;
          });
    });
    EXPECT_EQ(told, model.spec.ParameterCount());
    EXPECT_GE(calls, std::ssize(model.spec.parameters));
    for (const auto& parameter : asked) {
      for (const auto& times : parameter) ASSERT_EQ(times.load(), 1);
    }
  }
}

// Of several pieces that fail, the first is told, whichever thread was the fastest.
TEST(FillMasterWeights, ThrowsWhatTheFirstPieceThatFailedHasThrown) {
  const ModelSetup model = SmallSetup();
  const ExecutorCase c{.threads = 8, .memory = "offload: {optimizer: host}"};
  for (int repeat = 0; repeat < 20; ++repeat) {
    WithExecutor(c, model.spec, [&](InprocRank&, Executor& executor) {
      std::atomic<int64_t> first{-1};
      const auto read = [&](size_t parameter, int64_t begin, std::span<float> out) {
        if (parameter == 0 && begin + std::ssize(out) > 200'000) {
          int64_t least = first.load();
          while ((least < 0 || begin < least) && !first.compare_exchange_weak(least, begin)) {
          }
          throw IoError(fmt::format("piece at {}", begin));
        }
      };
      try {
        FillMasterWeights(executor, read);
        FAIL() << "nothing was thrown";
      } catch (const IoError& error) {
        EXPECT_EQ(error.what(), fmt::format("piece at {}", first.load()));
        EXPECT_GT(first, 0);
        EXPECT_LE(first, 200'000);
      }
    });
  }
}

TEST(RepeatedWeights, DoNotDependOnTheRangeThatIsAsked) {
  const ModelSetup model = SmallSetup();
  const WeightReader read = RepeatedWeights(model.spec);
  for (size_t index = 0; index < model.spec.parameters.size(); ++index) {
    const ParameterSpec& parameter = model.spec.parameters[index];
    std::vector<float> whole(static_cast<size_t>(parameter.elements()));
    read(index, 0, whole);
    for (const int64_t begin : {int64_t{1}, parameter.elements() / 2, parameter.elements() - 1}) {
      std::vector<float> rest(static_cast<size_t>(parameter.elements() - begin));
      read(index, begin, rest);
      EXPECT_EQ(std::memcmp(rest.data(), whole.data() + begin, rest.size() * sizeof(float)), 0)
          << parameter.name << " from " << begin;
    }
  }
}

}  // namespace
}  // namespace hearth::test
