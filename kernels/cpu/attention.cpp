// Attention by blocks of query rows. A task is one sequence and one key/value head with the query
// heads that read it; its blocks are counted from the start of the sequence. So a sequence's bits
// depend neither on its neighbours nor on its place, and nothing is added in an order that changes.
#include "kernels/api/attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/cpu/thread_scratch.h"
#include "kernels/cpu/vector_math.h"

namespace hearth {

namespace {

// Query rows of a block: enough for the matrix product, little waste above the diagonal.
constexpr int64_t kBlockRows = 64;
constexpr int64_t kFloatsPerLine = 16;

int64_t Lines(int64_t floats) { return RoundUp(floats, kFloatsPerLine); }

struct Sequence {
  int64_t begin = 0;
  int64_t length = 0;
};

// One head of a sequence inside a tensor [tokens, heads, head_dim]: `length` rows of head_dim.
struct HeadRows {
  const TensorView& tensor;
  int64_t first = 0;   // element of the first row
  int64_t stride = 0;  // elements from row to row
  int64_t length = 0;
  int64_t head_dim = 0;
};

HeadRows RowsOf(const TensorView& tensor, const Sequence& sequence, int64_t head) {
  const int64_t head_dim = tensor.shape()[2];
  const int64_t stride = tensor.shape()[1] * head_dim;
  return {tensor, sequence.begin * stride + head * head_dim, stride, sequence.length, head_dim};
}

// The rows as fp32: in place, or converted into `scratch` [length, head_dim].
Fp32Matrix AsFp32(const HeadRows& rows, float* scratch) {
  if (rows.tensor.dtype() == DType::kF32) {
    return {.data = rows.tensor.as<float>() + rows.first, .leading = rows.stride};
  }
  const BFloat16* from = rows.tensor.as<BFloat16>() + rows.first;
  for (int64_t row = 0; row < rows.length; ++row) {
    LoadRow(from + row * rows.stride, rows.head_dim, scratch + row * rows.head_dim);
  }
  return {.data = scratch, .leading = rows.head_dim};
}

// Rows [row, row + count) of the head = values [count, head_dim], rounded once.
void StoreRows(const float* values, int64_t row, int64_t count, const HeadRows& rows) {
  WithStorage(rows.tensor.dtype(), [&](auto type) {
    auto* to = rows.tensor.as<decltype(type)>() + rows.first + row * rows.stride;
    for (int64_t i = 0; i < count; ++i) {
      StoreRow(values + i * rows.head_dim, rows.head_dim, to + i * rows.stride);
    }
  });
}

Fp32Matrix Below(Fp32Matrix matrix, int64_t row) {
  matrix.data += row * matrix.leading;
  return matrix;
}
Fp32Matrix Transposed(Fp32Matrix matrix) {
  matrix.transposed = true;
  return matrix;
}

// Calls task(sequence, kv head) for all that have tokens.
template <typename Task>
void ForEachSequenceAndHead(ThreadPool& pool, const TensorView& offsets, int64_t kv_heads,
                            int64_t tokens, const Task& task) {
  const int32_t* offset = offsets.as<int32_t>();
  const int64_t sequences = offsets.elements() - 1;
  CHECK(offset[0] == 0 && offset[sequences] <= tokens,
        "attention: sequence offsets from {} to {} for {} tokens", offset[0], offset[sequences],
        tokens);
  pool.ForEach(sequences * kv_heads, [&](int64_t index) {
    const int64_t number = index / kv_heads;
    const Sequence sequence{offset[number], int64_t{offset[number + 1]} - offset[number]};
    CHECK(sequence.length >= 0, "attention: sequence offset {} falls to {}", offset[number],
          offset[number + 1]);
    if (sequence.length > 0) task(sequence, index % kv_heads);
  });
}

template <typename Function>
void ForEachBlock(int64_t length, const Function& function) {
  for (int64_t begin = 0; begin < length; begin += kBlockRows) {
    function(begin, std::min(kBlockRows, length - begin));
  }
}

// scores[i, j] = scale * q[i] . k[j] for the `count` query rows from `begin` on and every key up to
// the last of them; rows have `keys` = begin + count columns.
void Scores(Fp32Matrix q, Fp32Matrix k, int64_t begin, int64_t count, int64_t head_dim, float scale,
            float* scores) {
  const int64_t keys = begin + count;
  Sgemm({.m = count,
         .n = keys,
         .k = head_dim,
         .a = Below(q, begin),
         .b = Transposed(k),
         .c = scores,
         .c_leading = keys,
         .alpha = scale});
}

void RequireOwn(AttentionProvider provider) {
  if (provider == AttentionProvider::kCudnn) {
    throw DeviceError("cuDNN was asked for attention, and runs on GPUs only");
  }
}

// What the shape promises of the lengths; a GPU would believe it.
void CheckLengths(const AttentionShape& shape, const TensorView& offsets) {
  if (shape.sequence_len == 0) return;
  const int32_t* offset = offsets.as<int32_t>();
  const int64_t real = offset[offsets.elements() - 1];
  CHECK(real % shape.sequence_len == 0, "attention: {} tokens in sequences of {}", real,
        shape.sequence_len);
  for (int64_t s = 0; s < offsets.elements(); ++s) {
    CHECK(offset[s] == std::min(s * shape.sequence_len, real),
          "attention: sequence {} of {} tokens each begins at {}", s, shape.sequence_len,
          offset[s]);
  }
}

// The padding behind the last sequence.
void ZeroPadding(const TensorView& offsets, const TensorView& tensor) {
  const int64_t real = offsets.as<int32_t>()[offsets.elements() - 1];
  const int64_t tokens = tensor.shape()[0];
  const TensorView padding = tensor.Rows(real, tokens - real);
  std::fill_n(static_cast<std::byte*>(padding.data()), padding.bytes(), std::byte{0});
}

class ForwardTask {
 public:
  explicit ForwardTask(const AttentionForwardArgs& args) : args_(args) {}
  void operator()(const Sequence& sequence, int64_t kv_head) const;

