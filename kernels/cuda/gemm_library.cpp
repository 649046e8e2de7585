#include "kernels/cuda/gemm_library.h"

#include <bit>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// Partial sums of a split k meet in fp32, in a fixed order: never by atomics in the result, and
// never rounded to its type in between.
constexpr uint32_t kReductionSchemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
// The library may propose what we then refuse.
constexpr int kProposalsPerCandidate = 2;

void CheckBlas(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(
      Format("{}: {}: {}", what, cublasLtGetStatusName(status), cublasLtGetStatusString(status)));
}

cudaDataType_t CudaType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF8E4M3:
      return CUDA_R_8F_E4M3;
    case DType::kF8E5M2:
      return CUDA_R_8F_E5M2;
    default:
      CHECK(false, "a matmul of {}", Name(dtype));
  }
  return CUDA_R_32F;
}

template <typename Value>
void Set(cublasLtMatmulDescOpaque_t& description, cublasLtMatmulDescAttributes_t attribute,
         const Value& value) {
  CheckBlas(cublasLtMatmulDescSetAttribute(&description, attribute, &value, sizeof value),
            "describing a matmul");
}

template <typename Value>
void Set(cublasLtMatmulPreferenceOpaque_t& preference,
         cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
  CheckBlas(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
            "stating a matmul's limits");
}

void SetLayout(cublasLtMatrixLayoutOpaque_t& layout, DType dtype, int64_t rows, int64_t columns,
               int64_t leading) {
  CheckBlas(cublasLtMatrixLayoutInit(&layout, CudaType(dtype), static_cast<uint64_t>(rows),
                                     static_cast<uint64_t>(columns), leading),
            "describing a matmul's operand");
}

cublasLtMatmulPreferenceOpaque_t MakePreference(const GemmKey& key, int64_t workspace_bytes) {
  cublasLtMatmulPreferenceOpaque_t preference;
  CheckBlas(cublasLtMatmulPreferenceInit(&preference), "stating a matmul's limits");
  Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_bytes));
  Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductionSchemes);
  const auto alignment = static_cast<uint32_t>(key.alignment);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    Set(preference, attribute, alignment);
  }
  return preference;
}

cublasLtMatmulAlgo_t ToLibrary(const GemmAlgorithm& algorithm) {
  return std::bit_cast<cublasLtMatmulAlgo_t>(algorithm);
}

// What the mask asks for, whatever the library makes of it.
bool ReducesExactly(const cublasLtMatmulAlgo_t& algorithm) {
  uint32_t scheme = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
      &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, nullptr);
  // An algorithm without this setting does not split.
  return status != CUBLAS_STATUS_SUCCESS || (scheme & ~kReductionSchemes) == 0;
}

}  // namespace

MatmulLeading DenseLeading(const GemmKey& key) {
  return {.a = key.a_transposed ? key.m : key.k, .b = key.b_transposed ? key.n : key.k};
}

Matmul::Matmul(const GemmKey& key, const MatmulLeading& leading, const MatmulOperands& operands)
    : key_(key), operands_(operands) {
  // fp32 products of fp32 operands: no TF32, no emulation.
  CheckBlas(cublasLtMatmulDescInit(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
            "describing a matmul");
  // A dense row-major matrix is its transpose in column-major order.
  const int32_t first_operation = key.b_transposed ? CUBLAS_OP_N : CUBLAS_OP_T;
  const int32_t second_operation = key.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  Set(description_, CUBLASLT_MATMUL_DESC_TRANSA, first_operation);
  Set(description_, CUBLASLT_MATMUL_DESC_TRANSB, second_operation);
  if (key.b_transposed) {
    SetLayout(first_, key.b, key.n, key.k, leading.b);
  } else {
    SetLayout(first_, key.b, key.k, key.n, leading.b);
  }
  if (key.a_transposed) {
    SetLayout(second_, key.a, key.m, key.k, leading.a);
  } else {
    SetLayout(second_, key.a, key.k, key.m, leading.a);
  }
  SetLayout(out_, key.out, key.n, key.m, key.n);
  if (IsFloat8(key.a)) {
    Set(description_, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.b_scale);
    Set(description_, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.a_scale);
    Set(description_, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(key.fast_accumulation));
  }
  if (key.bias) {
    Set(description_, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS));
    Set(description_, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
        static_cast<int32_t>(CudaType(*key.bias)));
    Set(description_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  }
}

GemmLibrary::GemmLibrary(int capability, int multiprocessors) {
  CheckBlas(cublasLtCreate(&handle_), "opening cuBLASLt");
  identity_ = Format("cublaslt-{}-sm_{}-{}", cublasLtGetVersion(), capability, multiprocessors);
}

GemmLibrary::~GemmLibrary() { cublasLtDestroy(handle_); }

std::vector<GemmAlgorithm> GemmLibrary::Candidates(const Matmul& matmul, int64_t workspace_bytes,
                                                   int count) const {
  cublasLtMatmulPreferenceOpaque_t preference = MakePreference(matmul.key(), workspace_bytes);
  std::vector<cublasLtMatmulHeuristicResult_t> results(
      static_cast<size_t>(count * kProposalsPerCandidate));
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, &matmul.description_, &matmul.first_, &matmul.second_, &matmul.out_, &matmul.out_,
      &preference, static_cast<int>(results.size()), results.data(), &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  CheckBlas(status, "asking for matmul algorithms");
  std::vector<GemmAlgorithm> candidates;
  for (int i = 0; i < found && std::ssize(candidates) < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS || !ReducesExactly(result.algo) ||
        result.workspaceSize > static_cast<size_t>(workspace_bytes)) {
      continue;
    }
    candidates.push_back(std::bit_cast<GemmAlgorithm>(result.algo));
  }
  return candidates;
}

bool GemmLibrary::Admits(const Matmul& matmul, const GemmAlgorithm& algorithm,
                         int64_t workspace_bytes) const {
  const cublasLtMatmulAlgo_t library_algorithm = ToLibrary(algorithm);
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(handle_, &matmul.description_, &matmul.first_, &matmul.second_,
                                 &matmul.out_, &matmul.out_, &library_algorithm,
                                 &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= static_cast<size_t>(workspace_bytes) &&
         ReducesExactly(library_algorithm);
}

bool GemmLibrary::TryRun(cudaStream_t stream, const Matmul& matmul, const GemmAlgorithm& algorithm,
                         const MatmulWorkspace& workspace) const {
  const cublasLtMatmulAlgo_t library_algorithm = ToLibrary(algorithm);
  const MatmulOperands& operands = matmul.operands();
  const float one = 1.0f;
  const float addend_factor = matmul.key().accumulate ? 1.0f : 0.0f;
  const void* addend = matmul.key().accumulate ? operands.addend : operands.out;
  const cublasStatus_t status = cublasLtMatmul(
      handle_, &matmul.description_, &one, operands.b, &matmul.first_, operands.a, &matmul.second_,
      &addend_factor, addend, &matmul.out_, operands.out, &matmul.out_, &library_algorithm,
      workspace.data, static_cast<size_t>(workspace.bytes), stream);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
    cudaGetLastError();  // a refusal leaves nothing for the next check to find
    return false;
  }
  CheckBlas(status, "a matmul");
  return true;
}

}  // namespace hearth
