#include "kernels/api/swiglu.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/quantize_rows.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

// The backward pass works in strips that stay in the first-level cache.
constexpr int64_t kStrip = 256;

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

template <typename T>
void ForwardRow(const T* gate_up, int64_t ffn, T* out) {
  const T* up = gate_up + ffn;
  for (int64_t i = 0; i < ffn; ++i) {
    const float gate = ToFloat(gate_up[i]);
    out[i] = FromFloat<T>(gate * Sigmoid(gate) * ToFloat(up[i]));
  }
}

// d_up = d_out * silu(gate); d_gate = d_out * up * (s + silu(gate) * (1 - s)), s = sigmoid(gate).
// The result may be gate_up itself.
template <typename T>
void BackwardRow(const T* d_out, const T* gate_up, int64_t ffn, T* d_gate_up) {
  float d_gate[kStrip];
  float d_up[kStrip];
  for (int64_t begin = 0; begin < ffn; begin += kStrip) {
    const int64_t count = std::min(kStrip, ffn - begin);
    for (int64_t i = 0; i < count; ++i) {
      const float gate = ToFloat(gate_up[begin + i]);
      const float d = ToFloat(d_out[begin + i]);
      const float sigmoid = Sigmoid(gate);
      const float silu = gate * sigmoid;
      d_gate[i] = d * ToFloat(gate_up[ffn + begin + i]) * (sigmoid + silu * (1.0f - sigmoid));
      d_up[i] = d * silu;
    }
    StoreRow(d_gate, count, d_gate_up + begin);
    StoreRow(d_up, count, d_gate_up + ffn + begin);
  }
}

}  // namespace

void CpuBackend::DoSwigluForward(Stream& stream, const SwigluForwardArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t ffn = args.gate_up.shape()[1] / 2;
    const ProducedRows rows{.rows = args.gate_up.shape()[0],
                            .columns = ffn,
                            .storage = args.gate_up.dtype(),
                            .out = args.out,
                            .quantized = args.quantized};
    ProduceRows(device_.pool(), rows, [&](int64_t begin, int64_t end, void* block) {
      WithStorage(rows.storage, [&](auto storage) {
        using T = decltype(storage);
        for (int64_t row = begin; row < end; ++row) {
          ForwardRow(args.gate_up.as<T>() + row * 2 * ffn, ffn,
                     static_cast<T*>(block) + (row - begin) * ffn);
        }
      });
    });
  });
}

void CpuBackend::DoSwigluBackward(Stream& stream, const SwigluBackwardArgs& args) {
  Enqueue(stream, [this, args] {
    const int64_t ffn = args.gate_up.shape()[1] / 2;
    const ProducedRows rows{.rows = args.gate_up.shape()[0],
                            .columns = 2 * ffn,
                            .storage = args.gate_up.dtype(),
                            .out = args.d_gate_up,
                            .quantized = args.quantized};
    ProduceRows(device_.pool(), rows, [&](int64_t begin, int64_t end, void* block) {
      WithStorage(rows.storage, [&](auto storage) {
        using T = decltype(storage);
        for (int64_t row = begin; row < end; ++row) {
          BackwardRow(args.d_out.as<T>() + row * ffn, args.gate_up.as<T>() + row * 2 * ffn, ffn,
                      static_cast<T*>(block) + (row - begin) * 2 * ffn);
        }
      });
    });
  });
}

}  // namespace hearth
