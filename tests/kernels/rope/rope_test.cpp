// RoPE, with and without the per-head norm, against loops in double precision and finite
// differences.
#include "kernels/api/rope.h"

#include <cmath>
#include <functional>

#include "kernels/api/workspace.h"
#include "tests/support/kernel_test.h"
#include "tests/support/partial_sum_rows.h"

namespace hearth::test {
namespace {

constexpr float kEpsilon = 1e-6f;
constexpr int64_t kPositions = 40;

size_t At(int64_t index) { return static_cast<size_t>(index); }

struct RopeCase {
  int64_t tokens;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  DType storage;
  bool norm;

  int64_t all() const { return heads + 2 * kv_heads; }
  int64_t rotated() const { return heads + kv_heads; }
};

std::ostream& operator<<(std::ostream& out, const RopeCase& c) {
  return out << c.tokens << " tokens " << c.heads << '+' << c.kv_heads << " heads of " << c.head_dim
             << ' ' << Name(c.storage) << (c.norm ? " norm" : "");
}

std::vector<RopeCase> Cases() {
  std::vector<RopeCase> cases;
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const bool norm : {false, true}) {
      cases.push_back({1, 1, 1, 2, storage, norm});
      cases.push_back({3, 4, 2, 6, storage, norm});
      cases.push_back({64, 2, 2, 16, storage, norm});
      cases.push_back({131, 6, 1, 34, storage, norm});
    }
    // Around the sizes where a partial sum of the norms' gradients gets more tokens.
    for (const int64_t tokens : RowsAroundPartialSums()) {
      cases.push_back({tokens, 1, 1, 6, storage, true});
    }
    cases.push_back({1025, 3, 1, 32, storage, true});
  }
  return cases;
}

// Everything a case reads and writes.
struct Tensors {
  Tensors(Rig& rig, Random& random, const RopeCase& c, DType accumulator = DType::kF32)
      : problem(c),
        qkv(rig, c.storage, {c.tokens, c.all(), c.head_dim},
            random.Normals(c.tokens * c.all() * c.head_dim)),
        d_out(rig, c.storage, {c.tokens, c.all(), c.head_dim},
              random.Normals(c.tokens * c.all() * c.head_dim)),
        positions(rig, DType::kI32, {c.tokens}, Positions(random, c.tokens)),
        cos_sin(rig, DType::kF32, {kPositions, c.head_dim}, CosSin(c.head_dim)),
        norm_q(rig, c.storage, {c.head_dim}, random.Normals(c.head_dim)),
        norm_k(rig, c.storage, {c.head_dim}, random.Normals(c.head_dim)),
        rstd(rig, DType::kF32, {c.tokens, c.rotated()}),
        out(rig, c.storage, {c.tokens, c.all(), c.head_dim}),
        d_qkv(rig, c.storage, {c.tokens, c.all(), c.head_dim}),
        d_norm_q(rig, accumulator, {c.head_dim}, random.Normals(c.head_dim)),
        d_norm_k(rig, accumulator, {c.head_dim}, random.Normals(c.head_dim)),
        workspace(rig, DType::kU8,
                  {RopeBackwardWorkspaceBytes(c.tokens, c.heads, c.kv_heads, c.head_dim)}) {}

