#include "tests/kernels/attention/attention_oracle.h"

#include <algorithm>
#include <cmath>

#include "tests/support/kernel_test.h"

namespace hearth::test {

namespace {

// Relative error of e^x and of the few operations around it, in fp32.
constexpr double kExpError = 0x1p-20;

struct Dot {
  double value = 0;
  double magnitude = 0;
};

Dot DotOf(const double* a, const double* b, int64_t count) {
  Dot dot;
  for (int64_t i = 0; i < count; ++i) {
    dot.value += a[i] * b[i];
    dot.magnitude += std::abs(a[i] * b[i]);
  }
  return dot;
}

// Where the heads of a case lie in its tensors.
struct Layout {
  explicit Layout(const AttentionCase& c) : case_(c) {}
  int64_t Q(int64_t token, int64_t head) const {
    return (token * case_.qkv_heads() + head) * case_.shape.head_dim;
  }
  int64_t K(int64_t token, int64_t head) const {
    return Q(token, case_.shape.heads + head / (case_.shape.heads / case_.shape.kv_heads));
  }
  int64_t V(int64_t token, int64_t head) const {
    return K(token, head) + case_.shape.kv_heads * case_.shape.head_dim;
  }
  int64_t Out(int64_t token, int64_t head) const {
    return (token * case_.shape.heads + head) * case_.shape.head_dim;
  }
  int64_t Lse(int64_t token, int64_t head) const { return head * case_.tokens + token; }

 private:
  const AttentionCase& case_;
};

// Calls function(first token, query token, head) for every query of every sequence.
template <typename Function>
void ForEachQuery(const AttentionCase& c, const Function& function) {
  for (size_t s = 0; s + 1 < c.offsets.size(); ++s) {
    for (int64_t i = c.offsets[s]; i < c.offsets[s + 1]; ++i) {
      for (int64_t head = 0; head < c.shape.heads; ++head) function(c.offsets[s], i, head);
    }
  }
}

template <typename Function>
void ForEachHeadOfAToken(const AttentionCase& c, const Function& function) {
  for (int64_t token = 0; token < c.tokens; ++token) {
    for (int64_t head = 0; head < c.shape.heads; ++head) function(token, head);
  }
}

// The gradients of keys or values by query head [tokens, heads, head_dim], for what rounding these
// parts of a group's sum costs.
class HeadParts {
 public:
  explicit HeadParts(const AttentionCase& c)
      : case_(c), sums_(static_cast<size_t>(c.tokens * c.shape.heads * c.shape.head_dim)) {}

  void Add(int64_t to, double factor, const double* row) {
    for (int64_t e = 0; e < case_.shape.head_dim; ++e) {
      sums_[static_cast<size_t>(to + e)] += factor * row[e];
    }
  }
  void AddRounding(int64_t from, int64_t to, std::vector<double>& bound) const {
    for (int64_t e = 0; e < case_.shape.head_dim; ++e) {
      bound[static_cast<size_t>(to + e)] +=
          case_.part_roundoff * std::abs(sums_[static_cast<size_t>(from + e)]);
    }
  }

