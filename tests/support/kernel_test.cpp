#include "tests/support/kernel_test.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>

namespace hearth::test {

namespace {

constexpr int64_t kGuardBytes = 256;
constexpr uint8_t kGuard = 0xa5;
constexpr uint8_t kPoison = 0xff;
constexpr std::chrono::milliseconds kTimeout{120'000};

void Store(DType dtype, double value, uint8_t* element) {
  const auto put = [element](auto stored) { std::memcpy(element, &stored, sizeof stored); };
  // Through fp32: a double that lies between two fp32 numbers is not what tests are about.
  const float narrow = static_cast<float>(value);
  switch (dtype) {
    case DType::kF32:
      return put(narrow);
    case DType::kBF16:
      return put(ToBFloat16(narrow));
    case DType::kF8E4M3:
      return put(ToE4M3(narrow));
    case DType::kF8E5M2:
      return put(ToE5M2(narrow));
    case DType::kI32:
      return put(static_cast<int32_t>(value));
    case DType::kI64:
      return put(static_cast<int64_t>(value));
    case DType::kU8:
      return put(static_cast<uint8_t>(value));
  }
}

template <typename T>
T Read(const uint8_t* element) {
  T value;
  std::memcpy(&value, element, sizeof value);
  return value;
}

double Load(DType dtype, const uint8_t* element) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<double>(Read<float>(element));
    case DType::kBF16:
      return static_cast<double>(ToFloat(Read<BFloat16>(element)));
    case DType::kF8E4M3:
      return static_cast<double>(ToFloat(Read<Float8E4M3>(element)));
    case DType::kF8E5M2:
      return static_cast<double>(ToFloat(Read<Float8E5M2>(element)));
    case DType::kI32:
      return static_cast<double>(Read<int32_t>(element));
    case DType::kI64:
      return static_cast<double>(Read<int64_t>(element));
    case DType::kU8:
      return static_cast<double>(*element);
  }
  return 0;
}

uint64_t RunSeed() {
  static const uint64_t seed = [] {
    int32_t chosen = GTEST_FLAG_GET(random_seed);
    if (chosen == 0) chosen = static_cast<int32_t>(std::random_device{}() % 99'999 + 1);
    std::cout << "inputs drawn with --gtest_random_seed=" << chosen << std::endl;
    return static_cast<uint64_t>(chosen);
  }();
  return seed;
}

}  // namespace

Rig::Rig(std::string_view kind, int threads)
    : backend_(MakeBackend(kind, {.threads = threads})),
      stream_(backend_->device().CreateStream("test")) {}

void Rig::Finish() { stream_->Synchronize(kTimeout); }

DeviceTensor::DeviceTensor(Rig& rig, DType dtype, Shape shape)
    : rig_(rig),
      buffer_(rig.backend().device().Allocate(
          RoundUp(shape.elements() * SizeOf(dtype), 16) + 2 * kGuardBytes, MemoryKind::kDevice)),
      view_(buffer_.View(kGuardBytes, dtype, shape)) {
  Poison();
}

DeviceTensor::DeviceTensor(Rig& rig, DType dtype, Shape shape, const std::vector<double>& values)
    : DeviceTensor(rig, dtype, shape) {
  Set(values);
}

DeviceTensor::~DeviceTensor() {
  try {
    ExpectGuardsIntact();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an op failed: " << error.what();
  }
}

void DeviceTensor::Set(const std::vector<double>& values) {
  CHECK(static_cast<int64_t>(values.size()) == view_.elements(), "{} values for a tensor of {}",
        values.size(), view_.shape());
  std::vector<uint8_t> bytes(static_cast<size_t>(view_.bytes()));
  const int64_t size = SizeOf(view_.dtype());
  for (size_t i = 0; i < values.size(); ++i) {
    Store(view_.dtype(), values[i], bytes.data() + static_cast<int64_t>(i) * size);
  }
  SetBytes(bytes);
}

std::vector<double> DeviceTensor::Get() const {
  const std::vector<uint8_t> bytes = GetBytes();
  const int64_t size = SizeOf(view_.dtype());
  std::vector<double> values(static_cast<size_t>(view_.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = Load(view_.dtype(), bytes.data() + static_cast<int64_t>(i) * size);
  }
  return values;
}

void DeviceTensor::SetBytes(const std::vector<uint8_t>& bytes) {
  CHECK(static_cast<int64_t>(bytes.size()) == view_.bytes(), "{} bytes for a tensor of {}",
        bytes.size(), view_.shape());
  // The guards are written again with it: one transfer, and what overwrote them was reported.
  ExpectGuardsIntact();
  const int64_t total = buffer_.bytes();
  Buffer staging = rig_.backend().device().Allocate(total, MemoryKind::kPinnedHost);
  std::memset(staging.data(), kGuard, static_cast<size_t>(total));
  if (!bytes.empty()) std::memcpy(staging.data() + kGuardBytes, bytes.data(), bytes.size());
  rig_.backend().Copy(rig_.stream(), {.source = staging.View(0, DType::kU8, {total}),
                                      .destination = buffer_.View(0, DType::kU8, {total})});
  rig_.Finish();
}

std::vector<uint8_t> DeviceTensor::Download() const {
  const int64_t total = buffer_.bytes();
  Buffer staging = rig_.backend().device().Allocate(total, MemoryKind::kPinnedHost);
  rig_.backend().Copy(rig_.stream(), {.source = buffer_.View(0, DType::kU8, {total}),
                                      .destination = staging.View(0, DType::kU8, {total})});
  rig_.Finish();
  std::vector<uint8_t> bytes(static_cast<size_t>(total));
  std::memcpy(bytes.data(), staging.data(), bytes.size());
  return bytes;
}

std::vector<uint8_t> DeviceTensor::GetBytes() const {
  const std::vector<uint8_t> bytes = Download();
  return {bytes.begin() + kGuardBytes, bytes.begin() + kGuardBytes + view_.bytes()};
}

void DeviceTensor::Poison() {
  const int64_t total = buffer_.bytes();
  Buffer staging = rig_.backend().device().Allocate(total, MemoryKind::kPinnedHost);
  std::memset(staging.data(), kGuard, static_cast<size_t>(total));
  std::memset(staging.data() + kGuardBytes, kPoison, static_cast<size_t>(view_.bytes()));
  rig_.backend().Copy(rig_.stream(), {.source = staging.View(0, DType::kU8, {total}),
                                      .destination = buffer_.View(0, DType::kU8, {total})});
  rig_.Finish();
}

void DeviceTensor::ExpectGuardsIntact() const {
  const std::vector<uint8_t> bytes = Download();
  const auto end = static_cast<size_t>(kGuardBytes + view_.bytes());
  for (size_t i = 0; i < bytes.size(); ++i) {
    if ((i < kGuardBytes || i >= end) && bytes[i] != kGuard) {
      ADD_FAILURE() << "a tensor of " << Name(view_.dtype()) << ' ' << view_.shape()
                    << ": the byte at offset " << static_cast<int64_t>(i) - kGuardBytes
                    << " of its " << view_.bytes() << " was overwritten";
      return;
    }
  }
}

Random::Random() {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = test != nullptr ? std::string(test->test_suite_name()) + test->name() : "";
  // FNV-1a, so that each test draws its own inputs whatever ran before it.
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  engine_.seed(hash ^ (RunSeed() << 20));
}

double Random::Uniform(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(engine_);
}

double Random::Normal(double deviation) {
  return std::normal_distribution<double>(0.0, deviation)(engine_);
}

int64_t Random::Integer(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(engine_);
}

std::vector<double> Random::Normals(int64_t count, double deviation) {
  std::normal_distribution<double> normal(0.0, deviation);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(engine_);
  return values;
}

std::vector<double> Random::Uniforms(int64_t count, double low, double high) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = Uniform(low, high);
  return values;
}

std::vector<double> Rounded(const std::vector<double>& values, DType dtype) {
  std::vector<double> rounded(values.size());
  uint8_t element[8] = {};
  for (size_t i = 0; i < values.size(); ++i) {
    Store(dtype, values[i], element);
    rounded[i] = Load(dtype, element);
  }
  return rounded;
}

double UnitRoundoff(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0x1p-24;
    case DType::kBF16:
      return 0x1p-8;
    case DType::kF8E4M3:
      return 0x1p-4;
    case DType::kF8E5M2:
      return 0x1p-3;
    default:
      CHECK(false, "{} does not round", Name(dtype));
  }
}