 private:
  void Head(const Sequence& sequence, int64_t head, Fp32Matrix k, Fp32Matrix v,
            float* scratch) const;
  const AttentionForwardArgs& args_;
};

void ForwardTask::operator()(const Sequence& sequence, int64_t kv_head) const {
  const AttentionShape& shape = args_.shape;
  const int64_t head_floats = Lines(sequence.length * shape.head_dim);
  float* scratch = ThreadScratch(
      ScratchUse::kTask, 3 * head_floats + Lines(kBlockRows * (sequence.length + shape.head_dim)));
  const Fp32Matrix k = AsFp32(RowsOf(args_.qkv, sequence, shape.heads + kv_head), scratch);
  const Fp32Matrix v = AsFp32(RowsOf(args_.qkv, sequence, shape.heads + shape.kv_heads + kv_head),
                              scratch + head_floats);
  const int64_t group = shape.heads / shape.kv_heads;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    Head(sequence, head, k, v, scratch + 2 * head_floats);
  }
}

void ForwardTask::Head(const Sequence& sequence, int64_t head, Fp32Matrix k, Fp32Matrix v,
                       float* scratch) const {
  const int64_t head_dim = args_.shape.head_dim;
  const HeadRows out = RowsOf(args_.out, sequence, head);
  const Fp32Matrix q = AsFp32(RowsOf(args_.qkv, sequence, head), scratch);
  float* scores = scratch + Lines(sequence.length * head_dim);
  float* log_sum_exp = args_.log_sum_exp.as<float>() + head * args_.qkv.shape()[0] + sequence.begin;
  ForEachBlock(sequence.length, [&](int64_t begin, int64_t count) {
    const int64_t keys = begin + count;
    Scores(q, k, begin, count, head_dim, args_.shape.softmax_scale, scores);
    float inverse_sums[kBlockRows];
    for (int64_t row = 0; row < count; ++row) {
      const int64_t visible = begin + row + 1;
      float* values = scores + row * keys;
      const float largest = MaxOf(values, visible);
      const double sum = ExpAndSum(values, visible, largest);
      std::fill(values + visible, values + keys, 0.0f);
      log_sum_exp[begin + row] = static_cast<float>(static_cast<double>(largest) + std::log(sum));
      inverse_sums[row] = static_cast<float>(1.0 / sum);
    }
    float* block = scores + count * keys;
    Sgemm({.m = count,
           .n = head_dim,
           .k = keys,
           .a = {scores, keys},
           .b = v,
           .c = block,
           .c_leading = head_dim});
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t i = 0; i < head_dim; ++i) block[row * head_dim + i] *= inverse_sums[row];
    }
    StoreRows(block, begin, count, out);
  });
}

// dV = P^T dO, dS = P * (dO V^T - rowsum(dO * O)) * scale, dQ = dS K, dK = dS^T Q, with
// P = exp(scores - log_sum_exp).
class BackwardTask {
 public:
  explicit BackwardTask(const AttentionBackwardArgs& args) : args_(args) {}
  void operator()(const Sequence& sequence, int64_t kv_head) const;

 private:
  struct Operands {
    Fp32Matrix q, k, v, d_out;
    const float* out_dot_d_out = nullptr;  // [length]
    const float* log_sum_exp = nullptr;    // [length]
    float* d_k = nullptr;                  // [length, head_dim], accumulated
    float* d_v = nullptr;                  // [length, head_dim], accumulated
    float* scratch = nullptr;
  };
  void Block(const Operands& operands, int64_t begin, int64_t count, const HeadRows& d_q) const;
  void OutDotDOut(Fp32Matrix out, Fp32Matrix d_out, int64_t length, float* dots) const;
  const AttentionBackwardArgs& args_;
};

