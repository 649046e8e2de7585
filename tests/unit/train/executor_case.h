// An executor with a small model, its state here or there, for tests of what fills it.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

#include "runtime/train/executor.h"
#include "runtime/train/run_setup.h"
#include "tests/support/inproc_world.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth::test {

// Matrices of several pieces of a transfer and of several turns of a thread, odd in size.
inline ModelSetup SmallSetup() {
  ModelConfig config = SmallConfig();
  config.vocab_size = 2001;
  config.hidden_size = 144;
  ModelSetup model;
  model.spec = BuildModelSpec(config);
  return model;
}

struct ExecutorCase {
  std::string backend = "cpu";
  int ranks = 1;
  int threads = 1;
  std::string memory;  // of run.yaml
  std::string master = "fp32";

  std::string Name() const {
    return fmt::format("{} {} ranks {} threads {} {}", backend, ranks, threads, memory, master);
  }
  Plan MakePlan(const ModelSpec& spec) const {
    return PlanOf({.more = fmt::format("precision: {{compute_dtype: bf16}}\n"
                                       "optimizer: {{master_dtype: {}}}\n"
                                       "parallel: {{zero_stage: 1}}\nmemory: {{{}}}\n",
                                       master, memory),
                   .training = fmt::format("global_batch_size: {}, micro_batch_size: 1", ranks),
                   .world = ranks},
                  spec);
  }
};

inline void WithExecutor(const ExecutorCase& c, const ModelSpec& spec,
                         const std::function<void(InprocRank& rank, Executor& executor)>& body) {
  RunInprocWorld({.ranks = c.ranks, .backend = c.backend}, [&](InprocRank& rank) {
    const Plan plan = c.MakePlan(spec);
    Executor executor(rank.backend, rank.communicator, plan, spec, rank.bootstrap.rank(),
                      {.host_threads = c.threads});
    rank.bootstrap.Barrier();
    body(rank, executor);
    rank.bootstrap.Barrier();
  });
}

}  // namespace hearth::test
