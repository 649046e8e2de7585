#include "runtime/plan/cost_model.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/check.h"
#include "runtime/plan/memory_layout.h"

namespace hearth {

namespace {

constexpr double kTera = 1e12, kGiga = 1e9, kMicro = 1e-6, kNano = 1e-9;
// Attention works on each score besides its matmuls, about as long as on this many more columns of
// a head: an exponential takes as long as 256 operations of a matmul.
constexpr double kColumnsPerScore = 40;
constexpr double kUsualHead = 128;  // what the profile's shares are of

double Number(int64_t value) { return static_cast<double>(value); }

struct Rate {
  double peak = 0;   // operations per second
  double share = 1;  // that large matmuls reach
};

// A device without FP8 is refused before it trains in it; priced as bf16 it only looks slow.
Rate RateOf(DType type, const HardwareProfile& hardware) {
  if (IsFloat8(type) && hardware.fp8_tflops > 0) {
    return {hardware.fp8_tflops * kTera, hardware.fp8_share};
  }
  if (type == DType::kF32) return {hardware.fp32_tflops * kTera, hardware.fp32_share};
  return {hardware.bf16_tflops * kTera, hardware.bf16_share};
}

// The sizes of one block and micro-batch.
class BlockCosts {
 public:
  BlockCosts(const Plan& plan, const ModelConfig& config, const HardwareProfile& hardware)
      : plan_(plan),
        config_(config),
        hardware_(hardware),
        tokens_(plan.tokens_per_micro_batch),
        storage_(Number(SizeOf(plan.precision.storage))),
        fp8_(plan.precision.fp8) {}

  double Forward(Segment segment) const {
    const int64_t c = config_.hidden_size, f = config_.intermediate_size;
    switch (segment) {
      case Segment::kNorm1:
      case Segment::kNorm2:
        return Producer(c, storage_ + OperandBytes());
      case Segment::kQkvRope:
        return Linear(config_.qkv_size(), c) + Elementwise(Rotated(), 2 * storage_);
      case Segment::kAttention:
        return AttentionSeconds(config_, plan_.precision, tokens_, plan_.sequence_len, false,
                                hardware_);
      case Segment::kOutputAdd:
        return Quantize(config_.query_size(), 1) + Linear(c, config_.query_size());
      case Segment::kUp:
        return Linear(2 * f, c);
      case Segment::kSwiglu:
        return Producer(f, 2 * storage_ + OperandBytes());
      case Segment::kDown:
        return Linear(c, f);
    }
    return 0;
  }

  double Forward() const {
    double seconds = 0;
    for (int s = 0; s < kSegmentCount; ++s) seconds += Forward(static_cast<Segment>(s));
    return seconds;
  }

  double Backward() const {
    const int64_t c = config_.hidden_size, f = config_.intermediate_size;
    const int64_t q = config_.query_size(), qkv = config_.qkv_size();
    double seconds = Quantize(c, 2) + LinearBackward(c, f);
    seconds += Producer(f, 3 * storage_ + 2 * OperandBytes());  // SwiGLU
    seconds += LinearBackward(2 * f, c) + NormBackward();
    seconds += Quantize(c, 2) + Quantize(q, 1) + LinearBackward(c, q);
    seconds +=
        AttentionSeconds(config_, plan_.precision, tokens_, plan_.sequence_len, true, hardware_);
    seconds += Elementwise(Rotated(), (config_.qk_norm ? 3 : 2) * storage_);
    if (config_.qkv_bias) seconds += Elementwise(qkv, storage_, 2);
    return seconds + Quantize(qkv, 2) + LinearBackward(qkv, c) + NormBackward();
  }

 private:
  // Bytes written for an element that enters matmuls: itself, or its FP8 value in both orders.
  double OperandBytes() const { return fp8_ ? 2 : storage_; }
  int64_t Rotated() const { return config_.qkv_size() - config_.num_kv_heads * config_.head_dim; }
  DType Operand() const { return fp8_ ? DType::kF8E4M3 : plan_.precision.storage; }

