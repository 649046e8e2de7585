#include "comm/host_reduce.h"

#include <cmath>

namespace hearth {

namespace {

float Sum(float a, float b) { return a + b; }
int64_t Sum(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
float Max(float a, float b) { return std::isnan(a) || !(b > a || std::isnan(b)) ? a : b; }
int64_t Max(int64_t a, int64_t b) { return b > a ? b : a; }

template <typename T>
void Reduce(const std::vector<TensorView>& terms, const TensorView& out, AllReduceOp op) {
  const int64_t elements = out.bytes() / static_cast<int64_t>(sizeof(T));
  T* result = static_cast<T*>(out.data());
  for (int64_t i = 0; i < elements; ++i) {
    T value = static_cast<const T*>(terms[0].data())[i];
    for (size_t term = 1; term < terms.size(); ++term) {
      const T next = static_cast<const T*>(terms[term].data())[i];
      value = op == AllReduceOp::kSum ? Sum(value, next) : Max(value, next);
    }
    result[i] = value;
  }
}

}  // namespace

void ReduceInRankOrder(const std::vector<TensorView>& terms, const TensorView& out, DType dtype,
                       AllReduceOp op) {
  if (dtype == DType::kF32) {
    Reduce<float>(terms, out, op);
  } else {
    Reduce<int64_t>(terms, out, op);
  }
}

}  // namespace hearth