  static std::vector<double> Positions(Random& random, int64_t tokens) {
    std::vector<double> positions;
    for (int64_t i = 0; i < tokens; ++i) {
      positions.push_back(static_cast<double>(random.Integer(0, kPositions - 1)));
    }
    return positions;
  }
  static std::vector<double> CosSin(int64_t head_dim) {
    std::vector<double> table;
    for (int64_t position = 0; position < kPositions; ++position) {
      for (int64_t i = 0; i < head_dim; ++i) {
        const int64_t pair = i % (head_dim / 2);
        const double angle =
            static_cast<double>(position) *
            std::pow(10000.0, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
        table.push_back(i < head_dim / 2 ? std::cos(angle) : std::sin(angle));
      }
    }
    return table;
  }

  RopeForwardArgs Forward() const {
    RopeForwardArgs args{.heads = problem.heads,
                         .kv_heads = problem.kv_heads,
                         .qkv = qkv,
                         .positions = positions,
                         .cos_sin = cos_sin,
                         .out = out};
    if (problem.norm) {
      args.norm = {.q = norm_q, .k = norm_k, .epsilon = kEpsilon};
      args.rstd = rstd;
    }
    return args;
  }
  RopeBackwardArgs Backward() const {
    RopeBackwardArgs args{.heads = problem.heads,
                          .kv_heads = problem.kv_heads,
                          .d_out = d_out,
                          .positions = positions,
                          .cos_sin = cos_sin,
                          .d_qkv = d_qkv};
    if (problem.norm) {
      args.norm = {.q = norm_q, .k = norm_k, .epsilon = kEpsilon};
      args.qkv = qkv;
      args.rstd = rstd;
      args.d_norm_q = d_norm_q;
      args.d_norm_k = d_norm_k;
      args.workspace = workspace;
    }
    return args;
  }

  RopeCase problem;
  DeviceTensor qkv, d_out, positions, cos_sin, norm_q, norm_k, rstd, out, d_qkv, d_norm_q, d_norm_k,
      workspace;
};

// The inputs of the oracle in double.
struct Inputs {
  std::vector<double> qkv, norm_q, norm_k, positions, cos_sin;
};

// rope(norm(qkv)) in double; optionally an error bound of the fp32 result before its last rounding.
std::vector<double> Oracle(const RopeCase& c, const Inputs& in, std::vector<double>* error) {
  std::vector<double> out = in.qkv;
  if (error != nullptr) error->assign(out.size(), 0.0);
  const double norm_error = 0.5 * SumError(c.head_dim, 1.0) + 0x1p-22;
  for (int64_t token = 0; token < c.tokens; ++token) {
    const double* angles =
        in.cos_sin.data() + static_cast<int64_t>(in.positions[At(token)]) * c.head_dim;
    for (int64_t h = 0; h < c.rotated(); ++h) {
      double* head = out.data() + (token * c.all() + h) * c.head_dim;
      std::vector<double> uncertain(At(c.head_dim), 0.0);
      if (c.norm) {
        double sum = 0;
        for (int64_t i = 0; i < c.head_dim; ++i) sum += head[i] * head[i];
        const double rstd =
            1 / std::sqrt(sum / static_cast<double>(c.head_dim) + static_cast<double>(kEpsilon));
        const std::vector<double>& weight = h < c.heads ? in.norm_q : in.norm_k;
        for (int64_t i = 0; i < c.head_dim; ++i) {
          const double normalized = head[i] * rstd;
          head[i] = normalized * weight[At(i)];
          // Two roundings to storage, and the fp32 statistics.
          const double before = std::abs(normalized) * (norm_error + 0x1p-24);
          uncertain[At(i)] = (before + RoundingError(c.storage, std::abs(normalized) + before)) *
                             std::abs(weight[At(i)]);
          uncertain[At(i)] += 2 * RoundingError(c.storage, std::abs(head[i]) + uncertain[At(i)]);
        }
      }
      const int64_t half = c.head_dim / 2;
      for (int64_t i = 0; i < half; ++i) {
        const double x1 = head[i];
        const double x2 = head[i + half];
        const double cosine = angles[i];
        const double sine = angles[i + half];
        head[i] = x1 * cosine - x2 * sine;
        head[i + half] = x2 * cosine + x1 * sine;
        if (error == nullptr) continue;
        double* bound = error->data() + (token * c.all() + h) * c.head_dim;
        const double u1 = uncertain[At(i)];
        const double u2 = uncertain[At(i + half)];
        const double a = std::abs(cosine);
        const double b = std::abs(sine);
        bound[i] = u1 * a + u2 * b + 0x1p-22 * (std::abs(x1) * a + std::abs(x2) * b);
        bound[i + half] = u2 * a + u1 * b + 0x1p-22 * (std::abs(x2) * a + std::abs(x1) * b);
      }
    }
  }
  return out;
}

Inputs InputsOf(const Tensors& t) {
  return {t.qkv.Get(), t.norm_q.Get(), t.norm_k.Get(), t.positions.Get(), t.cos_sin.Get()};
}

class RopeTest : public KernelTest {};

TEST_P(RopeTest, ForwardMatchesDoublePrecision) {
  for (const RopeCase& c : Cases()) {
    SCOPED_TRACE(c);
    const Tensors t(rig_, random_, c);
    backend().RopeForward(stream(), t.Forward());
    std::vector<double> bound;
    const std::vector<double> expected = Oracle(c, InputsOf(t), &bound);
    for (size_t i = 0; i < bound.size(); ++i) {
      bound[i] += RoundingError(c.storage, std::abs(expected[i]) + bound[i]);
    }
    const std::vector<double> out = t.out.Get();
    ExpectWithin(out, expected, bound, "out");
    const std::vector<double> in = t.qkv.Get();
    for (int64_t i = 0; i < c.tokens * c.all() * c.head_dim; ++i) {
      if (i / c.head_dim % c.all() < c.rotated()) continue;
      ASSERT_EQ(out[At(i)], in[At(i)]) << "values are copied";
    }
  }
}

// The backward pass is linear in d_out: judged against differences of the double-precision forward,
// direction by direction.
TEST_P(RopeTest, BackwardMatchesFiniteDifferences) {
  for (const bool norm : {false, true}) {
    const RopeCase c{3, 3, 2, 6, DType::kF32, norm};
    SCOPED_TRACE(c);
    const Tensors t(rig_, random_, c);
    backend().RopeForward(stream(), t.Forward());
    const std::vector<double> before_q = t.d_norm_q.Get();
    const std::vector<double> before_k = t.d_norm_k.Get();
    backend().RopeBackward(stream(), t.Backward());
    Inputs in = InputsOf(t);
    const std::vector<double> d_out = t.d_out.Get();
    const auto slopes = [&](std::vector<double>& values) {
      std::vector<double> result;
      const auto loss = [&] {
        const std::vector<double> out = Oracle(c, in, nullptr);
        double sum = 0;
        for (size_t i = 0; i < out.size(); ++i) sum += out[i] * d_out[i];
        return sum;
      };
      for (double& value : values) {
        const double kept = value;
        value = kept + 1e-5;
        const double above = loss();
        value = kept - 1e-5;
        result.push_back((above - loss()) / 2e-5);
        value = kept;
      }
      return result;
    };
    const std::vector<double> d_qkv = slopes(in.qkv);
    // Third derivatives of the norm grow as rstd^3 where a head is small.
    ExpectWithin(t.d_qkv.Get(), d_qkv, std::vector<double>(d_qkv.size(), 1e-4), "d_qkv");
    if (!norm) continue;
    std::vector<double> d_q = slopes(in.norm_q);
    std::vector<double> d_k = slopes(in.norm_k);
    for (size_t i = 0; i < d_q.size(); ++i) {
      d_q[i] += before_q[i];
      d_k[i] += before_k[i];
    }
    ExpectWithin(t.d_norm_q.Get(), d_q, std::vector<double>(d_q.size(), 2e-5), "d_norm_q");
    ExpectWithin(t.d_norm_k.Get(), d_k, std::vector<double>(d_k.size(), 2e-5), "d_norm_k");
  }
}

struct Gradients {
  std::vector<double> d_qkv, d_qkv_error, d_norm[2], d_norm_error[2];
};

// The gradient in double with an error bound of the fp32 result before its last rounding.
Gradients BackwardOracle(const RopeCase& c, const Inputs& in, const std::vector<double>& d_out) {
  Gradients result{d_out, std::vector<double>(d_out.size(), 0.0), {}, {}};
  for (int i = 0; i < 2; ++i) {
    result.d_norm[i].assign(At(c.head_dim), 0.0);
    result.d_norm_error[i].assign(At(c.head_dim), 0.0);
  }
  const double norm_error = SumError(c.head_dim, 1.0) + 0x1p-20;
  const int64_t half = c.head_dim / 2;
  for (int64_t head = 0; head < c.tokens * c.all(); ++head) {
    const int64_t h = head % c.all();
    if (h >= c.rotated()) continue;
    const auto position = static_cast<int64_t>(in.positions[At(head / c.all())]);
    const double* angles = in.cos_sin.data() + position * c.head_dim;
    double* d = result.d_qkv.data() + head * c.head_dim;
    double* error = result.d_qkv_error.data() + head * c.head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const double d1 = d[i];
      const double d2 = d[i + half];
      d[i] = d1 * angles[i] + d2 * angles[i + half];
      d[i + half] = d2 * angles[i] - d1 * angles[i + half];
      error[i] = error[i + half] = 0x1p-22 * (std::abs(d1) + std::abs(d2));
    }
    if (!c.norm) continue;
    const double* x = in.qkv.data() + head * c.head_dim;
    const int which = h < c.heads ? 0 : 1;
    const std::vector<double>& weight = which == 0 ? in.norm_q : in.norm_k;
    double squares = 0;
    for (int64_t i = 0; i < c.head_dim; ++i) squares += x[i] * x[i];
    const double rstd =
        1 / std::sqrt(squares / static_cast<double>(c.head_dim) + static_cast<double>(kEpsilon));
    double mean = 0, mean_magnitude = 0, mean_error = 0;
    for (int64_t i = 0; i < c.head_dim; ++i) {
      const double n = x[i] * rstd;
      result.d_norm[which][At(i)] += d[i] * n;
      result.d_norm_error[which][At(i)] +=
          std::abs(d[i]) * (RoundingError(c.storage, n) * 1.01 + norm_error * std::abs(n)) +
          error[i] * std::abs(n) + SumError(c.tokens * c.heads, std::abs(d[i] * n));
      mean += d[i] * weight[At(i)] * n / static_cast<double>(c.head_dim);
      mean_magnitude += std::abs(d[i] * weight[At(i)] * n) / static_cast<double>(c.head_dim);
      mean_error += error[i] * std::abs(weight[At(i)] * n) / static_cast<double>(c.head_dim);
    }
    for (int64_t i = 0; i < c.head_dim; ++i) {
      const double n = x[i] * rstd;
      const double g = d[i] * weight[At(i)];
      const double g_error = error[i] * std::abs(weight[At(i)]);
      d[i] = rstd * (g - n * mean);
      error[i] = rstd * (g_error + std::abs(n) * mean_error +
                         4 * norm_error * (std::abs(g) + std::abs(n) * mean_magnitude));
    }
  }
  return result;
}