void BackwardTask::operator()(const Sequence& sequence, int64_t kv_head) const {
  const AttentionShape& shape = args_.shape;
  const int64_t tokens = args_.qkv.shape()[0];
  const int64_t head_floats = Lines(sequence.length * shape.head_dim);
  float* scratch =
      ThreadScratch(ScratchUse::kTask,
                    7 * head_floats + Lines(kBlockRows * (2 * sequence.length + shape.head_dim)));
  const auto part = [&](int64_t number) { return scratch + number * head_floats; };
  Operands operands;
  operands.k = AsFp32(RowsOf(args_.qkv, sequence, shape.heads + kv_head), part(0));
  operands.v = AsFp32(RowsOf(args_.qkv, sequence, shape.heads + shape.kv_heads + kv_head), part(1));
  operands.d_k = part(2);
  operands.d_v = part(3);
  operands.scratch = part(7);
  std::fill(part(2), part(4), 0.0f);
  const int64_t group = shape.heads / shape.kv_heads;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    operands.q = AsFp32(RowsOf(args_.qkv, sequence, head), part(4));
    operands.d_out = AsFp32(RowsOf(args_.d_out, sequence, head), part(5));
    float* dots = reinterpret_cast<float*>(args_.workspace.data()) + head * tokens + sequence.begin;
    OutDotDOut(AsFp32(RowsOf(args_.out, sequence, head), part(6)), operands.d_out, sequence.length,
               dots);
    operands.out_dot_d_out = dots;
    operands.log_sum_exp = args_.log_sum_exp.as<float>() + head * tokens + sequence.begin;
    ForEachBlock(sequence.length, [&](int64_t begin, int64_t count) {
      Block(operands, begin, count, RowsOf(args_.d_qkv, sequence, head));
    });
  }
  StoreRows(operands.d_k, 0, sequence.length, RowsOf(args_.d_qkv, sequence, shape.heads + kv_head));
  StoreRows(operands.d_v, 0, sequence.length,
            RowsOf(args_.d_qkv, sequence, shape.heads + shape.kv_heads + kv_head));
}

void BackwardTask::OutDotDOut(Fp32Matrix out, Fp32Matrix d_out, int64_t length, float* dots) const {
  for (int64_t row = 0; row < length; ++row) {
    dots[row] = DotRow(Below(out, row).data, Below(d_out, row).data, args_.shape.head_dim);
  }
}

void BackwardTask::Block(const Operands& operands, int64_t begin, int64_t count,
                         const HeadRows& d_q) const {
  const int64_t head_dim = args_.shape.head_dim;
  const float scale = args_.shape.softmax_scale;
  const int64_t keys = begin + count;
  float* p = operands.scratch;
  float* d_s = p + count * keys;
  float* d_q_block = d_s + count * keys;
  Scores(operands.q, operands.k, begin, count, head_dim, scale, p);
  const Fp32Matrix d_out = Below(operands.d_out, begin);
  Sgemm({.m = count,
         .n = keys,
         .k = head_dim,
         .a = d_out,
         .b = Transposed(operands.v),
         .c = d_s,
         .c_leading = keys});
  for (int64_t row = 0; row < count; ++row) {
    const int64_t visible = begin + row + 1;
    float* probability = p + row * keys;
    float* d_score = d_s + row * keys;
    ExpShifted(probability, visible, operands.log_sum_exp[begin + row]);
    const float dot = operands.out_dot_d_out[begin + row];
    for (int64_t i = 0; i < visible; ++i) {
      d_score[i] = probability[i] * (d_score[i] - dot) * scale;
    }
    std::fill(probability + visible, probability + keys, 0.0f);
    std::fill(d_score + visible, d_score + keys, 0.0f);
  }
  Sgemm({.m = count,
         .n = head_dim,
         .k = keys,
         .a = {d_s, keys},
         .b = operands.k,
         .c = d_q_block,
         .c_leading = head_dim});
  StoreRows(d_q_block, begin, count, d_q);
  // [keys, count] times [count, head_dim], added to what earlier blocks and heads gave.
  SgemmArgs sum{.m = keys,
                .n = head_dim,
                .k = count,
                .a = {d_s, keys, true},
                .b = Below(operands.q, begin),
                .c = operands.d_k,
                .c_leading = head_dim,
                .accumulate = true};
  Sgemm(sum);
  sum.a.data = p;
  sum.b = d_out;
  sum.c = operands.d_v;
  Sgemm(sum);
}

}  // namespace

void CpuBackend::DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  RequireOwn(args.provider);
  Enqueue(stream, [this, args] {
    CheckLengths(args.shape, args.sequence_offsets);
    const int64_t tokens = args.qkv.shape()[0];
    ForEachSequenceAndHead(device_.pool(), args.sequence_offsets, args.shape.kv_heads, tokens,
                           ForwardTask(args));
    ZeroPadding(args.sequence_offsets, args.out);
    const int64_t real = args.sequence_offsets.as<int32_t>()[args.sequence_offsets.elements() - 1];
    for (int64_t head = 0; head < args.shape.heads; ++head) {
      float* row = args.log_sum_exp.as<float>() + head * tokens;
      std::fill(row + real, row + tokens, 0.0f);
    }
  });
}

void CpuBackend::DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  RequireOwn(args.provider);
  Enqueue(stream, [this, args] {
    CheckLengths(args.shape, args.sequence_offsets);
    ForEachSequenceAndHead(device_.pool(), args.sequence_offsets, args.shape.kv_heads,
                           args.qkv.shape()[0], BackwardTask(args));
    ZeroPadding(args.sequence_offsets, args.d_qkv);
  });
}

}  // namespace hearth
