// One file because Highway compiles it once per instruction set, by including it again for each.
#include "kernels/host/simd_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/core/adamw_formula.h"
#include "kernels/core/philox.h"

// Their vectors have no size at compile time, so they cannot be members or arrays.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/host/simd_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace hearth {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using WordTag = hn::ScalableTag<uint32_t>;
using IntTag = hn::ScalableTag<int32_t>;
using WideTag = hn::ScalableTag<uint64_t>;
using HalfTag = hn::Rebind<uint16_t, WordTag>;
using ByteTag = hn::Rebind<uint8_t, WordTag>;
using Floats = hn::Vec<FloatTag>;
using Words = hn::Vec<WordTag>;
using Wides = hn::Vec<WideTag>;

// a * b + c with one rounding on every target.
HWY_INLINE Floats Fma(Floats a, Floats b, Floats c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  const FloatTag d;
  HWY_ALIGN float lanes[3][HWY_MAX_BYTES / sizeof(float)];
  hn::Store(a, d, lanes[0]);
  hn::Store(b, d, lanes[1]);
  hn::Store(c, d, lanes[2]);
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    lanes[0][i] = std::fma(lanes[0][i], lanes[1][i], lanes[2][i]);
  }
  return hn::Load(d, lanes[0]);
#endif
}

HWY_INLINE Words BitsOf(Floats values) { return hn::BitCast(WordTag(), values); }
HWY_INLINE Floats FromBits(Words bits) { return hn::BitCast(FloatTag(), bits); }

HWY_INLINE Floats LoadFloats(const StoredFloats& stored, int64_t index) {
  if (!stored.is_bf16) return hn::LoadU(FloatTag(), static_cast<const float*>(stored.data) + index);
  const auto halves = hn::LoadU(HalfTag(), static_cast<const uint16_t*>(stored.data) + index);
  return FromBits(hn::ShiftLeft<16>(hn::PromoteTo(WordTag(), halves)));
}

#if HWY_TARGET != HWY_SCALAR

// Stores the upper halves of the bits of two vectors of consecutive elements.
HWY_INLINE void StoreUpperHalves(Words first, Words second, const StoredFloats& stored,
                                 int64_t index) {
  const hn::ScalableTag<uint16_t> d;
  hn::StoreU(hn::ConcatOdd(d, hn::BitCast(d, second), hn::BitCast(d, first)), d,
             static_cast<uint16_t*>(stored.data) + index);
}

#endif  // HWY_TARGET

// ToBFloat16, left in the upper half with a lower half of zeros.
HWY_INLINE Words RoundNearest(Words bits) {
  const WordTag d;
  const Words odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
  const Words rounded = hn::Add(hn::Add(bits, hn::Set(d, 0x7fff)), odd);
  const Words quiet = hn::Or(bits, hn::Set(d, 0x400000));
  const auto is_nan = hn::RebindMask(d, hn::IsNaN(FromBits(bits)));
  return hn::And(hn::IfThenElse(is_nan, quiet, rounded), hn::Set(d, 0xffff0000));
}

// ToBFloat16Stochastic with the low half of `random`, left in the upper half above leftovers. From
// 0x7f7f0000 on nothing is added: such a finite number may not become infinite, so it is truncated
// whatever is drawn, and infinities and NaNs stay. (A NaN that arithmetic made is quiet already.)
HWY_INLINE Words RoundStochastic(Words bits, Words random) {
  const WordTag d;
  const Words magnitude = hn::And(bits, hn::Set(d, 0x7fffffff));
  const auto adds = hn::Lt(magnitude, hn::Set(d, 0x7f7f0000));
  const Words sum = hn::Add(bits, hn::And(random, hn::Set(d, 0xffff)));
  return hn::IfThenElse(adds, sum, bits);
}

float LoadOne(const StoredFloats& stored, int64_t index) {
  if (!stored.is_bf16) return static_cast<const float*>(stored.data)[index];
  return ToFloat(static_cast<const BFloat16*>(stored.data)[index]);
}

float StoreOne(float value, const StoredFloats& stored, int64_t index, const RandomStream& stream,
               uint64_t element) {
  if (!stored.is_bf16) return static_cast<float*>(stored.data)[index] = value;
  const BFloat16 rounded = ToBFloat16Stochastic(value, stream.DrawElement(element));
  static_cast<BFloat16*>(stored.data)[index] = rounded;
  return ToFloat(rounded);
}