TEST_P(RopeTest, BackwardMatchesDoublePrecision) {
  for (const RopeCase& c : Cases()) {
    for (const DType accumulator : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(c);
      const Tensors t(rig_, random_, c, accumulator);
      backend().RopeForward(stream(), t.Forward());
      const std::vector<double> before[] = {t.d_norm_q.Get(), t.d_norm_k.Get()};
      backend().RopeBackward(stream(), t.Backward());
      Gradients expected = BackwardOracle(c, InputsOf(t), t.d_out.Get());
      for (size_t i = 0; i < expected.d_qkv.size(); ++i) {
        expected.d_qkv_error[i] +=
            RoundingError(c.storage, std::abs(expected.d_qkv[i]) + expected.d_qkv_error[i]);
      }
      ExpectWithin(t.d_qkv.Get(), expected.d_qkv, expected.d_qkv_error, "d_qkv");
      for (int which = 0; which < 2; ++which) {
        std::vector<double>& sum = expected.d_norm[which];
        std::vector<double>& bound = expected.d_norm_error[which];
        for (size_t i = 0; i < sum.size(); ++i) {
          sum[i] += before[which][i];
          bound[i] += 2 * RoundingError(accumulator,
                                        std::abs(sum[i]) + std::abs(before[which][i]) + bound[i]);
          if (!c.norm) bound[i] = 0;
        }
        ExpectWithin((which == 0 ? t.d_norm_q : t.d_norm_k).Get(), c.norm ? sum : before[which],
                     bound, "d_norm");
      }
    }
  }
}

