#include "runtime/train/fill_weights.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/core/bfloat16.h"
#include "kernels/core/check.h"
#include "kernels/core/worker_pool.h"
#include "runtime/model/initialization.h"
#include "runtime/model/weight_source.h"

namespace hearth {

namespace {

// Elements between two calls of `progress`: of a slow disk a second, of memory milliseconds.
constexpr int64_t kRoundElements = int64_t{1} << 24;
// What a thread takes at a time: large enough for a disk, small enough for its cache.
constexpr WorkerPool::PartSize kPart{.least = int64_t{1} << 12, .most = int64_t{1} << 17};

// Values of one parameter on their way into memory of the state's type.
class ValueWriter {
 public:
  ValueWriter(const WeightReader& read, int threads)
      : read_(read), pool_(threads), values_(static_cast<size_t>(pool_.threads())) {}

  // out: [n] f32 | bf16, host memory: elements [begin, begin + n) of the parameter.
  void Write(size_t parameter, int64_t begin, const TensorView& out) {
    pool_.ForEachPart(out.shape().elements(), kPart,
                      [&](int64_t thread, int64_t first, int64_t last) {
                        WritePart(parameter, begin + first, out.Rows(first, last - first),
                                  values_[static_cast<size_t>(thread)]);
                      });
  }

 private:
  void WritePart(size_t parameter, int64_t begin, const TensorView& out,
                 std::vector<float>& values) const {
    const auto count = static_cast<size_t>(out.shape().elements());
    if (out.dtype() == DType::kF32) {
      read_(parameter, begin, {out.as<float>(), count});
      return;
    }
    CHECK(out.dtype() == DType::kBF16, "master weights of type {}", Name(out.dtype()));
    if (values.empty()) values.resize(static_cast<size_t>(kPart.most));
    read_(parameter, begin, std::span(values).first(count));
    std::transform(values.data(), values.data() + count, out.as<BFloat16>(),
                   [](float value) { return ToBFloat16(value); });
  }

  const WeightReader& read_;
  WorkerPool pool_;
  std::vector<std::vector<float>> values_;  // of each thread
};

ElementRange Whole(const RankMemory& memory, const ParameterSpec& parameter) {
  return UpdatedPart(memory, parameter, {0, parameter.elements()});
}

int64_t CountElements(const RankMemory& memory) {
  int64_t count = 0;
  for (const ParameterSpec& parameter : memory.spec.parameters) {
    count += Whole(memory, parameter).count();
  }
  return count;
}

}  // namespace

WeightReader InitialWeights(const ModelSetup& model, uint64_t seed) {
  const ModelSpec& spec = model.spec;
  if (!model.pretrained) {
    return [&spec, seed](size_t parameter, int64_t begin, std::span<float> out) {
      InitialValues(spec.parameters[parameter], seed, begin, out);
    };
  }
  // Shared by the copies of a function.
  const auto source = std::make_shared<const WeightSource>(*model.loaded.hf_folder, spec);
  return [&spec, source](size_t parameter, int64_t begin, std::span<float> out) {
    source->Read(spec.parameters[parameter], begin, out);
  };
}

void FillMasterWeights(Executor& executor, const WeightReader& read, const FillProgress& progress) {
  const RankMemory& memory = executor.memory();
  ValueWriter writer(read, executor.host_threads());
  const int64_t all = CountElements(memory);
  int64_t done = 0;
  for (size_t index = 0; index < memory.spec.parameters.size(); ++index) {
    const ParameterSpec& parameter = memory.spec.parameters[index];
    const ElementRange whole = Whole(memory, parameter);
    for (int64_t begin = whole.begin; begin < whole.end; begin += kRoundElements) {
      const TensorView view = executor.optimizer().Home(
          parameter.unit, StateKind::kMaster, {begin, std::min(begin + kRoundElements, whole.end)});
      const int64_t size = SizeOf(view.dtype());
      executor.transfer().Fill(view, [&](int64_t offset_bytes, std::span<std::byte> out) {
        const int64_t count = DivExact(static_cast<int64_t>(out.size()), size);
        writer.Write(index, begin - parameter.unit_offset + DivExact(offset_bytes, size),
                     {out.data(), view.dtype(), {count}});
        done += count;
        if (progress) progress(done, all);
      });
    }
  }
}

}  // namespace hearth
