#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "kernels/core/gpu_info.h"
#include "launcher/doctor_checks.h"
#include "runtime/config/built_values.h"
#include "runtime/config/field_table.h"
#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSmiTimeout{15'000};  // without persistence it wakes every GPU first
constexpr milliseconds kCountTimeout{30'000};

struct Gpu {
  std::string index;
  std::string name;
  int capability = 0;  // 89 for 8.9; 0: unknown
  std::string driver;
  int64_t memory_mib = 0;
  int64_t used_mib = 0;
  std::string compute_mode;
  std::string mig;
};

// In the order of Gpu.
constexpr const char* kQuery =
    "--query-gpu=index,name,compute_cap,driver_version,memory.total,memory.used,compute_mode,"
    "mig.mode.current";

// The least compute capability that has the arithmetic of a precision.
struct PrecisionNeed {
  std::string_view word;  // of precision.compute_dtype
  int capability;
  const char* lacking;
};
constexpr PrecisionNeed kNeeds[] = {
    {"fp32", kOldestCapability, "is older than Hearth's CUDA code"},
    {"bf16", kOldestCapability, "has no BF16 matmuls"},
    {"fp8", kFp8Capability, "has no FP8 matmuls"},
};

std::vector<std::string> SplitFields(const std::string& line) {
  std::vector<std::string> fields;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find(", ", begin), line.size());
    fields.push_back(line.substr(begin, end - begin));
    begin = end + 2;
  }
  return fields;
}