  // An op over [tokens, columns].
  double Elementwise(int64_t columns, double bytes_per_element, int kernels = 1) const {
    return ElementwiseSeconds(Number(tokens_ * columns) * bytes_per_element, hardware_, kernels);
  }
  // One whose result matmuls take: in FP8 a second kernel waits for the scale of the first.
  double Producer(int64_t columns, double bytes_per_element) const {
    return Elementwise(columns, bytes_per_element, fp8_ ? 2 : 1);
  }
  double Quantize(int64_t columns, int forms) const {
    return fp8_ ? Producer(columns, storage_ + forms) : 0;
  }
  // Sums over rows have a second kernel.
  double NormBackward() const { return Elementwise(config_.hidden_size, 4 * storage_, 2); }
  double Linear(int64_t n, int64_t k) const {
    return MatmulSeconds(
        {.m = tokens_, .n = n, .k = k, .type = Operand(), .out = plan_.precision.storage},
        hardware_);
  }
  // Of a weight [n, k].
  double LinearBackward(int64_t n, int64_t k) const {
    return Linear(k, n) + MatmulSeconds({.m = n,
                                         .n = k,
                                         .k = tokens_,
                                         .type = Operand(),
                                         .out = plan_.precision.gradient,
                                         .accumulates = true},
                                        hardware_);
  }

  const Plan& plan_;
  const ModelConfig& config_;
  const HardwareProfile& hardware_;
  const int64_t tokens_;
  const double storage_;
  const bool fp8_;
};

// What tasks of each kind take, with the costs of a whole block and of the head reckoned once.
class Pricer {
 public:
  Pricer(const Plan& plan, const ModelSpec& spec, const HardwareProfile& hardware, bool training)
      : plan_(plan), spec_(spec), hardware_(hardware) {
    const BlockCosts block(plan, spec.config, hardware);
    for (int s = 0; s < kSegmentCount; ++s) {
      segments_[static_cast<size_t>(s)] = block.Forward(static_cast<Segment>(s));
    }
    forward_ = block.Forward();
    backward_ = block.Backward();
    head_ = HeadSeconds(plan, spec, training, hardware);
  }

  TaskPrice operator()(const Task& task) const {
    if (task.source != task.destination) return Transfer(task);
    switch (task.kind) {
      case TaskKind::kForward:
        return {.seconds = IsBlock(task) ? forward_ : EmbeddingSeconds(2 * Storage())};
      case TaskKind::kHead:
        return {.seconds = head_};
      case TaskKind::kRecompute:
        return {.seconds = segments_[static_cast<size_t>(task.segment)]};
      case TaskKind::kBackward:
        return {.seconds = IsBlock(task) ? backward_ : EmbeddingSeconds(3 * Storage())};
      case TaskKind::kZeroGradients:
        return {.seconds = Copied(Unit(task).elements, Gradient())};
      case TaskKind::kSquareSum:
        return {.seconds = Copied(task.elements.count(), Gradient())};
      case TaskKind::kUpdate:
        return Update(task);
      case TaskKind::kCastMaster:
        return {.seconds = Copied(task.elements.count(), Master() + Storage())};
      case TaskKind::kQuantizeWeights:
        return {.seconds = Copied(task.elements.count(), 2 * Storage() + 1)};
      case TaskKind::kFetchWeights:  // of which nothing crosses the link
        return {.seconds = Copied(Unit(task).elements, 2 * (plan_.precision.fp8 ? 1 : Storage()))};
      case TaskKind::kTransposeWeights:
        return {.seconds = Copied(Unit(task).matmul_elements, 2)};
      case TaskKind::kExchangeShards:
      case TaskKind::kExchangeSums:
        return Network(task);
      default:
        return task.stream == StreamId::kComm ? Collective(task) : TaskPrice{.seconds = Kernel()};
    }
  }

 private:
  double Kernel() const { return hardware_.kernel_us * kMicro; }
  double Storage() const { return Number(SizeOf(plan_.precision.storage)); }
  double Gradient() const { return Number(SizeOf(plan_.precision.gradient)); }
  double Master() const { return Number(SizeOf(plan_.state_types.master)); }
  const UnitSpec& Unit(const Task& task) const {
    return spec_.units[static_cast<size_t>(task.unit)];
  }
  bool IsBlock(const Task& task) const { return Unit(task).kind == UnitKind::kBlock; }

