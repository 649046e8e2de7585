// The toolkit of op tests: one source tests every backend of the build. Tensors lie between guard
// bytes and start poisoned, inputs are fresh at every run, errors are judged against derived
// bounds.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/backend_under_test.h"

namespace hearth::test {

// A backend with one stream.
class Rig {
 public:
  explicit Rig(std::string_view kind, int threads = 2);

  KernelBackend& backend() { return *backend_; }
  Stream& stream() { return *stream_; }
  // Waits for everything enqueued; throws what an op threw.
  void Finish();

 private:
  std::unique_ptr<KernelBackend> backend_;
  std::unique_ptr<Stream> stream_;
};

// A tensor in device memory. Until Set, every byte is 0xff: NaN in each floating type. Values
// travel as doubles, which hold every element type but large i64 exactly. The rig must outlive the
// tensor.
class DeviceTensor {
 public:
  DeviceTensor(Rig& rig, DType dtype, Shape shape);
  // The same with the values set.
  DeviceTensor(Rig& rig, DType dtype, Shape shape, const std::vector<double>& values);
  // Reports guard bytes that were overwritten as a test failure.
  ~DeviceTensor();
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;

  const TensorView& view() const { return view_; }
  operator const TensorView&() const {
    return view_;
  }  // NOLINT: reads as the tensor in op arguments

  // Writes the values, rounded to nearest; one per element.
  void Set(const std::vector<double>& values);
  // The content, after everything enqueued has finished.
  std::vector<double> Get() const;
  void SetBytes(const std::vector<uint8_t>& bytes);
  std::vector<uint8_t> GetBytes() const;
  void Poison();
  // Fails the test unless all guard bytes are as they were.
  void ExpectGuardsIntact() const;

 private:
  std::vector<uint8_t> Download() const;  // with the guards
  Rig& rig_;
  Buffer buffer_;
  TensorView view_;
};

// Draws that differ at every run. The seed of a failed run is in its log; --gtest_random_seed=SEED
// repeats it.
class Random {
 public:
  Random();
  double Uniform(double low, double high);
  double Normal(double deviation = 1.0);
  int64_t Integer(int64_t low, int64_t high);  // both inclusive
  std::vector<double> Normals(int64_t count, double deviation = 1.0);
  std::vector<double> Uniforms(int64_t count, double low, double high);

 private:
  std::mt19937_64 engine_;
};

// The values as they read back from a tensor of that type.
std::vector<double> Rounded(const std::vector<double>& values, DType dtype);

// Largest relative error of rounding to nearest: 2^-24, 2^-8, 2^-4 (E4M3), 2^-3 (E5M2).
double UnitRoundoff(DType dtype);
// Largest error of one rounding of a value of that size, subnormals included.
double RoundingError(DType dtype, double value);
// Bound of an fp32 sum of `terms` products or terms in any order, fma or not, whose absolute values
// add up to `magnitude`: gamma_n * magnitude with gamma_n = n*u / (1 - n*u), n = terms + 2.
double SumError(int64_t terms, double magnitude);

// What the backend under test may lose in a sum of that many products of f8 numbers, the largest
// product given. On the CPU nothing. The tensor cores of Hopper cut each product off 13 bits below
// the largest number of those they add at a time, 32 products and the sum so far (arXiv 2412.19437,
// section 3.5.2); the sums within one fp32 promotion stay within twice the largest product, nearly.
double Float8SumError(int64_t terms, double largest);

// Fails unless |actual[i] - expected[i]| <= bound[i] for all i; NaN is never within a bound.
void ExpectWithin(const std::vector<double>& actual, const std::vector<double>& expected,
                  const std::vector<double>& bound, std::string_view what);
// Fails unless actual[i] is equal to expected[i], or both are NaN.
void ExpectSame(const std::vector<double>& actual, const std::vector<double>& expected,
                std::string_view what);

// The parameter is the backend's kind. Instantiate with:
//   INSTANTIATE_TEST_SUITE_P(Backends, GemmTest, BackendsUnderTest());
class KernelTest : public testing::TestWithParam<std::string> {
 protected:
  KernelTest() : rig_(GetParam()) {}
  DeviceTensor NormalTensor(DType dtype, Shape shape, double deviation = 1.0) {
    return {rig_, dtype, shape, random_.Normals(shape.elements(), deviation)};
  }
  KernelBackend& backend() { return rig_.backend(); }
  Stream& stream() { return rig_.stream(); }

  Rig rig_;
  Random random_;
};

// Where every access is checked: billions of them take minutes, and under ThreadSanitizer many
// times their memory.
bool UnderSanitizer();

inline auto BackendsUnderTest() { return testing::Values(BackendUnderTest()); }

}  // namespace hearth::test