 private:
  const AttentionCase& case_;
  std::vector<double> sums_;
};

}  // namespace

AttentionForwardOracle::AttentionForwardOracle(const AttentionCase& c,
                                               const std::vector<double>& qkv)
    : out(c.tokens * c.shape.heads * c.shape.head_dim), log_sum_exp(c.shape.heads * c.tokens) {
  const Layout at(c);
  const int64_t d = c.shape.head_dim;
  const double scale = static_cast<double>(c.shape.softmax_scale);
  ForEachQuery(c, [&](int64_t first, int64_t i, int64_t head) {
    const int64_t keys = i - first + 1;
    std::vector<double> scores;
    double score_error = 0;
    for (int64_t j = first; j <= i; ++j) {
      const Dot dot = DotOf(&qkv[static_cast<size_t>(at.Q(i, head))],
                            &qkv[static_cast<size_t>(at.K(j, head))], d);
      scores.push_back(dot.value * scale);
      score_error = std::max(score_error, SumError(d + 2, dot.magnitude * std::abs(scale)));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    const double smallest = *std::min_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double score : scores) sum += std::exp(score - largest);
    const double lse = largest + std::log(sum);
    const auto lse_at = static_cast<size_t>(at.Lse(i, head));
    log_sum_exp.value[lse_at] = lse;
    // Subtracting the largest score rounds; the exponential turns it into a relative error.
    const double relative =
        2 * (score_error + (largest - smallest) * 0x1p-24) + kExpError + SumError(keys, 1);
    log_sum_exp.bound[lse_at] = relative + RoundingError(DType::kF32, lse);
    for (int64_t e = 0; e < d; ++e) {
      double value = 0;
      double magnitude = 0;
      for (int64_t j = first; j <= i; ++j) {
        const double term = std::exp(scores[static_cast<size_t>(j - first)] - lse) *
                            qkv[static_cast<size_t>(at.V(j, head) + e)];
        value += term;
        magnitude += std::abs(term);
      }
      const auto out_at = static_cast<size_t>(at.Out(i, head) + e);
      const double error = (2 * relative + c.factor_roundoff * (1 + 2 * relative)) * magnitude +
                           SumError(keys, magnitude * (1 + c.factor_roundoff));
      out.value[out_at] = value;
      out.bound[out_at] = error + RoundingError(c.dtype, std::abs(value) + error);
    }
  });
}

Bounded AttentionBackwardOracle(const AttentionCase& c, const AttentionBackwardInputs& in) {
  const Layout at(c);
  const int64_t d = c.shape.head_dim;
  const double scale = static_cast<double>(c.shape.softmax_scale);
  Bounded result(c.tokens * c.qkv_heads() * d);
  std::vector<double> magnitude(result.value.size());
  HeadParts keys(c);
  HeadParts values(c);
  const auto add = [&](int64_t to, double factor, double factor_error, const double* row) {
    for (int64_t e = 0; e < d; ++e) {
      const auto where = static_cast<size_t>(to + e);
      const double rounding = c.factor_roundoff * (std::abs(factor) + factor_error);
      result.value[where] += factor * row[e];
      result.bound[where] += (factor_error + rounding) * std::abs(row[e]);
      magnitude[where] += (std::abs(factor) + rounding) * std::abs(row[e]);
    }
  };
  int64_t longest = 0;
  ForEachQuery(c, [&](int64_t first, int64_t i, int64_t head) {
    longest = std::max(longest, i - first + 1);
    const double* q = &in.qkv[static_cast<size_t>(at.Q(i, head))];
    const double* d_out = &in.d_out[static_cast<size_t>(at.Out(i, head))];
    const Dot delta = DotOf(&in.out[static_cast<size_t>(at.Out(i, head))], d_out, d);
    for (int64_t j = first; j <= i; ++j) {
      const double* k = &in.qkv[static_cast<size_t>(at.K(j, head))];
      const double* v = &in.qkv[static_cast<size_t>(at.V(j, head))];
      const Dot score = DotOf(q, k, d);
      const double lse = in.log_sum_exp[static_cast<size_t>(at.Lse(i, head))];
      const double p = std::exp(score.value * scale - lse);
      const double p_error =
          2 * p * (SumError(d + 2, score.magnitude * std::abs(scale)) + kExpError);
      const Dot d_p = DotOf(d_out, v, d);
      const double difference = d_p.value - delta.value;
      const double difference_error = SumError(d + 2, d_p.magnitude + delta.magnitude);
      const double d_s = p * difference * scale;
      const double d_s_error =
          std::abs(scale) * (p_error * std::abs(difference) + (p + p_error) * difference_error) +
          0x1p-22 * std::abs(d_s);
      add(at.Q(i, head), d_s, d_s_error, k);
      add(at.K(j, head), d_s, d_s_error, q);
      add(at.V(j, head), p, p_error, d_out);
      keys.Add(at.Out(j, head), d_s, q);
      values.Add(at.Out(j, head), p, d_out);
    }
  });
  ForEachHeadOfAToken(c, [&](int64_t token, int64_t head) {
    keys.AddRounding(at.Out(token, head), at.K(token, head), result.bound);
    values.AddRounding(at.Out(token, head), at.V(token, head), result.bound);
  });
  // Keys and values also gather the heads of their group.
  const int64_t terms = longest * (c.shape.heads / c.shape.kv_heads);
  for (size_t i = 0; i < result.value.size(); ++i) {
    const double error = result.bound[i] + SumError(terms, magnitude[i]);
    result.bound[i] = error + RoundingError(c.dtype, std::abs(result.value[i]) + error);
  }
  return result;
}

}  // namespace hearth::test