// At position 0 and with rstd = 1 the norms' gradients are sums of squares of integers, exact
// in any order, so that a head left out or added twice shows.
TEST_P(RopeTest, BackwardTakesEveryHeadOnce) {
  using enum DType;
  for (const auto& [storage, head_dim] : {std::pair{kF32, 6}, {kF32, 8}, {kBF16, 6}, {kBF16, 32}}) {
    for (const int64_t tokens : RowsAroundPartialSums()) {
      const RopeCase c{tokens, 3, 1, head_dim, storage, true};
      SCOPED_TRACE(c);
      Tensors t(rig_, random_, c);
      const std::vector<double> x = SmallIntegers(random_, tokens * c.all() * head_dim);
      const std::vector<double> before = SmallIntegers(random_, head_dim);
      std::vector<double> sums[] = {before, before, before};
      t.qkv.Set(x);
      t.d_out.Set(x);
      t.positions.Set(std::vector<double>(At(tokens), 0.0));
      t.rstd.Set(std::vector<double>(At(tokens * c.rotated()), 1.0));
      for (DeviceTensor* tensor : {&t.d_norm_q, &t.d_norm_k}) tensor->Set(before);
      backend().RopeBackward(stream(), t.Backward());
      for (int64_t i = 0; i < std::ssize(x); ++i) {
        const int64_t h = i / head_dim % c.all();
        const int kind = h < c.heads ? 0 : h < c.rotated() ? 1 : 2;
        sums[kind][At(i % head_dim)] += x[At(i)] * x[At(i)];
      }
      ExpectSame(t.d_norm_q.Get(), sums[0], "d_norm_q");
      ExpectSame(t.d_norm_k.Get(), sums[1], "d_norm_k");
    }
  }
}

