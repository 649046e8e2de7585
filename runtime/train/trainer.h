// The training loop: data, steps, evaluation, logging, saving, stopping.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "runtime/checkpoint/checkpoint_saver.h"
#include "runtime/checkpoint/find_checkpoint.h"
#include "runtime/data/data_loader.h"
#include "runtime/plan/run_stage.h"
#include "runtime/telemetry/device_peaks.h"
#include "runtime/telemetry/logger.h"
#include "runtime/train/fill_weights.h"
#include "runtime/train/machine_memory.h"
#include "runtime/train/run_plan.h"
#include "runtime/train/run_setup.h"
#include "runtime/train/speed_of_light.h"
#include "runtime/train/summary.h"

namespace hearth {

enum class RunEnd : uint8_t {
  kFinished,  // all steps done
  kStopped,   // asked to stop; everything saved
  // The steps in FP8 are done and saved; those in bf16 are for another Trainer, on a backend and a
  // communicator of its own, which goes on from there.
  kTurnsToBf16,
};

struct RunSummary {
  RunEnd end = RunEnd::kFinished;
  int64_t steps = 0;
  double last_loss = 0;
  std::optional<double> eval_loss;
  double tokens_per_second = 0;  // over the steps of this process
};

// A run that only computes, for measuring: it goes on from nothing, evaluates nothing, and leaves
// no folder, file or checkpoint behind.
struct TrainingRehearsal {
  std::shared_ptr<const TokenDataset> data;  // instead of the configuration's
  // Called when the devices have finished a step; the loss is the mean over its targets.
  std::function<void(int64_t step, double loss, const StepResult& result)> on_step;
  WeightReader weights = {};  // to begin with; empty: the configuration's
};

// One run on one rank, or what it has left: in FP8 and then bf16 (runtime/plan/run_stage.h) it
// takes two of them. Every rank makes the same calls.
class Trainer {
 public:
  Trainer(const ResolvedConfig& resolved, const RunEnvironment& environment,
          std::optional<TrainingRehearsal> rehearsal = std::nullopt);
  ~Trainer();

  // From the start, or the newest checkpoint, to the end of the run or of this stage.
  RunSummary Run();

  Executor& executor() { return *executor_; }
  const Plan& plan() const { return plan_; }
  // What `auto` came to mean, by key.
  const KeyValues& chosen() const { return decided_.run.values; }
  const MachineMemory& machine() const { return machine_; }
  const MemoryLimits& limits() const { return limits_; }
  // Rank 0's, where the hardware is known.
  const std::optional<StepEstimate>& predicted() const { return predicted_; }
  const StartSeconds& start_seconds() const { return start_seconds_; }

 private:
  // What the ranks tell each other before a step.
  struct StepHeader {
    int64_t targets = 0;
    int32_t stop = 0;
    int32_t save = 0;
    int32_t written = 0;  // of the save under way, everybody's part
    int32_t padding = 0;
  };

  bool IsRoot() const { return environment_.bootstrap.rank() == 0; }
  bool IsLastStage() const { return stage_.last_step == total_steps_; }
  void Prepare(const ResolvedConfig& given);
  // Refuses a run whose last steps will not fit, before its first ones begin.
  void CheckFinish(const ResolvedConfig& given) const;
  void FillState();
  // This rank's part of the checkpoint or of the first weights; calls `tick` now and then.
  void ReadState(const std::function<void()>& tick);
  WeightReader FirstWeights() const;
  // Tells the watchers how far they are.
  FillProgress WatchWeights() const;
  // Everything a backend prepares at first use, and the choice of matmul algorithms.
  void WarmUp();
  void StartLoader();
  void StartSaver();
  void WriteRunFiles() const;
  // Of this stage.
  std::filesystem::path PlanPath() const;
  // The devices of the run, for people.
  std::string DescribeDevices() const;
  void PrintStart() const;
  // What follows this stage; "" behind the last one.
  std::string DescribeFinish() const;
  // How fast this one was.
  std::string DescribeStage() const;
  // Where the device's peak is known.
  std::optional<Efficiency> EfficiencyAt(double tokens_per_second) const;
  void OpenLogger();
  StepHeader Agree();
  // Hands the loader's next batch to the executor.
  void StageNext();
  void Step(int64_t step, const StepHeader& header);
  void SkipEmptyStep(int64_t step);
  void HandleNonFinite(int64_t step, double loss, float grad_norm);
  void LogStep(int64_t step, const StepResult& result, double loss, double seconds);
  // What the step that runs now does to the device, where it will be logged.
  void LookAtDevice(int64_t step);
  bool IsLogged(int64_t step) const;
  bool IsTraced(int64_t step) const;
  // This rank's timeline of the step; a failure is a warning.
  void WriteStepTrace(int64_t step, const StepResult& result);
  // Of every rank, since all have a part in it.
  bool LogsAmax(int64_t step) const;
  void Evaluate(int64_t step);
  bool EvaluationIsDue(int64_t step) const;
  CheckpointInfo MakeInfo(int64_t step) const;
  // Begins a save, after the end of the one before; done on return unless it is asynchronous. A
  // failure is a warning.
  void Save(int64_t step);
  void FinishSave();
  // The checkpoint of the step is there on return; IoError where that fails.
  void RequireSaved(int64_t step);
  bool SaveIsDue(int64_t step) const;
  // The one that led to this stage, now that the run has its last one; a failure is a warning.
  void RemoveStageCheckpoint() const;
  void Finish(int64_t step);
  EndOfRun MakeEnd() const;
  // What a step took, once more than one was made; the middle one of the latest.
  std::optional<double> UsualStepSeconds() const;
  // What was predicted and what came of it: of the last step's record, and behind plan.yaml.
  std::vector<std::pair<std::string, StepValue>> PredictionFigures() const;
  void CompletePlanFile() const;

  const RunEnvironment& environment_;
  const std::optional<TrainingRehearsal> rehearsal_;
  const ModelSetup model_;
  std::unique_ptr<Checkpoint> checkpoint_;  // to go on from; gone when it is loaded
  const std::shared_ptr<const TokenDataset> data_;
  const int64_t total_steps_;  // of the whole run
  const RunStage stage_;
  const MachineMemory machine_;
  const MemoryLimits limits_;
  const DecidedPlan decided_;      // of the stage, behind what the checkpoint decides
  const ResolvedConfig resolved_;  // of the run, with all that was decided
  const Hash128 config_hash_;      // of the configuration as given
  const Plan plan_;
  std::shared_ptr<const TokenDataset> eval_data_;
  int64_t first_step_ = 1;
  bool resumed_ = false;
  std::string saved_matmuls_;  // the checkpoint's table of matmul algorithms
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<CheckpointSaver> saver_;
  std::unique_ptr<DataLoader> loader_;
  std::optional<int64_t> staged_targets_;  // of this rank, in the batch that is staged
  std::optional<DeviceHealth> health_;     // while the last logged step ran
  std::unique_ptr<Logger> logger_;         // rank 0
  int64_t skipped_steps_ = 0;
  int64_t saving_step_ = -1;  // of the save under way
  int64_t saved_step_ = -1;
  std::string save_error_;  // of the last save
  const std::optional<DevicePeaks> peaks_;
  std::optional<StepEstimate> predicted_;  // rank 0, where the hardware is known
  StartSeconds start_seconds_;
  double stepping_seconds_ = 0;
  std::vector<double> step_seconds_;  // of the latest steps
  int64_t stepped_tokens_ = 0;
  std::chrono::steady_clock::time_point last_save_;
  RunSummary summary_;
};

}  // namespace hearth
