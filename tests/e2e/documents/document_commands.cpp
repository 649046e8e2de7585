#include "tests/e2e/documents/document_commands.h"

namespace hearth::test {

namespace {

constexpr const char* kSmallQuickstart =
    "sed -i -e 's/max_steps: 1000/max_steps: 10/' -e 's/warmup_steps: 30/warmup_steps: 1/' "
    "-e 's/eval_max_batches: null/eval_max_batches: 2/' -e 's/sequence_len: 256/sequence_len: "
    "32/' "
    "configs/runs/quickstart.yaml && "
    "sed -i -e 's/4194304/65536/' -e 's/max-tokens 300/max-tokens 20/' cmake/quickstart.sh && "
    "make -o build CUDA=off quickstart";

}  // namespace

const std::vector<Placeholder>& Placeholders() {
  static const std::vector<Placeholder> placeholders = {
      {R"(\bRUN\.yaml)", "run.yaml"},   {R"(\bSWEEP\.yaml)", "sweep.yaml"},
      {R"(\bruns/NAME\b)", "runs/run"}, {R"(\bRUN\b)", "runs/run"},
      {R"(\bFOLDER\b)", "model"},       {R"(\bCHECKPOINT\b)", "runs/run/checkpoint-2"},
      {R"(\bDIR\b)", "exported"},       {R"(\bCOMMAND\b)", "generate"},
  };
  return placeholders;
}

const std::vector<Scene>& Scenes() {
  static const std::vector<Scene> scenes = {
      {"docs/pre-training.md", "rm -r runs"},
      {"docs/report.md",
       "cp -r runs/run runs/quickstart && cp -r runs/run runs/another && "
       "hearth sweep sweep.yaml && mv runs/sweep runs/learning-rate"},
      {"docs/fine-tuning.md", "rm -r model"},
      {"cluster/README.md", "sed -i s/slots=8/slots=1/ cluster/hostfile.example"},
  };
  return scenes;
}

const std::vector<ChangedCommand>& ChangedCommands() {
  static const std::vector<ChangedCommand> changed = {
      // The program is built; what follows the build is the Makefile's own.
      {"make quickstart", kSmallQuickstart},
      {"make install",
       "make -o build CUDA=off install DESTDIR=$PWD/stage && stage/usr/local/bin/hearth --version"},
      {"make install PREFIX=/usr/local",
       "make -o build CUDA=off install PREFIX=/usr/local DESTDIR=$PWD/stage && "
       "stage/usr/local/bin/hearth --version"},
      {"build/hearth prepare --input '/usr/share/common-licenses/*' '/usr/share/doc/*/copyright' "
       "--output runs/quickstart-data/quickstart.hearth --deduplicate paragraphs "
       "--max-bytes 4194304 --holdout-every 10",
       "build/hearth prepare --input '/usr/share/common-licenses/*' '/usr/share/doc/*/copyright' "
       "--output runs/quickstart-data/quickstart.hearth --deduplicate paragraphs "
       "--max-bytes 65536 --holdout-every 10"},
      {"build/hearth sweep configs/sweeps/learning-rate.yaml",
       "sed -i -e 's/max_steps: 160/max_steps: 2/' -e 's/warmup_steps: 20/warmup_steps: 1/' "
       "-e 's/eval_max_batches: 10/eval_max_batches: 2/' -e 's/sequence_len: 256/sequence_len: "
       "32/' "
       "configs/sweeps/learning-rate-run.yaml && "
       "build/hearth sweep configs/sweeps/learning-rate.yaml"},
      {"hearth probe -n 2", "XDG_CACHE_HOME=$PWD/cache hearth probe -n 2 --quick"},
      {"hearth bench links -n 2", "hearth bench links -n 2 --repetitions 1"},
      // Eight pieces need eight slabs.
      {"hearth plan run.yaml --lm-head-chunks 8 --set memory.offload.optimizer=host "
       "--recompute [swiglu,norm]",
       "hearth plan run.yaml --lm-head-chunks 8 --set memory.offload.optimizer=host "
       "--recompute [swiglu,norm] --head-slab-tokens 8"},
      // As it stands: it has a model and a length of its own.
      {"hearth validate converted.yaml", "hearth validate converted.yaml"},
      {"hearth generate MODEL", "hearth generate runs/run/hf --prompt a --max-tokens 4"},
      // What it finds is this machine's.
      {"hearth doctor", "hearth doctor || [ $? = 1 ]"},
      {"hearth doctor --hostfile hosts",
       "{ hearth doctor --hostfile hosts || [ $? = 1 ]; } | grep -A1 'box-2.*ssh works'"},
      {"hearth bench cpu", "hearth bench cpu --elements 65536 --repetitions 1"},
      {"hearth bench step", "hearth bench step run.yaml --steps 1"},
      {"hearth bench kernels configs/runs/bench/SIZE-fp8.yaml",
       "hearth bench kernels configs/runs/bench/0.5b-fp8.yaml --repetitions 1" + SmallKeys()},
      {"hearth bench kernels RUN.yaml", "hearth bench kernels run.yaml --repetitions 1"},
      {"hearth bench step RUN.yaml", "hearth bench step run.yaml --steps 1"},
      // As many ranks as there are slots after the scene; hosts find the program by its path.
      {"mpirun -n 16 --hostfile cluster/hostfile.example hearth rank RUN.yaml",
       "mpirun -n 2 --hostfile cluster/hostfile.example $(command -v hearth) rank run.yaml"},
      // What a label selects; running it is what runs this.
      {"ctest --test-dir build/cpu -L kernels",
       "ctest --test-dir build/cpu -L kernels -N | grep -q 'Total Tests: [1-9]'"},
      {"hearth help --markdown >docs/commands.md",
       "cp docs/commands.md before.md && hearth help --markdown >docs/commands.md && "
       "cmp before.md docs/commands.md"},
  };
  return changed;
}

const std::vector<CommandNotRun>& CommandsNotRun() {
  static const std::vector<CommandNotRun> not_run = {
      {"make build", Need::kMinutes, "compiles the program; so does make test before this test"},
      {"make test", Need::kMinutes, "it runs this test"},
      {"make test-asan", Need::kMinutes, "it compiles and runs the suite again"},
      {"make test-tsan", Need::kMinutes, "it compiles and runs the suite again"},
      {"make test-long", Need::kMinutes, "it runs for hours"},
      {"tests/defects/run.sh NAME", Need::kMinutes, "compiles twice; make test-long runs it"},
      {"fuzz_parsers --processes=16 --executions=10000000 --seconds=580 [--seed=N] [TARGET...]",
       Need::kMinutes, "ten minutes on 16 cores; the suite runs the same program with 20,000"},
      {"make package", Need::kNothing,
       "tests/e2e/cli/package_test.cpp TheDebianPackageAndTheTarballWork"},
      {"hearth train configs/runs/finetune.yaml", Need::kNothing,
       "tests/e2e/cli/finetune_test.cpp TheGuidesCommandsMakeAModelThatAnswers"},
      {"hearth generate runs/finetune/hf --chat \"What colour is rain?\" --temperature 0 "
       "--max-tokens 12",
       Need::kNothing, "tests/e2e/cli/finetune_test.cpp TheGuidesCommandsMakeAModelThatAnswers"},
      {"make test-gpu", Need::kGpu, "nvcc and a GPU"},
      {"hearth-gpu-tests --ranks", Need::kGpu, "a program of make test-gpu"},
      {"sbatch cluster/train.sbatch RUN.yaml", Need::kSlurm, "tried by hand: cluster/README.md"},
      {"srun --mpi=pmix hearth rank", Need::kSlurm, "tried by hand: cluster/README.md"},
      {"srun --mpi=pmix hearth rank RUN.yaml", Need::kSlurm, "tried by hand: cluster/README.md"},
      {"srun --mpi=list", Need::kSlurm, "tried by hand: cluster/README.md"},
      {"ssh HOST", Need::kHost, "a login; tests/support/fake_hosts.h stands for it"},
      {"make bench-cpu", Need::kPython, "compares with PyTorch"},
      {"make goldens PYTHON=python3", Need::kPython, "PyTorch computes them"},
      {"python3 check_export.py HEARTH FOLDER", Need::kPython, "transformers is the other side"},
      {"pip install lm-eval transformers", Need::kOtherTool, "a download"},
      {"lm_eval --model hf --model_args pretrained=runs/NAME/hf,dtype=bfloat16 "
       "--tasks hellaswag,arc_easy --batch_size auto",
       Need::kOtherTool, "lm-evaluation-harness, and its data sets"},
      {"git clone https://github.com/ggml-org/llama.cpp", Need::kOtherTool, "a download"},
      {"pip install -r llama.cpp/requirements.txt", Need::kOtherTool, "a download"},
      {"python llama.cpp/convert_hf_to_gguf.py runs/NAME/hf --outfile model.gguf --outtype bf16",
       Need::kOtherTool, "llama.cpp"},
      {"llama-quantize model.gguf model-q4_k_m.gguf Q4_K_M", Need::kOtherTool, "llama.cpp"},
      {"llama-cli -m model-q4_k_m.gguf -p \"Once upon a time\"", Need::kOtherTool, "llama.cpp"},
      {"wandb sync runs/NAME/wandb/offline-run-*", Need::kOtherTool, "an account at W&B"},
  };
  return not_run;
}

std::string SmallKeys() {
  return " --name-or-path configs/models/tiny.yaml --sequence-len 32 --global-batch-size 4"
         " --micro-batch-size 2 --max-steps 2 --max-tokens null --device cpu";
}

}  // namespace hearth::test