// Writes one weight; the bits of its magnitude.
uint32_t StoreOneWeight(float master, const StoredFloats& weight, int64_t index) {
  if (weight.data == nullptr) return 0;
  if (weight.is_bf16) {
    static_cast<BFloat16*>(weight.data)[index] = ToBFloat16(master);
  } else {
    static_cast<float*>(weight.data)[index] = master;
  }
  return std::bit_cast<uint32_t>(LoadOne(weight, index)) & 0x7fffffffu;
}

// The elements before and behind the vector loop.
uint32_t UpdateSingly(const UpdateRange& range, int64_t begin, int64_t end) {
  const AdamwHyper& hyper = *range.hyper;
  const auto stream = [&](RandomUse use) {
    return RandomStream{
        .seed = hyper.seed, .step = hyper.step, .tensor_id = range.tensor_id, .use = use};
  };
  uint32_t largest = 0;
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t element = range.first_element + static_cast<uint64_t>(i);
    const AdamwMoments moments =
        AdamwMomentsUpdate(LoadOne(range.m, i), LoadOne(range.v, i), LoadOne(range.gradient, i),
                           range.clip_factor, hyper.beta1, hyper.beta2);
    const float m = StoreOne(moments.m, range.m, i, stream(RandomUse::kMomentM), element);
    const float v = StoreOne(moments.v, range.v, i, stream(RandomUse::kMomentV), element);
    float master =
        AdamwMasterUpdate(LoadOne(range.master, i), m, v, hyper.learning_rate, hyper.epsilon,
                          range.decay, hyper.inverse_bias1, hyper.inverse_sqrt_bias2);
    master = StoreOne(master, range.master, i, stream(RandomUse::kMaster), element);
    largest = std::max(largest, StoreOneWeight(master, range.weight, i));
  }
  return largest;
}

#if HWY_TARGET != HWY_SCALAR

// Philox4x32-10 (kernels/core/philox.h) for as many counters as there are 64-bit lanes, one counter
// word a lane. Only the lower half of a lane counts: the multiplication reads no more, so what
// stands above it is never cleared. Most of the first three rounds does not depend on the group or
// on the use, which differ in one counter word each; that part is computed once.
class Philox {
 public:
  static constexpr int kRounds = 10;
  static constexpr uint64_t kMultiplier0 = 0xD2511F53u;
  static constexpr uint64_t kMultiplier1 = 0xCD9E8D57u;

  // All groups of one object have the same upper half.
  Philox(uint64_t seed, uint32_t step, uint32_t group_high) {
    for (int round = 0; round < kRounds; ++round) {
      key0_[round] = static_cast<uint32_t>(seed) + static_cast<uint32_t>(round) * 0x9E3779B9u;
      key1_[round] = static_cast<uint32_t>(seed >> 32) + static_cast<uint32_t>(round) * 0xBB67AE85u;
    }
    const uint64_t product1 = kMultiplier1 * step;
    word1_ = static_cast<uint32_t>(product1);
    const uint64_t word0 = (product1 >> 32) ^ group_high ^ key0_[0];
    product0_ = kMultiplier0 * (word0 & 0xffffffffu);
  }

  // The words of a group; the lower halves of the lanes.
  struct Draws {
    Wides word[4];
  };

