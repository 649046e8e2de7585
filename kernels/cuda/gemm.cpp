#include "kernels/cuda/gemm.h"

#include <algorithm>
#include <utility>

#include "kernels/api/workspace.h"
#include "kernels/core/check.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_measure.h"

namespace hearth {

namespace {

// Of the library's workspace; the op's own promises 16.
constexpr int64_t kWorkspaceAlignment = 256;
// No instruction moves more; a larger multiple would tie a key to the place of a tensor.
constexpr int64_t kLargestAlignment = 16;
constexpr int kCandidates = 8;
// Tiles have at least so many rows, and begin at whole vectors of every operand.
constexpr int64_t kTileMultiple = 64;

MatmulWorkspace AlignedWorkspace(const TensorView& workspace) {
  const auto begin = reinterpret_cast<intptr_t>(workspace.data());
  const intptr_t aligned = RoundUp(begin, kWorkspaceAlignment);
  // The same size wherever it begins, so that the choice does not depend on it.
  return {reinterpret_cast<void*>(aligned), GemmWorkspaceBytes() - kWorkspaceAlignment};
}

int64_t CommonAlignment(std::initializer_list<const void*> addresses) {
  uintptr_t bits = kLargestAlignment;
  for (const void* address : addresses) bits |= reinterpret_cast<uintptr_t>(address);
  return static_cast<int64_t>(bits & (~bits + 1));
}

// Which bias the library adds itself.
DType FusedBiasType(const GemmArgs& args) {
  return IsFloat8(args.a.dtype()) ? DType::kBF16 : args.out.dtype();
}

// What the library adds within the product; the rest is added to an fp32 result behind it. Asked
// for a bias and an addend at once it rounds twice.
struct Fused {
  bool bias = false;
  bool addend = false;
};

Fused FusedParts(const GemmArgs& args) {
  return {.bias = args.bias && !args.addend && args.bias.dtype() == FusedBiasType(args),
          .addend = args.addend && args.addend.dtype() == args.out.dtype()};
}

// Whether the product with all its parts would be rounded more than once, or cannot be computed
// into out at all.
bool NeedsTiles(const GemmArgs& args, const Fused& fused) {
  if (args.out.dtype() == DType::kF32) return false;
  return args.a.dtype() == DType::kF32 || (args.bias && !fused.bias) ||
         (args.addend && !fused.addend);
}

GemmKey MakeKey(const GemmArgs& args, const Fused& fused) {
  const GemmShape shape = ShapeOf(args);
  GemmKey key{.m = shape.m,
              .n = shape.n,
              .k = shape.k,
              .a = args.a.dtype(),
              .b = args.b.dtype(),
              .out = args.out.dtype(),
              .a_transposed = args.a_transposed,
              .b_transposed = args.b_transposed,
              .accumulate = fused.addend,
              .fast_accumulation = args.fast_accumulation,
              .alignment = CommonAlignment({args.a.data(), args.b.data(), args.out.data(),
                                            fused.addend ? args.addend.data() : nullptr,
                                            fused.bias ? args.bias.data() : nullptr})};
  if (fused.bias) key.bias = args.bias.dtype();
  return key;
}

bool IsCapturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CheckCuda(cudaStreamIsCapturing(stream, &status), "asking a stream for its state");
  return status != cudaStreamCaptureStatusNone;
}

// The element at (row, column), as they lie in memory.
void* At(const TensorView& matrix, int64_t row, int64_t column) {
  const int64_t elements = row * matrix.shape()[1] + column;
  return static_cast<std::byte*>(matrix.data()) + elements * SizeOf(matrix.dtype());
}

int64_t WholeTiles(int64_t extent) { return extent / kTileMultiple * kTileMultiple; }

// A piece of the product as fp32.
struct Tile {
  int64_t row = 0;
  int64_t column = 0;
  int64_t rows = 0;
  int64_t columns = 0;
};

Matmul TileMatmul(const GemmArgs& args, const Tile& tile, void* sum) {
  const MatmulOperands operands{
      .a = args.a_transposed ? At(args.a, 0, tile.row) : At(args.a, tile.row, 0),
      .b = args.b_transposed ? At(args.b, 0, tile.column) : At(args.b, tile.column, 0),
      .out = sum,
      .a_scale = args.a_scale.data(),
      .b_scale = args.b_scale.data()};
  const GemmKey key{.m = tile.rows,
                    .n = tile.columns,
                    .k = ShapeOf(args).k,
                    .a = args.a.dtype(),
                    .b = args.b.dtype(),
                    .out = DType::kF32,
                    .a_transposed = args.a_transposed,
                    .b_transposed = args.b_transposed,
                    .fast_accumulation = args.fast_accumulation,
                    .alignment = CommonAlignment({operands.a, operands.b, sum})};
  return {key, {.a = args.a.shape()[1], .b = args.b.shape()[1]}, operands};
}

FinishArgs TileFinish(const GemmArgs& args, const Tile& tile, void* sum) {
  const auto part = [&](const TensorView& matrix) {
    return matrix ? TensorView(At(matrix, tile.row, tile.column), matrix.dtype(), Shape{1})
                  : TensorView{};
  };
  return {.sum = {sum, DType::kF32, {tile.rows, tile.columns}},
          .bias = args.bias ? args.bias.Rows(tile.column, tile.columns) : TensorView{},
          .addend = part(args.addend),
          .out = part(args.out),
          .out_leading = args.out.shape()[1]};
}

}  // namespace