TEST_P(RopeTest, InPlace) {
  const RopeCase plain{70, 4, 2, 16, DType::kBF16, false};
  const Tensors t(rig_, random_, plain);
  RopeForwardArgs forward = t.Forward();
  backend().RopeForward(stream(), forward);
  forward.out = t.qkv;
  backend().RopeForward(stream(), forward);
  EXPECT_EQ(t.qkv.GetBytes(), t.out.GetBytes());
  for (const bool norm : {false, true}) {
    RopeCase c = plain;
    c.norm = norm;
    const Tensors b(rig_, random_, c);
    backend().RopeForward(stream(), b.Forward());
    RopeBackwardArgs backward = b.Backward();
    backend().RopeBackward(stream(), backward);
    backward.d_qkv = b.d_out;
    backend().RopeBackward(stream(), backward);
    EXPECT_EQ(b.d_out.GetBytes(), b.d_qkv.GetBytes());
  }
}

// A rotation is undone by its transpose, and keeps lengths: an oracle without any formula.
TEST_P(RopeTest, BackwardUndoesForward) {
  const RopeCase c{20, 3, 1, 32, DType::kF32, false};
  const Tensors t(rig_, random_, c);
  backend().RopeForward(stream(), t.Forward());
  RopeBackwardArgs args = t.Backward();
  args.d_out = t.out;
  backend().RopeBackward(stream(), args);
  const std::vector<double> in = t.qkv.Get();
  ExpectWithin(t.d_qkv.Get(), in, std::vector<double>(in.size(), 4e-6), "round trip");
}

TEST_P(RopeTest, NothingDependsOnTheNumberOfThreads) {
  const RopeCase c{211, 3, 2, 24, DType::kBF16, true};
  const std::vector<double> values = random_.Normals(c.tokens * c.all() * c.head_dim);
  const std::vector<double> positions = Tensors::Positions(random_, c.tokens);
  std::vector<std::vector<uint8_t>> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    Tensors t(rig, random_, c);
    const std::vector<double> weight(24, 1.25);
    t.qkv.Set(values);
    t.d_out.Set(values);
    t.positions.Set(positions);
    for (DeviceTensor* tensor : {&t.norm_q, &t.norm_k, &t.d_norm_q, &t.d_norm_k})
      tensor->Set(weight);
    rig.backend().RopeForward(rig.stream(), t.Forward());
    rig.backend().RopeBackward(rig.stream(), t.Backward());
    std::vector<std::vector<uint8_t>> results = {t.out.GetBytes(), t.rstd.GetBytes(),
                                                 t.d_qkv.GetBytes(), t.d_norm_q.GetBytes(),
                                                 t.d_norm_k.GetBytes()};
    if (first.empty()) first = results;
    EXPECT_EQ(results, first) << threads << " threads";
  }
}