  double EmbeddingSeconds(double bytes_per_element) const {
    return ElementwiseSeconds(
        Number(plan_.tokens_per_micro_batch * spec_.config.hidden_size) * bytes_per_element,
        hardware_);
  }
  double Copied(int64_t elements, double bytes_per_element) const {
    return Kernel() + Number(elements) * bytes_per_element / (hardware_.copy_gbps * kGiga);
  }

  TaskPrice Transfer(const Task& task) const {
    const bool to_host = task.destination == Tier::kHost;
    const double rate = to_host ? hardware_.to_host_gbps : hardware_.to_device_gbps;
    TaskPrice price{.seconds = Kernel() + Number(task.bytes) / (rate * kGiga)};
    Use(SharedResource::kHostLink, rate / hardware_.both_ways_gbps, price);
    Use(to_host ? SharedResource::kToHostLink : SharedResource::kToDeviceLink, 1, price);
    Use(SharedResource::kHostMemory, rate / hardware_.memory_gbps, price);
    return price;
  }

  // On the host the random draws of bf16 master weights, of which each rounding takes one, take
  // longer than the bytes they save; on the device they hide.
  TaskPrice Update(const Task& task) const {
    const StateTypes& types = plan_.state_types;
    const double state = Master() + Number(SizeOf(types.m) + SizeOf(types.v));
    const double bytes = Number(task.elements.count()) * (2 * state + Gradient() + Storage());
    if (task.stream != StreamId::kHostOptimizer) {
      return {.seconds = ElementwiseSeconds(bytes, hardware_)};
    }
    const double rate =
        types.master == DType::kBF16 ? hardware_.adamw_stochastic_gbps : hardware_.adamw_gbps;
    TaskPrice price{.seconds = Kernel() + bytes / (rate * kGiga)};
    Use(SharedResource::kHostMemory, rate / hardware_.memory_gbps, price);
    return price;
  }

  // Every rank receives the others' parts, or sends its own.
  TaskPrice Collective(const Task& task) const {
    const double others = Number(plan_.RanksPerBox() - 1) / Number(plan_.RanksPerBox());
    const bool reduces = task.kind == TaskKind::kReduceGradients;
    const double rate = reduces ? hardware_.reduce_gbps : hardware_.gather_gbps;
    TaskPrice price{.seconds = hardware_.latency_us * kMicro};
    if (plan_.RanksPerBox() > 1) price.seconds += others * Number(task.bytes) / (rate * kGiga);
    // Where partial gradients are added to a shard, also with one rank.
    if (reduces) price.seconds += Copied(task.elements.count(), 3 * Gradient());
    return price;
  }

  // The ranks of a box share its network; there and back, each behind a message's time.
  TaskPrice Network(const Task& task) const {
    return {.seconds = 2 * hardware_.box_latency_us * kMicro +
                       Number(task.bytes * plan_.RanksPerBox()) / (hardware_.box_gbps * kGiga)};
  }

  static void Use(SharedResource resource, double share, TaskPrice& price) {
    price.use[static_cast<size_t>(resource)] = share;
  }