  // The draws of kGroups vectors of groups for kUses uses, draws[vector][use]: as many independent
  // chains, advanced in step because one alone leaves most of the machine idle.
  template <int kGroups, int kUses>
  HWY_INLINE void Draw(const Wides (&group)[kGroups], const uint32_t (&use_word)[kUses],
                       Draws (&draws)[kGroups][kUses]) const {
    for (int g = 0; g < kGroups; ++g) {
      // Independent of the use: word 3 and the upper half of product 0 of round 1, word 2 of round
      // 2, product 1 of round 3.
      const Wides product0 = Multiply(group[g], kMultiplier0);
      const Wides high0 = High(product0);
      const Wides word2 = hn::Xor(product0, Set((product0_ >> 32) ^ key1_[1]));
      const Wides shared = Multiply(word2, kMultiplier1);
      const Wides shared_high = hn::Xor(High(shared), Set(key0_[2]));
      for (int u = 0; u < kUses; ++u) {
        const Wides first2 = hn::Xor(high0, Set(use_word[u] ^ key1_[0]));
        const Wides product1 = Multiply(first2, kMultiplier1);
        const Wides second0 = hn::Xor(High(product1), Set(word1_ ^ key0_[1]));
        const Wides third = Multiply(second0, kMultiplier0);
        Wides* word = draws[g][u].word;
        word[0] = hn::Xor(shared_high, product1);
        word[1] = shared;
        // Word 3 of round 2 is the lower half of product0_.
        word[2] = hn::Xor(High(third), Set((product0_ & 0xffffffffu) ^ key1_[2]));
        word[3] = third;
      }
    }
    for (int round = 3; round < kRounds; ++round) {
      for (int g = 0; g < kGroups; ++g) {
        for (int u = 0; u < kUses; ++u) {
          Wides* word = draws[g][u].word;
          const Wides product0 = Multiply(word[0], kMultiplier0);
          const Wides product1 = Multiply(word[2], kMultiplier1);
          word[0] = hn::Xor3(High(product1), word[1], Set(key0_[round]));
          word[1] = product1;
          word[2] = hn::Xor3(High(product0), word[3], Set(key1_[round]));
          word[3] = product0;
        }
      }
    }
  }

 private:
  static HWY_INLINE Wides Set(uint64_t value) { return hn::Set(WideTag(), value); }
  // The upper half where it counts. A shuffle: it competes less with multiplications than a shift.
  static HWY_INLINE Wides High(Wides values) {
    return hn::BitCast(WideTag(), hn::Shuffle2301(hn::BitCast(WordTag(), values)));
  }
  // The lower half times a 32-bit constant.
  static HWY_INLINE Wides Multiply(Wides values, uint64_t factor) {
    const WordTag d;
    return hn::MulEven(hn::BitCast(d, values), hn::BitCast(d, Set(factor)));
  }

  uint64_t key0_[kRounds];
  uint64_t key1_[kRounds];
  uint64_t word1_ = 0;     // word 1 after round 1
  uint64_t product0_ = 0;  // of round 2
};

// The draws of two vectors of consecutive elements.
struct DrawPair {
  Words first, second;
};

// Groups in the order that makes Interleave deliver elements in theirs: lane 2b holds group b, lane
// 2b + 1 group b + half the lanes.
HWY_INLINE Wides GroupPattern() {
  const WideTag d;
  const Wides lane = hn::Iota(d, 0);
  const Wides half = hn::Set(d, hn::Lanes(d) / 2);
  const Wides odd = hn::And(lane, hn::Set(d, 1));
  return hn::Add(hn::ShiftRight<1>(lane), hn::And(half, hn::Sub(hn::Zero(d), odd)));
}

HWY_INLINE DrawPair Interleave(const Philox::Draws& words) {
  const WideTag d;
  const Wides low = hn::Set(d, 0xffffffffu);
  const Wides pair01 = hn::Or(hn::And(words.word[0], low), hn::ShiftLeft<32>(words.word[1]));
  const Wides pair23 = hn::Or(hn::And(words.word[2], low), hn::ShiftLeft<32>(words.word[3]));
  return {hn::BitCast(WordTag(), hn::InterleaveLower(d, pair01, pair23)),
          hn::BitCast(WordTag(), hn::InterleaveUpper(d, pair01, pair23))};
}

// Elements that one step of the vector loop covers: their draws and converted values stay in the
// first-level cache. Starts at a group of four.
// A multiple of what any DrawUses makes at a time.
constexpr int64_t kBlock = 512;

struct Scratch {
  HWY_ALIGN uint32_t random_m[kBlock];
  HWY_ALIGN uint32_t random_v[kBlock];
  HWY_ALIGN uint32_t random_master[kBlock];
  HWY_ALIGN float gradient[kBlock];
};

uint32_t UseWord(const UpdateRange& range, RandomUse use) {
  return (range.tensor_id << 16) | (static_cast<uint32_t>(use) << 12);
}