TEST_P(RopeTest, RefusesWrongForwardArguments) {
  const Tensors t(rig_, random_, {8, 4, 2, 16, DType::kBF16, true});
  const Tensors plain(rig_, random_, {8, 4, 2, 16, DType::kBF16, false});
  EXPECT_NO_THROW(Validate(t.Forward()));
  EXPECT_NO_THROW(Validate(plain.Forward()));
  const auto refuses = [&](const std::function<void(RopeForwardArgs&)>& change) {
    RopeForwardArgs args = t.Forward();
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses([](auto& args) { args.qkv = {}; });
  refuses([](auto& args) { args.positions = {}; });
  refuses([](auto& args) { args.cos_sin = {}; });
  refuses([](auto& args) { args.out = {}; });
  refuses([](auto& args) { args.rstd = {}; });
  refuses([](auto& args) { args.norm.q = {}; });
  refuses([](auto& args) { args.norm.k = {}; });
  refuses([](auto& args) { args.norm = {}; });  // rstd is left
  refuses([](auto& args) { args.norm.epsilon = 0; });
  refuses([](auto& args) { args.heads = 5; });
  refuses([](auto& args) { args.kv_heads = 0; });
  refuses([](auto& args) { args.out = args.qkv; });
  refuses([](auto& args) { args.out = args.out.Reshape({8, 16, 8}); });
  refuses([](auto& args) { args.cos_sin = args.cos_sin.Reshape({80, 8}); });
  refuses([](auto& args) { args.positions = args.positions.Flat(0, 7); });
  refuses([&](auto& args) { args.qkv = args.qkv.Flat(0, 8 * 8 * 15).Reshape({8, 8, 15}); });
}

TEST_P(RopeTest, RefusesWrongBackwardArguments) {
  const Tensors t(rig_, random_, {8, 4, 2, 16, DType::kBF16, true});
  const Tensors plain(rig_, random_, {8, 4, 2, 16, DType::kBF16, false});
  EXPECT_NO_THROW(Validate(t.Backward()));
  EXPECT_NO_THROW(Validate(plain.Backward()));
  const auto refuses = [&](const Tensors& tensors,
                           const std::function<void(RopeBackwardArgs&)>& change) {
    RopeBackwardArgs args = tensors.Backward();
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses(t, [](auto& args) { args.d_out = {}; });
  refuses(t, [](auto& args) { args.qkv = {}; });
  refuses(t, [](auto& args) { args.rstd = {}; });
  refuses(t, [](auto& args) { args.d_norm_q = {}; });
  refuses(t, [](auto& args) { args.d_norm_k = {}; });
  refuses(t, [](auto& args) { args.d_norm_k = args.d_norm_q; });
  refuses(t, [](auto& args) { args.workspace = {}; });
  refuses(t, [](auto& args) { args.workspace = args.workspace.Flat(0, 64); });
  refuses(t, [](auto& args) { args.d_qkv = args.qkv; });
  refuses(t, [](auto& args) { args.norm = {}; });
  refuses(plain, [&](auto& args) { args.qkv = plain.qkv; });
  refuses(plain, [&](auto& args) { args.rstd = plain.rstd; });
  refuses(plain, [&](auto& args) { args.d_norm_q = plain.d_norm_q; });
}

// A position beyond the table is an error of the stream's work, not a stray access.
TEST_P(RopeTest, ReportsPositionsBeyondTheTable) {
  if (GetParam() != "cpu") GTEST_SKIP() << "checked on the CPU only";
  for (const double position : {static_cast<double>(kPositions), -1.0}) {
    Tensors t(rig_, random_, {2, 1, 1, 4, DType::kF32, false});
    t.positions.Set({0, position});
    backend().RopeForward(stream(), t.Forward());
    EXPECT_THROW(rig_.Finish(), CheckError);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RopeTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