  const Plan& plan_;
  const ModelSpec& spec_;
  const HardwareProfile& hardware_;
  std::array<double, kSegmentCount> segments_{};
  double forward_ = 0;
  double backward_ = 0;
  double head_ = 0;
};

}  // namespace

double MatmulSeconds(const MatmulSize& size, const HardwareProfile& hardware) {
  const double m = Number(size.m), n = Number(size.n), k = Number(size.k);
  const Rate rate = RateOf(size.type, hardware);
  const double reached = rate.peak * rate.share;
  const double computing = 2 * m * n * k / reached;
  const double results = m * n * Number(SizeOf(size.out)) * (size.accumulates ? 2 : 1);
  const double operands = (m * k + n * k) * Number(SizeOf(size.type));
  const double moving = (operands + results) / (hardware.copy_gbps * kGiga);
  return std::hypot(computing, moving) + hardware.half_rate_gflop * kGiga / reached +
         hardware.kernel_us * kMicro;
}

double AttentionSeconds(const ModelConfig& config, const Precision& precision, int64_t tokens,
                        int64_t sequence_len, bool backward, const HardwareProfile& hardware) {
  const double head = Number(config.head_dim);
  const double matmul = Number(tokens) * Number(config.query_size()) * Number(sequence_len + 1);
  const double peak =
      (precision.storage == DType::kF32 ? hardware.fp32_tflops : hardware.bf16_tflops) * kTera;
  const double of_usual =
      head / (head + kColumnsPerScore) * (kUsualHead + kColumnsPerScore) / kUsualHead;
  const double computing = backward ? 5 * matmul / (peak * hardware.attention_backward_share)
                                    : 2 * matmul / (peak * hardware.attention_share * of_usual);
  const double heads_in_turn = backward ? Number(config.num_heads / config.num_kv_heads) : 1;
  const double longest = Number(sequence_len) * heads_in_turn * hardware.attention_token_ns *
                         kNano * (head + kColumnsPerScore) / (kUsualHead + kColumnsPerScore);
  return std::hypot(computing, longest) + (backward ? 2 : 1) * hardware.kernel_us * kMicro;
}

double ElementwiseSeconds(double bytes, const HardwareProfile& hardware, int kernels) {
  return bytes / (hardware.elementwise_gbps * kGiga) + kernels * hardware.kernel_us * kMicro;
}

double SegmentSeconds(Segment segment, const Plan& plan, const ModelConfig& config,
                      const HardwareProfile& hardware) {
  return BlockCosts(plan, config, hardware).Forward(segment);
}

double BlockForwardSeconds(const Plan& plan, const ModelConfig& config,
                           const HardwareProfile& hardware) {
  return BlockCosts(plan, config, hardware).Forward();
}

double BlockBackwardSeconds(const Plan& plan, const ModelConfig& config,
                            const HardwareProfile& hardware) {
  return BlockCosts(plan, config, hardware).Backward();
}

double HeadSeconds(const Plan& plan, const ModelSpec& spec, bool training,
                   const HardwareProfile& hardware) {
  const int64_t c = spec.config.hidden_size, vocab = spec.padded_vocab_size();
  const bool fp8 = plan.precision.fp8_head;
  const DType type = fp8 ? DType::kF8E4M3 : plan.precision.storage;
  const double storage = Number(SizeOf(plan.precision.storage));
  const double stream = Number(plan.tokens_per_micro_batch * c);
  double seconds = ElementwiseSeconds(stream * (storage + (fp8 ? 1 : storage)), hardware);
  const int64_t slab = HeadSlabTokens(plan);
  for (int64_t begin = 0; begin < plan.tokens_per_micro_batch; begin += slab) {
    const int64_t rows = std::min(slab, plan.tokens_per_micro_batch - begin);
    const double logits = Number(rows * vocab);
    seconds += MatmulSeconds(
        {.m = rows, .n = vocab, .k = c, .type = type, .out = plan.precision.storage}, hardware);
    seconds +=
        ElementwiseSeconds(logits * (storage + (training ? (fp8 ? 1 : storage) : 0)), hardware);
    if (!training) continue;
    if (fp8) seconds += ElementwiseSeconds(2 * (logits + Number(rows * c)), hardware);
    seconds += MatmulSeconds({.m = vocab,
                              .n = c,
                              .k = rows,
                              .type = type,
                              .out = plan.precision.gradient,
                              .accumulates = true},
                             hardware);
    seconds += MatmulSeconds(
        {.m = rows, .n = c, .k = vocab, .type = type, .out = plan.precision.storage}, hardware);
  }
  if (training) seconds += ElementwiseSeconds(stream * 3 * storage, hardware);
  return seconds;
}

std::vector<TaskPrice> PriceTasks(const Schedule& schedule, const Plan& plan, const ModelSpec& spec,
                                  const HardwareProfile& hardware) {
  const bool training = schedule.phase == Phase::kTrain || schedule.phase == Phase::kGradients;
  const Pricer pricer(plan, spec, hardware, training);
  std::vector<TaskPrice> prices;
  prices.reserve(schedule.tasks.size());
  for (const Task& task : schedule.tasks) prices.push_back(pricer(task));
  return prices;
}

}  // namespace hearth