// Draws for `count` elements (rounded up, within kBlock) from `first_element` on, of kUses uses.
template <int kGroups, int kUses>
void DrawUses(const Philox& philox, const uint32_t (&use_word)[kUses],
              uint32_t* const (&random)[kUses], uint64_t first_element, int64_t count) {
  const WordTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const Wides group_step = hn::Set(WideTag(), hn::Lanes(WideTag()));
  Wides next = hn::Add(hn::Set(WideTag(), first_element / 4), GroupPattern());
  for (int64_t i = 0; i < count; i += kGroups * 2 * lanes) {
    Wides group[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      group[g] = next;
      next = hn::Add(next, group_step);
    }
    Philox::Draws draws[kGroups][kUses];
    philox.Draw(group, use_word, draws);
    for (int g = 0; g < kGroups; ++g) {
      for (int u = 0; u < kUses; ++u) {
        const DrawPair pair = Interleave(draws[g][u]);
        hn::Store(pair.first, d, random[u] + i + 2 * g * lanes);
        hn::Store(pair.second, d, random[u] + i + (2 * g + 1) * lanes);
      }
    }
  }
}

// The draws of the state's bf16 tensors for a block.
void DrawBlock(const UpdateRange& range, const Philox& philox, uint64_t first_element,
               int64_t count, Scratch& scratch) {
  uint32_t word[3] = {};
  uint32_t* random[3] = {};
  int uses = 0;
  const auto add = [&](const StoredFloats& stored, RandomUse use, uint32_t* draws) {
    if (!stored.is_bf16) return;
    word[uses] = UseWord(range, use);
    random[uses++] = draws;
  };
  add(range.m, RandomUse::kMomentM, scratch.random_m);
  add(range.v, RandomUse::kMomentV, scratch.random_v);
  add(range.master, RandomUse::kMaster, scratch.random_master);
  if (uses == 1) {
    DrawUses<4, 1>(philox, {word[0]}, {random[0]}, first_element, count);
  } else if (uses == 2) {
    DrawUses<2, 2>(philox, {word[0], word[1]}, {random[0], random[1]}, first_element, count);
  } else if (uses == 3) {
    DrawUses<1, 3>(philox, word, {random[0], random[1], random[2]}, first_element, count);
  }
}

template <bool kIsBf16>
HWY_INLINE Floats LoadState(const StoredFloats& stored, int64_t index) {
  return LoadFloats({stored.data, kIsBf16}, index);
}

// Two vectors of consecutive elements.
struct FloatPair {
  Floats first, second;
};

template <bool kIsBf16>
HWY_INLINE FloatPair LoadPair(const StoredFloats& stored, int64_t index) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(FloatTag()));
  return {LoadState<kIsBf16>(stored, index), LoadState<kIsBf16>(stored, index + lanes)};
}

// Rounds state values into their storage, stores them, and returns them as they will be read back.
template <bool kIsBf16>
HWY_INLINE FloatPair StorePair(const FloatPair& values, const StoredFloats& stored, int64_t index,
                               const uint32_t* random) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(FloatTag()));
  if constexpr (!kIsBf16) {
    auto* data = static_cast<float*>(stored.data) + index;
    hn::StoreU(values.first, FloatTag(), data);
    hn::StoreU(values.second, FloatTag(), data + lanes);
    return values;
  } else {
    const WordTag d;
    const Words first = RoundStochastic(BitsOf(values.first), hn::Load(d, random));
    const Words second = RoundStochastic(BitsOf(values.second), hn::Load(d, random + lanes));
    StoreUpperHalves(first, second, stored, index);
    const Words upper = hn::Set(d, 0xffff0000);
    return {FromBits(hn::And(first, upper)), FromBits(hn::And(second, upper))};
  }
}