CudaGemm::CudaGemm(const CudaDevice& device)
    : library_(device.compute_capability(), device.multiprocessors()) {}

void CudaGemm::Run(Stream& stream, const GemmArgs& args) {
  const GemmShape shape = ShapeOf(args);
  if (shape.m == 0 || shape.n == 0) return;
  const cudaStream_t native = NativeStream(stream);
  std::lock_guard lock(mutex_);
  if (!RunWhole(native, args)) RunTiles(native, args);
}

// False, with nothing done, where this must be computed otherwise.
bool CudaGemm::RunWhole(cudaStream_t stream, const GemmArgs& args) {
  const Fused fused = FusedParts(args);
  if (NeedsTiles(args, fused)) return false;
  const MatmulWorkspace workspace = AlignedWorkspace(args.workspace);
  const GemmKey key = MakeKey(args, fused);
  const Matmul matmul(key, DenseLeading(key),
                      {.a = args.a.data(),
                       .b = args.b.data(),
                       .addend = args.addend.data(),
                       .out = args.out.data(),
                       .bias = args.bias.data(),
                       .a_scale = args.a_scale.data(),
                       .b_scale = args.b_scale.data()});
  const Choice& choice = Choose(stream, matmul, workspace);
  if (!choice.algorithm) return false;
  if (!library_.TryRun(stream, matmul, *choice.algorithm, workspace)) {
    throw DeviceError(
        Format("cuBLASLt refuses the algorithm chosen for the matmul {}", Describe(matmul.key())));
  }
  const bool adds_bias = args.bias && !fused.bias;
  const bool adds_addend = args.addend && !fused.addend;
  if (adds_bias || adds_addend) {
    LaunchFinish(stream, {.sum = args.out,
                          .bias = adds_bias ? args.bias : TensorView{},
                          .addend = adds_addend ? args.addend : TensorView{},
                          .out = args.out,
                          .out_leading = args.out.shape()[1]});
  }
  return true;
}

