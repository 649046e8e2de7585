#include "kernels/api/adamw.h"

#include <cstring>
#include <type_traits>

#include "kernels/core/adamw_formula.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

constexpr int64_t kElementsPerPiece = 16384;

// The draws of consecutive elements: one group of four at a time.
class Draws {
 public:
  explicit Draws(const RandomStream& stream) : stream_(stream) {}
  uint32_t Of(uint64_t element) {
    if (!drawn_ || element / 4 != group_) {
      group_ = element / 4;
      words_ = stream_.Draw(group_);
      drawn_ = true;
    }
    return words_[element % 4];
  }

 private:
  const RandomStream stream_;
  bool drawn_ = false;
  uint64_t group_ = 0;
  Philox4 words_{};
};

// Rounds into storage: bf16 stochastically with the element's own draw.
template <typename T>
T RoundState(float value, Draws& draws, uint64_t element) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return ToBFloat16Stochastic(value, draws.Of(element));
  }
}

// Updates elements [begin, end) of a segment, counted from its start.
template <typename Master, typename M, typename V>
void UpdateElements(const AdamwArgs& args, const AdamwSegment& segment, float clip_factor,
                    int64_t begin, int64_t end) {
  const AdamwHyper& hyper = args.hyper;
  const float decay = segment.decay ? hyper.weight_decay : 0.0f;
  const auto stream = [&](RandomUse use) {
    return RandomStream{
        .seed = hyper.seed, .step = hyper.step, .tensor_id = segment.tensor_id, .use = use};
  };
  Draws m_draws(stream(RandomUse::kMomentM));
  Draws v_draws(stream(RandomUse::kMomentV));
  Draws master_draws(stream(RandomUse::kMaster));
  Master* masters = args.master.as<Master>() + segment.begin;
  M* ms = args.m.as<M>() + segment.begin;
  V* vs = args.v.as<V>() + segment.begin;
  const TensorView gradient = args.gradient.Flat(segment.begin, segment.count);
  const TensorView weight =
      args.weight ? args.weight.Flat(segment.begin, segment.count) : TensorView();
  for (int64_t i = begin; i < end; ++i) {
    const auto element = static_cast<uint64_t>(segment.first_element + i);
    const float g = gradient.dtype() == DType::kF32
                        ? static_cast<const float*>(gradient.data())[i]
                        : ToFloat(static_cast<const BFloat16*>(gradient.data())[i]);
    const AdamwMoments moments = AdamwMomentsUpdate(ToFloat(ms[i]), ToFloat(vs[i]), g, clip_factor,
                                                    hyper.beta1, hyper.beta2);
    ms[i] = RoundState<M>(moments.m, m_draws, element);
    vs[i] = RoundState<V>(moments.v, v_draws, element);
    const float master =
        AdamwMasterUpdate(ToFloat(masters[i]), ToFloat(ms[i]), ToFloat(vs[i]), hyper.learning_rate,
                          hyper.epsilon, decay, hyper.inverse_bias1, hyper.inverse_sqrt_bias2);
    masters[i] = RoundState<Master>(master, master_draws, element);
    if (!weight) continue;
    if (weight.dtype() == DType::kF32) {
      static_cast<float*>(weight.data())[i] = ToFloat(masters[i]);
    } else {
      static_cast<BFloat16*>(weight.data())[i] = ToBFloat16(ToFloat(masters[i]));
    }
  }
}

// UpdateElements for the state's storage types.
void UpdatePiece(const AdamwArgs& args, const AdamwSegment& segment, float clip_factor,
                 int64_t begin, int64_t end) {
  WithStorage(args.master.dtype(), [&](auto master) {
    WithStorage(args.m.dtype(), [&](auto m) {
      WithStorage(args.v.dtype(), [&](auto v) {
        UpdateElements<decltype(master), decltype(m), decltype(v)>(args, segment, clip_factor,
                                                                   begin, end);
      });
    });
  });
}

// A skipped update: the weights follow from the master weights as they are.
void RoundMaster(const AdamwArgs& args, const AdamwSegment& segment, int64_t begin, int64_t end) {
  if (!args.weight) return;
  WithStorage(args.master.dtype(), [&](auto master) {
    WithStorage(args.weight.dtype(), [&](auto weight) {
      const auto* from = args.master.as<decltype(master)>() + segment.begin;
      auto* to = args.weight.as<decltype(weight)>() + segment.begin;
      for (int64_t i = begin; i < end; ++i) to[i] = FromFloat<decltype(weight)>(ToFloat(from[i]));
    });
  });
}

}  // namespace

void CpuBackend::DoAdamw(Stream& stream, const AdamwArgs& args) {
  Enqueue(stream, [this, args] {
    UpdateControl control;
    std::memcpy(&control, args.control.data(), sizeof control);
    for (const AdamwSegment& segment : args.segments) {
      ForEachPiece(device_.pool(), segment.count, kElementsPerPiece,
                   [&](int64_t begin, int64_t end) {
                     if (control.skip != 0) {
                       RoundMaster(args, segment, begin, end);
                     } else {
                       UpdatePiece(args, segment, control.clip_factor, begin, end);
                     }
                   });
    }
  });
}

}  // namespace hearth