// Elements [begin, begin + count) of the range, in the operations of kernels/core/adamw_formula.h.
// gradient: theirs in fp32.
template <bool kM, bool kV, bool kMaster>
void UpdateBlock(const UpdateRange& range, int64_t begin, int64_t count, const float* gradient,
                 const Scratch& scratch) {
  const FloatTag d;
  const AdamwHyper& hyper = *range.hyper;
  const Floats clip = hn::Set(d, range.clip_factor);
  const Floats beta1 = hn::Set(d, hyper.beta1);
  const Floats beta2 = hn::Set(d, hyper.beta2);
  const Floats rest1 = hn::Set(d, 1.0f - hyper.beta1);
  const Floats rest2 = hn::Set(d, 1.0f - hyper.beta2);
  const Floats inverse_bias1 = hn::Set(d, hyper.inverse_bias1);
  const Floats inverse_sqrt_bias2 = hn::Set(d, hyper.inverse_sqrt_bias2);
  const Floats epsilon = hn::Set(d, hyper.epsilon);
  const Floats decay = hn::Set(d, range.decay);
  const Floats minus_rate = hn::Set(d, -hyper.learning_rate);
  // Copies: what is stored below could otherwise change them, as far as the compiler knows.
  const StoredFloats m_stored = range.m;
  const StoredFloats v_stored = range.v;
  const StoredFloats master_stored = range.master;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto m_of = [&](Floats m, Floats g) { return Fma(beta1, m, hn::Mul(rest1, g)); };
  const auto v_of = [&](Floats v, Floats g) {
    return Fma(beta2, v, hn::Mul(hn::Mul(rest2, g), g));
  };
  const auto master_of = [&](Floats master, Floats m, Floats v) {
    const Floats denominator = Fma(hn::Sqrt(v), inverse_sqrt_bias2, epsilon);
    const Floats direction = Fma(decay, master, hn::Div(hn::Mul(m, inverse_bias1), denominator));
    return Fma(minus_rate, direction, master);
  };
  for (int64_t i = 0; i < count; i += 2 * lanes) {
    const int64_t at = begin + i;
    const FloatPair g = {hn::Mul(hn::LoadU(d, gradient + i), clip),
                         hn::Mul(hn::LoadU(d, gradient + i + lanes), clip)};
    const FloatPair old_m = LoadPair<kM>(m_stored, at);
    const FloatPair old_v = LoadPair<kV>(v_stored, at);
    const FloatPair old = LoadPair<kMaster>(master_stored, at);
    const FloatPair m = StorePair<kM>({m_of(old_m.first, g.first), m_of(old_m.second, g.second)},
                                      m_stored, at, scratch.random_m + i);
    const FloatPair v = StorePair<kV>({v_of(old_v.first, g.first), v_of(old_v.second, g.second)},
                                      v_stored, at, scratch.random_v + i);
    StorePair<kMaster>(
        {master_of(old.first, m.first, v.first), master_of(old.second, m.second, v.second)},
        master_stored, at, scratch.random_master + i);
  }
}

template <bool kM, bool kV>
void UpdateBlockOf(const UpdateRange& range, int64_t begin, int64_t count, const float* gradient,
                   const Scratch& scratch) {
  if (range.master.is_bf16) {
    UpdateBlock<kM, kV, true>(range, begin, count, gradient, scratch);
  } else {
    UpdateBlock<kM, kV, false>(range, begin, count, gradient, scratch);
  }
}

void UpdateBlockOf(const UpdateRange& range, int64_t begin, int64_t count, const float* gradient,
                   const Scratch& scratch) {
  if (range.m.is_bf16) {
    if (range.v.is_bf16) {
      UpdateBlockOf<true, true>(range, begin, count, gradient, scratch);
    } else {
      UpdateBlockOf<true, false>(range, begin, count, gradient, scratch);
    }
  } else if (range.v.is_bf16) {
    UpdateBlockOf<false, true>(range, begin, count, gradient, scratch);
  } else {
    UpdateBlockOf<false, false>(range, begin, count, gradient, scratch);
  }
}

// The gradient of a block in fp32.
const float* GradientOf(const UpdateRange& range, int64_t begin, int64_t count, Scratch& scratch) {
  if (!range.gradient.is_bf16) return static_cast<const float*>(range.gradient.data) + begin;
  const FloatTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const StoredFloats gradient = {range.gradient.data, true};
  for (int64_t i = 0; i < count; i += lanes) {
    hn::Store(LoadFloats(gradient, begin + i), d, scratch.gradient + i);
  }
  return scratch.gradient;
}