int64_t ToNumber(const std::string& text) {
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// "8.9" is 89; 0 for what is no version.
int ToCapability(const std::string& text) {
  const size_t dot = text.find('.');
  if (dot == std::string::npos) return 0;
  return static_cast<int>(10 * ToNumber(text) + ToNumber(text.substr(dot + 1)));
}

std::vector<Gpu> ParseGpus(const std::string& lines) {
  std::vector<Gpu> gpus;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> field = SplitFields(line);
    if (field.size() != 8) continue;
    gpus.push_back({.index = field[0],
                    .name = field[1],
                    .capability = ToCapability(field[2]),
                    .driver = field[3],
                    .memory_mib = ToNumber(field[4]),
                    .used_mib = ToNumber(field[5]),
                    .compute_mode = field[6],
                    .mig = field[7]});
  }
  return gpus;
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// Display controllers of NVIDIA on the PCI bus, seen without a driver.
int CountPciGpus(System& system) {
  int count = 0;
  for (const std::string& device : system.ListFolder("/sys/bus/pci/devices")) {
    const std::string folder = "/sys/bus/pci/devices/" + device;
    const std::string vendor = system.ReadText(folder + "/vendor").value_or("");
    const std::string type = system.ReadText(folder + "/class").value_or("");
    if (vendor.rfind("0x10de", 0) == 0 && type.rfind("0x03", 0) == 0) ++count;
  }
  return count;
}

std::string CapabilityText(int capability) {
  return capability == 0 ? "of unknown capability" : fmt::format("sm_{}", capability);
}

std::string GpuText(const Gpu& gpu) {
  return fmt::format("{}, {}, {} of memory, {} used, driver {}", gpu.name,
                     CapabilityText(gpu.capability), FormatBytes(gpu.memory_mib << 20),
                     FormatBytes(gpu.used_mib << 20), gpu.driver);
}

Finding GpuFinding(const Gpu& gpu) {
  Finding finding{.name = "gpu " + gpu.index, .text = GpuText(gpu), .remedy = ""};
  const auto warn = [&](Health health, const std::string& text, const std::string& remedy) {
    finding.health = health;
    finding.text += "; " + text;
    finding.remedy = remedy;
  };
  if (gpu.capability != 0 && gpu.capability < kOldestCapability) {
    warn(Health::kWarning, "left out: Hearth needs compute capability 8.0 or later",
         "a newer GPU, or device: cpu");
  } else if (gpu.compute_mode == "Prohibited") {
    warn(Health::kProblem, "its compute mode lets nobody use it",
         fmt::format("sudo nvidia-smi -i {} -c DEFAULT", gpu.index));
  } else if (gpu.memory_mib > 0 && gpu.used_mib * 10 > gpu.memory_mib) {
    warn(Health::kWarning, "other programs hold a part of it",
         "nvidia-smi names them; end them, or lower memory.gpu_budget");
  } else if (gpu.mig == "Enabled") {
    warn(Health::kWarning, "it is cut into MIG instances; a process sees one of them",
         "name the instance in CUDA_VISIBLE_DEVICES (nvidia-smi -L)");
  }
  return finding;
}

void CheckNoGpus(System& system, const CommandEnd& smi, Findings* findings) {
  const int on_bus = CountPciGpus(system);
  if (on_bus == 0 && !smi.started) {
    findings->push_back({.name = "gpus", .text = "none; runs compute on the CPU", .remedy = ""});
    return;
  }
  const std::string words =
      !smi.started    ? "nvidia-smi is not there"
      : smi.timed_out ? "nvidia-smi does not answer"
                      : fmt::format("nvidia-smi says: {}",
                                    smi.output.empty() ? "nothing" : FirstLine(smi.output));
  findings->push_back(
      {.health = Health::kWarning,
       .name = "gpus",
       .text =
           fmt::format("{} NVIDIA on the PCI bus, but {}; runs compute on the CPU", on_bus, words),
       .remedy = smi.timed_out
                     ? "sudo dmesg | grep -i nvrm, then restart the machine"
                     : "install NVIDIA's driver (Debian, Ubuntu: nvidia-driver), restart; "
                       "in a container: docker run --gpus all"});
}

// What this program can do with them. True when runs will compute on GPUs.
bool CheckCuda(System& system, size_t gpus, Findings* findings) {
  if (!system.BuiltWithCuda()) {
    findings->push_back({.health = Health::kWarning,
                         .name = "cuda",
                         .text = "this build has no CUDA backend; runs compute on the CPU",
                         .remedy = "install a CUDA toolkit 12.8 or later, then make build"});
    return false;
  }
  const auto usable = system.CountGpus(kCountTimeout);
  if (usable && usable->count > 0) {
    const bool all = static_cast<size_t>(usable->count) == gpus;
    findings->push_back({.name = "cuda",
                         .text = fmt::format("{} of {} GPUs can be used{}", usable->count, gpus,
                                             all ? "" : " (CUDA_VISIBLE_DEVICES?)"),
                         .remedy = ""});
    if (usable->count > 1) CheckPeerAccess(system, usable->count, findings);
    return true;
  }
  findings->push_back(
      {.health = Health::kProblem,
       .name = "cuda",
       .text = usable ? fmt::format("no GPU can be used: {}", usable->why_none)
                      : "CUDA did not answer within 30 s",
       .remedy = usable ? "update NVIDIA's driver, look at CUDA_VISIBLE_DEVICES; device: cpu "
                          "computes without one"
                        : "sudo dmesg | grep -i nvrm names the sick GPU; restart the machine"});
  return false;
}

void CheckLibraries(System& system, Findings* findings) {
  struct Library {
    const char* name;
    const char* purpose;
    Health when_missing;
    const char* remedy;
  };
  for (const Library& library :
       {Library{"libcuda.so.1", "the driver", Health::kProblem,
                "install NVIDIA's driver; in a container: docker run --gpus all"},
        Library{"libnvidia-ml.so.1", "gpu/* in the log", Health::kWarning,
                "install NVIDIA's driver completely (its package of libnvidia-ml.so.1)"},
        Library{
            "libcudnn.so.9", "precision.attention_provider: cudnn", Health::kWarning,
            "install cuDNN 9 (NVIDIA's package libcudnn9-cuda-*), or set LD_LIBRARY_PATH to it; "
            "without it attention is our own"},
        Library{
            "libnccl.so.2", "comm.backend: nccl", Health::kWarning,
            "install NCCL (NVIDIA's package libnccl2), or set LD_LIBRARY_PATH to it; one machine "
            "does without"}}) {
    const auto loaded = system.CanLoad(library.name);
    const bool fine = loaded.value_or(false);
    findings->push_back({.health = fine ? Health::kOk : library.when_missing,
                         .name = library.name,
                         .text = fmt::format("{} ({})",
                                             fine     ? "can be loaded"
                                             : loaded ? "cannot be loaded"
                                                      : "does not answer",
                                             library.purpose),
                         .remedy = fine ? "" : library.remedy});
  }
}

// The values of a key that are built, "a, b".
std::string BuiltWords(std::string_view path) {
  const Field* field = FindField(path);
  std::vector<std::string_view> words = BuiltValues(*field, {.cuda = true});
  if (words.empty()) words = field->words;
  return fmt::format("{}", fmt::join(words, ", "));
}

void CheckPrecision(const PrecisionNeed& need, const std::vector<Gpu>& gpus, Findings* findings) {
  std::string recipes;
  if (need.word == "fp8") {
    recipes = fmt::format("; recipes {}; formats {}", BuiltWords("precision.fp8_recipe"),
                          BuiltWords("precision.fp8_format"));
  }
  Finding finding{.name = fmt::format("precision {}", need.word), .text = "", .remedy = ""};
  std::vector<std::string> lacking;
  for (const Gpu& gpu : gpus) {
    if (gpu.capability < need.capability) {
      lacking.push_back(fmt::format("GPU {} ({}, {}) {}", gpu.index, gpu.name,
                                    CapabilityText(gpu.capability), need.lacking));
    }
  }
  if (gpus.empty()) {
    finding.text = fmt::format("on the CPU{}{}",
                               need.word == "fp8" ? ", emulated exactly and slowly" : "", recipes);
  } else if (lacking.empty()) {
    finding.text = "on every GPU" + recipes;
  } else {
    finding.health = Health::kWarning;
    finding.text =
        fmt::format("{}; needs sm_{} or later", fmt::join(lacking, ", "), need.capability);
    finding.remedy = need.word == "fp8"
                         ? "precision: {compute_dtype: bf16}, or CUDA_VISIBLE_DEVICES with GPUs "
                           "that have it"
                         : "device: cpu, or CUDA_VISIBLE_DEVICES with newer GPUs";
  }
  findings->push_back(finding);
}

}  // namespace

void CheckGpus(System& system, Findings* findings) {
  CommandEnd smi;
  const std::string program = system.FindProgram("nvidia-smi");
  if (!program.empty()) {
    smi = system.RunAll({{program, kQuery, "--format=csv,noheader,nounits"}}, kSmiTimeout).at(0);
  }
  std::vector<Gpu> gpus;
  if (smi.Succeeded()) gpus = ParseGpus(smi.output);
  bool used = false;
  if (gpus.empty()) {
    CheckNoGpus(system, smi, findings);
  } else {
    for (const Gpu& gpu : gpus) findings->push_back(GpuFinding(gpu));
    used = CheckCuda(system, gpus.size(), findings);
    if (system.BuiltWithCuda()) CheckLibraries(system, findings);
  }
  std::vector<Gpu> usable = gpus;
  std::erase_if(usable, [](const Gpu& gpu) { return gpu.capability < kOldestCapability; });
  for (const PrecisionNeed& need : kNeeds) {
    CheckPrecision(need, used ? usable : std::vector<Gpu>{}, findings);
  }
}

}  // namespace hearth