// For what the library does not compute with one rounding, such as a bf16 result of fp32 operands:
// pieces in fp32 in one half of the workspace, then the rest. No training step takes this way, so
// its algorithms are in no table; the library's first proposal depends on the library alone.
void CudaGemm::RunTiles(cudaStream_t stream, const GemmArgs& args) {
  const GemmShape shape = ShapeOf(args);
  const MatmulWorkspace workspace = AlignedWorkspace(args.workspace);
  const int64_t half = workspace.bytes / 2 / kWorkspaceAlignment * kWorkspaceAlignment;
  const MatmulWorkspace rest{static_cast<std::byte*>(workspace.data) + half,
                             workspace.bytes - half};
  const int64_t floats = half / SizeOf(DType::kF32);
  const int64_t columns = std::min(shape.n, WholeTiles(floats / kTileMultiple));
  const int64_t rows = std::min(shape.m, WholeTiles(floats / columns));
  for (int64_t row = 0; row < shape.m; row += rows) {
    for (int64_t column = 0; column < shape.n; column += columns) {
      const Tile tile{row, column, std::min(rows, shape.m - row),
                      std::min(columns, shape.n - column)};
      const Matmul matmul = TileMatmul(args, tile, workspace.data);
      const std::vector<GemmAlgorithm> candidates = library_.Candidates(matmul, rest.bytes, 1);
      if (candidates.empty() || !library_.TryRun(stream, matmul, candidates[0], rest)) {
        throw DeviceError(Format("cuBLASLt does not compute the matmul {} on this GPU ({})",
                                 Describe(matmul.key()), library_.identity()));
      }
      LaunchFinish(stream, TileFinish(args, tile, workspace.data));
    }
  }
}

const CudaGemm::Choice& CudaGemm::Choose(cudaStream_t stream, const Matmul& matmul,
                                         const MatmulWorkspace& workspace) {
  const GemmKey& key = matmul.key();
  const auto found = choices_.find(key);
  if (found != choices_.end()) {
    Choice& choice = found->second;
    if (choice.checked) return choice;
    choice.checked = true;
    if (library_.Admits(matmul, *choice.algorithm, workspace.bytes)) return choice;
    choices_.erase(found);
  }
  const std::vector<GemmAlgorithm> candidates =
      library_.Candidates(matmul, workspace.bytes, kCandidates);
  Choice choice;
  if (measuring_ && candidates.size() > 1 && !IsCapturing(stream)) {
    choice.algorithm = MeasureCandidates(library_, stream, matmul, workspace, candidates);
  } else if (!candidates.empty()) {
    choice.algorithm = candidates[0];
    if (has_table_ && !measuring_) {
      WarnOnce(
          Format("there is no measured algorithm for the matmul {}: the first proposal of {} "
                 "is used; results may differ in their last bits from a run that has one",
                 Describe(key), library_.identity()));
    }
  }
  return choices_.insert_or_assign(key, std::move(choice)).first->second;
}

void CudaGemm::WarnOnce(std::string message) {
  if (!has_warned_) warnings_.push_back(std::move(message));
  has_warned_ = true;
}

void CudaGemm::Measure(bool on) {
  std::lock_guard lock(mutex_);
  measuring_ = on;
  has_table_ |= on;
}

std::string CudaGemm::Table() const {
  std::lock_guard lock(mutex_);
  std::vector<GemmTableEntry> entries;
  for (const auto& [key, choice] : choices_) {
    if (choice.algorithm) entries.push_back({key, library_.identity(), *choice.algorithm});
  }
  return PrintGemmTable(entries);
}

void CudaGemm::Load(std::string_view text) {
  const std::vector<GemmTableEntry> entries = ParseGemmTable(text);
  std::lock_guard lock(mutex_);
  int64_t foreign = 0;
  std::string_view library;
  for (const GemmTableEntry& entry : entries) {
    has_table_ = true;
    if (entry.library == library_.identity()) {
      choices_.insert_or_assign(entry.key, Choice{entry.algorithm, false});
    } else {
      ++foreign;
      library = entry.library;
    }
  }
  if (foreign == 0) return;
  WarnOnce(
      Format("{} of {} matmul algorithms were measured with {}, this is {}: other ones are "
             "chosen, so results may differ in their last bits",
             foreign, entries.size(), library, library_.identity()));
}

std::vector<std::string> CudaGemm::TakeWarnings() {
  std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

void CudaBackend::DoGemm(Stream& stream, const GemmArgs& args) { gemm_->Run(stream, args); }

}  // namespace hearth