// Writes the weights of a block from its new master values; the larger of `largest` and the bits of
// their magnitudes.
template <bool kMaster, bool kWeight>
Words StoreWeights(const StoredFloats& master, const StoredFloats& weight, int64_t begin,
                   int64_t count, Words largest) {
  const FloatTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const Words magnitude = hn::Set(WordTag(), 0x7fffffff);
  for (int64_t i = begin; i < begin + count; i += 2 * lanes) {
    const FloatPair values = LoadPair<kMaster>(master, i);
    Words first = BitsOf(values.first);
    Words second = BitsOf(values.second);
    if constexpr (kWeight) {
      first = RoundNearest(first);
      second = RoundNearest(second);
      StoreUpperHalves(first, second, weight, i);
    } else {
      auto* data = static_cast<float*>(weight.data) + i;
      hn::StoreU(values.first, d, data);
      hn::StoreU(values.second, d, data + lanes);
    }
    largest = hn::Max(largest, hn::Max(hn::And(first, magnitude), hn::And(second, magnitude)));
  }
  return largest;
}

Words StoreWeightsOf(const StoredFloats& master, const StoredFloats& weight, int64_t begin,
                     int64_t count, Words largest) {
  if (weight.data == nullptr) return largest;
  if (master.is_bf16) {
    return weight.is_bf16 ? StoreWeights<true, true>(master, weight, begin, count, largest)
                          : StoreWeights<true, false>(master, weight, begin, count, largest);
  }
  return weight.is_bf16 ? StoreWeights<false, true>(master, weight, begin, count, largest)
                        : StoreWeights<false, false>(master, weight, begin, count, largest);
}

uint32_t LargestOf(Words words) {
  const WordTag d;
  HWY_ALIGN uint32_t lanes[HWY_MAX_BYTES / sizeof(uint32_t)];
  hn::Store(words, d, lanes);
  return *std::max_element(lanes, lanes + hn::Lanes(d));
}

// What the vector loop's length must be a multiple of.
HWY_INLINE int64_t ElementsPerPass() { return static_cast<int64_t>(2 * hn::Lanes(FloatTag())); }

// Elements [begin, end), a whole number of passes. The upper half of the group's index is the same
// for all of them.
uint32_t UpdatePasses(const UpdateRange& range, int64_t begin, int64_t end) {
  const uint64_t first_group = (range.first_element + static_cast<uint64_t>(begin)) / 4;
  const Philox philox(range.hyper->seed, range.hyper->step,
                      static_cast<uint32_t>(first_group >> 32));
  Scratch scratch;
  Words largest = hn::Zero(WordTag());
  for (int64_t at = begin; at < end; at += kBlock) {
    const int64_t count = std::min(kBlock, end - at);
    DrawBlock(range, philox, range.first_element + static_cast<uint64_t>(at), count, scratch);
    UpdateBlockOf(range, at, count, GradientOf(range, at, count, scratch), scratch);
    largest = StoreWeightsOf(range.master, range.weight, at, count, largest);
  }
  return LargestOf(largest);
}

uint32_t RoundPasses(const StoredFloats& master, const StoredFloats& weight, int64_t count) {
  return LargestOf(StoreWeightsOf(master, weight, 0, count, hn::Zero(WordTag())));
}

#else

// One lane: no vector loop.
int64_t ElementsPerPass() { return 1; }
uint32_t UpdatePasses(const UpdateRange& range, int64_t begin, int64_t end) {
  return UpdateSingly(range, begin, end);
}
uint32_t RoundPasses(const StoredFloats& master, const StoredFloats& weight, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, StoreOneWeight(LoadOne(master, i), weight, i));
  }
  return largest;
}

#endif  // HWY_TARGET

uint32_t Update(const UpdateRange& range) {
  // Elements whose groups have the same upper half.
  constexpr uint64_t kSpan = uint64_t{1} << 34;
  uint32_t largest = 0;
  int64_t begin = 0;
  while (begin < range.count) {
    const uint64_t element = range.first_element + static_cast<uint64_t>(begin);
    const uint64_t left_in_span = kSpan - element % kSpan;
    const int64_t end = begin + static_cast<int64_t>(std::min(
                                    left_in_span, static_cast<uint64_t>(range.count - begin)));
    const int64_t aligned = std::min(end, begin + static_cast<int64_t>((4 - element % 4) % 4));
    const int64_t passes_end = end - (end - aligned) % ElementsPerPass();
    largest = std::max(largest, UpdateSingly(range, begin, aligned));
    if (passes_end > aligned) largest = std::max(largest, UpdatePasses(range, aligned, passes_end));
    largest = std::max(largest, UpdateSingly(range, passes_end, end));
    begin = end;
  }
  return largest;
}