double RoundingError(DType dtype, double value) {
  // Half the spacing of the subnormals.
  const double absolute = dtype == DType::kF32      ? 0x1p-150
                          : dtype == DType::kBF16   ? 0x1p-134
                          : dtype == DType::kF8E4M3 ? 0x1p-10
                                                    : 0x1p-17;
  return std::max(UnitRoundoff(dtype) * std::abs(value), absolute);
}

double SumError(int64_t terms, double magnitude) {
  const double n = static_cast<double>(terms + 2) * UnitRoundoff(DType::kF32);
  return n / (1 - n) * magnitude;
}

bool UnderSanitizer() {
  return dlsym(RTLD_DEFAULT, "__tsan_init") != nullptr ||
         dlsym(RTLD_DEFAULT, "__asan_init") != nullptr;
}

double Float8SumError(int64_t terms, double largest) {
  constexpr int64_t kAtATime = 32;
  if (BackendUnderTest() == "cpu") return 0;
  return static_cast<double>(DivUp(terms, kAtATime) * (kAtATime + 1)) * 0x1p-13 * 2 * largest;
}

void ExpectWithin(const std::vector<double>& actual, const std::vector<double>& expected,
                  const std::vector<double>& bound, std::string_view what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  ASSERT_EQ(actual.size(), bound.size()) << what;
  size_t wrong = 0;
  size_t first = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    if (!(error <= bound[i]) && wrong++ == 0) first = i;
  }
  if (wrong > 0) {
    ADD_FAILURE() << what << ": " << wrong << " of " << actual.size()
                  << " values are out of bounds; first [" << first << "] = " << actual[first]
                  << ", expected " << expected[first] << " +- " << bound[first] << ", error "
                  << std::abs(actual[first] - expected[first]);
  }
}

void ExpectSame(const std::vector<double>& actual, const std::vector<double>& expected,
                std::string_view what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    const bool both_nan = std::isnan(actual[i]) && std::isnan(expected[i]);
    if (!both_nan && !(actual[i] == expected[i])) {
      ADD_FAILURE() << what << " [" << i << "] = " << actual[i] << ", expected " << expected[i];
      return;
    }
  }
}

}  // namespace hearth::test