uint32_t Round(const StoredFloats& master, const StoredFloats& weight, int64_t count) {
  const int64_t passes_end = count - count % ElementsPerPass();
  uint32_t largest = RoundPasses(master, weight, passes_end);
  for (int64_t i = passes_end; i < count; ++i) {
    largest = std::max(largest, StoreOneWeight(LoadOne(master, i), weight, i));
  }
  return largest;
}

// ToE4M3 or ToE5M2 of kernels/core/float8.h, in 32-bit operations. A value below the smallest
// normal number is rounded by adding a power of two whose unit in the last place is the subnormal
// spacing.
template <int kMantissaBits, int kBias, uint32_t kLargest, uint32_t kNan>
HWY_INLINE Words Encode(Floats values) {
  const WordTag d;
  constexpr int kShift = 23 - kMantissaBits;
  constexpr uint32_t kMagic = static_cast<uint32_t>(127 + 1 - kBias + kShift) << 23;
  constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(128 - kBias) << 23;
  constexpr uint32_t kRebias = static_cast<uint32_t>(127 - kBias) << 23;
  const Words bits = BitsOf(values);
  const Words sign = hn::And(hn::ShiftRight<24>(bits), hn::Set(d, 0x80));
  const Words magnitude = hn::And(bits, hn::Set(d, 0x7fffffff));
  const Words magic = hn::Set(d, kMagic);
  const Words below = hn::Min(magnitude, hn::Set(d, kSmallestNormal));
  const Words subnormal = hn::Sub(BitsOf(hn::Add(FromBits(below), FromBits(magic))), magic);
  const Words odd = hn::And(hn::ShiftRight<kShift>(magnitude), hn::Set(d, 1));
  const Words half = hn::Set(d, (1u << (kShift - 1)) - 1 - kRebias);
  const Words normal = hn::ShiftRight<kShift>(hn::Add(hn::Add(magnitude, half), odd));
  const auto is_small = hn::Lt(magnitude, hn::Set(d, kSmallestNormal));
  const Words finite = hn::Min(hn::IfThenElse(is_small, subnormal, normal), hn::Set(d, kLargest));
  const auto is_nan = hn::RebindMask(d, hn::IsNaN(values));
  return hn::Or(sign, hn::IfThenElse(is_nan, hn::Set(d, kNan), finite));
}

template <int kMantissaBits, int kBias, uint32_t kLargest, uint32_t kNan>
int64_t QuantizeVectors(const StoredFloats& values, int64_t count, float scale,
                        uint8_t* quantized) {
  const FloatTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Words encoded = Encode<kMantissaBits, kBias, kLargest, kNan>(
        hn::Mul(LoadFloats(values, i), hn::Set(d, scale)));
    hn::StoreU(hn::DemoteTo(ByteTag(), hn::BitCast(IntTag(), encoded)), ByteTag(), quantized + i);
  }
  return i;
}

void Quantize(const StoredFloats& values, int64_t count, float scale, DType format,
              uint8_t* quantized) {
  const bool e4m3 = format == DType::kF8E4M3;
  int64_t i = e4m3 ? QuantizeVectors<3, 7, 0x7e, 0x7f>(values, count, scale, quantized)
                   : QuantizeVectors<2, 15, 0x7b, 0x7f>(values, count, scale, quantized);
  for (; i < count; ++i) {
    const float value = LoadOne(values, i) * scale;
    quantized[i] = e4m3 ? ToE4M3(value).bits : ToE5M2(value).bits;
  }
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace hearth
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hearth {

HWY_EXPORT(Update);
HWY_EXPORT(Round);
HWY_EXPORT(Quantize);
HWY_EXPORT(TargetName);

uint32_t UpdateElements(const UpdateRange& range) { return HWY_DYNAMIC_DISPATCH(Update)(range); }

uint32_t RoundElements(const StoredFloats& master, const StoredFloats& weight, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(Round)(master, weight, count);
}

void QuantizeElements(const StoredFloats& values, int64_t count, float scale, DType format,
                      uint8_t* quantized) {
  HWY_DYNAMIC_DISPATCH(Quantize)(values, count, scale, format, quantized);
}

const char* SimdTargetName() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace hearth
#endif  // HWY_ONCE
