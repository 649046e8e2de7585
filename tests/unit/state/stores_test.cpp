// The stores' views lie where the memory layout says, and pieces of ranges cover every element.
#include "runtime/state/stores.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "kernels/core/philox.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::PlanCase;
using test::PlanOf;
using test::SmallConfig;

ModelSpec Qwen2Spec() {
  ModelConfig config = SmallConfig();
  config.family = ModelFamily::kQwen2;
  config.qk_norm = false;
  config.qkv_bias = true;
  return BuildModelSpec(config);
}

TEST(PiecesOf, CoverEveryLogicalElementOnce) {
  for (const ModelSpec& spec : {BuildModelSpec(SmallConfig()), Qwen2Spec()}) {
    for (int u = 0; u < static_cast<int>(spec.units.size()); ++u) {
      const int64_t elements = spec.units[static_cast<size_t>(u)].elements;
      for (uint32_t draw = 0; draw < 40; ++draw) {
        // Ranges of any bounds that tile the unit: random cuts.
        std::set<int64_t> cuts = {0, elements};
        for (uint32_t i = 0; i < draw % 7; ++i) {
          cuts.insert(Philox4x32(5, {draw, i, static_cast<uint32_t>(u), 0})[0] % elements);
        }
        std::map<const ParameterSpec*, int64_t> next;  // first element not yet covered
        int64_t begin = 0;
        for (auto cut = std::next(cuts.begin()); cut != cuts.end(); begin = *cut++) {
          const ElementRange range{begin, *cut};
          int64_t end_before = 0;
          for (const ParameterPiece& piece : PiecesOf(spec, u, range)) {
            ASSERT_GT(piece.count, 0);
            ASSERT_EQ(piece.first_element, next[piece.parameter]);
            next[piece.parameter] += piece.count;
            ASSERT_EQ(range.begin + piece.range_begin,
                      piece.parameter->unit_offset + piece.first_element);
            ASSERT_GE(piece.range_begin, end_before);
            end_before = piece.range_begin + piece.count;
            ASSERT_LE(end_before, range.count());
          }
        }
        for (const ParameterSpec& parameter : spec.UnitParameters(u)) {
          ASSERT_EQ(next[&parameter], parameter.shape.elements()) << parameter.name;
        }
      }
    }
  }
}

TEST(PiecesOf, Fp8MatricesAreNumberedInTheUnit) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const int unit = spec.block_unit(1);
  std::map<ParameterRole, int> indices;
  const int64_t elements = spec.units[static_cast<size_t>(unit)].elements;
  // From behind the first matrix on: the others keep their numbers.
  const ParameterSpec& first = spec.UnitParameters(unit)[0];
  for (const ParameterPiece& piece :
       PiecesOf(spec, unit, {first.unit_offset + first.stored_elements, elements})) {
    EXPECT_EQ(piece.fp8_index >= 0, piece.parameter->fp8) << piece.parameter->name;
    if (piece.fp8_index >= 0) indices[piece.parameter->role] = piece.fp8_index;
  }
  int expected = 0;
  for (const ParameterSpec& parameter : spec.UnitParameters(unit)) {
    if (!parameter.fp8) continue;
    if (&parameter != &first) {
      EXPECT_EQ(indices.at(parameter.role), expected) << parameter.name;
    }
    ++expected;
  }
  EXPECT_EQ(expected, 4);
  EXPECT_EQ(CountFp8(spec, unit), 4);
}

struct Rig {
  explicit Rig(const PlanCase& c, int rank = 0, ModelSpec model = BuildModelSpec(SmallConfig()))
      : spec(std::move(model)), plan(PlanOf(c, spec)), memory(device, plan, spec, rank) {}

  // Where a view begins in an allocation.
  int64_t In(const Arena& arena, const TensorView& view) const {
    return static_cast<std::byte*>(view.data()) - static_cast<std::byte*>(arena.Bytes().data());
  }

  CpuDevice device{1};
  ModelSpec spec;
  Plan plan;
  RankMemory memory;
};

TEST(RankMemory, TakesExactlyWhatThePlanSays) {
  for (const char* memory : {"", "memory: {offload: {optimizer: host}}\n"}) {
    Rig rig({.more = memory, .world = 2}, 1);
    const MemoryLayout layout = MakeMemoryLayout(rig.plan, rig.spec, 1);
    EXPECT_EQ(rig.device.allocated_bytes(MemoryKind::kDevice),
              layout.slab_bytes + layout.arena_bytes);
    EXPECT_EQ(rig.device.allocated_bytes(MemoryKind::kPinnedHost), layout.host_bytes);
  }
}

TEST(ParameterStore, ViewsHaveTheirShapeTypeAndPlace) {
  for (const char* compute : {"fp8", "fp8, fp8_lm_head: true", "bf16", "fp32"}) {
    Rig rig({.more = std::string("precision: {compute_dtype: ") + compute + "}\n"});
    const ParameterStore store(rig.memory);
    const int64_t storage = std::string_view(compute) == "fp32" ? 4 : 2;
    for (const ParameterSpec& p : rig.spec.parameters) {
      const bool fp8 =
          p.unit == rig.spec.head_unit() ? rig.plan.precision.fp8_head : rig.plan.precision.fp8;
      const UnitLayout& layout = rig.memory.layout.units[static_cast<size_t>(p.unit)];
      const ParameterView view = store.Parameter(p.unit, p.role);
      ASSERT_EQ(view.values.shape(), p.stored_shape) << p.name;
      const int64_t at = rig.In(rig.memory.slab, view.values);
      if (fp8 && p.fp8) {
        EXPECT_EQ(view.values.dtype(), DType::kF8E4M3) << p.name;
        EXPECT_EQ(at, layout.fp8_values + p.unit_offset) << p.name;
        EXPECT_EQ(view.transposed.shape(), (Shape{p.stored_shape[1], p.stored_shape[0]}));
        EXPECT_EQ(rig.In(rig.memory.arena, view.transposed), layout.fp8_transposed + p.unit_offset);
        EXPECT_EQ(view.scale.shape(), (Shape{4}));
      } else {
        EXPECT_EQ(SizeOf(view.values.dtype()), storage) << p.name;
        const int64_t dense_begin =
            fp8 ? rig.spec.units[static_cast<size_t>(p.unit)].matmul_elements : 0;
        EXPECT_EQ(at, layout.dense + (p.unit_offset - dense_begin) * storage) << p.name;
        EXPECT_FALSE(view.transposed || view.scale) << p.name;
      }
    }
    EXPECT_FALSE(store.Parameter(1, ParameterRole::kQkvBias).values) << "a Qwen3 block has none";
  }
}

TEST(ParameterStore, TheHeadReadsItsMatrixOrTheEmbeddingOrFp8CopiesOfThat) {
  for (const bool tied : {false, true}) {
    for (const bool fp8 : {false, true}) {
      Rig rig({.more = fmt::format("precision: {{fp8_lm_head: {}}}\n", fp8)}, 0,
              BuildModelSpec(SmallConfig(tied)));
      const ParameterStore store(rig.memory);
      const ParameterView head = store.HeadMatrix();
      EXPECT_EQ(head.values.shape(), (Shape{96, 48}));
      EXPECT_EQ(head.values.dtype(), fp8 ? DType::kF8E4M3 : DType::kBF16);
      const ParameterView embedding = store.Parameter(0, ParameterRole::kEmbedding);
      EXPECT_EQ(embedding.values.dtype(), DType::kBF16);
      EXPECT_EQ(head.values.data() == embedding.values.data(), tied && !fp8);
      EXPECT_EQ(static_cast<bool>(head.transposed), fp8);
      EXPECT_EQ(static_cast<bool>(head.scale), fp8);
      if (!fp8) continue;
      EXPECT_EQ(head.transposed.shape(), (Shape{48, 96}));
      EXPECT_EQ(head.scale.shape(), (Shape{4}));
      EXPECT_EQ(head.values.data() ==
                    store.Parameter(rig.spec.head_unit(), ParameterRole::kHead).values.data(),
                !tied);
    }
  }
}

TEST(ParameterStore, EveryFp8MatrixHasItsOwnScaleInTheOrderOfPieces) {
  Rig rig({});
  const ParameterStore store(rig.memory);
  const int unit = rig.spec.block_unit(2);
  const UnitLayout& layout = rig.memory.layout.units[static_cast<size_t>(unit)];
  const int64_t elements = rig.spec.units[static_cast<size_t>(unit)].elements;
  for (const ParameterPiece& piece : PiecesOf(rig.spec, unit, {0, elements})) {
    if (piece.fp8_index < 0) continue;
    const ParameterView view = store.Parameter(unit, piece.parameter->role);
    EXPECT_EQ(rig.In(rig.memory.arena, view.scale), layout.scales + 16 * piece.fp8_index);
  }
  EXPECT_EQ(store.Scales(unit).shape(), (Shape{4, 4}));
  EXPECT_EQ(store.Amax(unit).shape(), (Shape{4}));
}

TEST(ParameterStore, APartOfARangeIsFp8OrDenseAndNeverBoth) {
  Rig rig({.more = "precision: {fp8_lm_head: true}\n", .world = 3});
  const ParameterStore store(rig.memory);
  for (int u = 0; u < static_cast<int>(rig.spec.units.size()); ++u) {
    const UnitSpec& unit = rig.spec.units[static_cast<size_t>(u)];
    int64_t fp8_end = 0, dense_end = unit.matmul_elements;
    for (int rank = 0; rank < 3; ++rank) {
      const ElementRange shard = rig.plan.Shard(unit, rank);
      const ElementRange fp8 = store.Fp8Part(u, shard), dense = store.DensePart(u, shard);
      EXPECT_EQ(fp8.count() + dense.count(), shard.count());
      const SlabRange fp8_slab = store.Fp8Slab(u, fp8), dense_slab = store.DenseSlab(u, dense);
      EXPECT_EQ(fp8_slab.bytes, fp8.count());
      EXPECT_EQ(dense_slab.bytes, 2 * dense.count());
      const UnitLayout& layout = rig.memory.layout.units[static_cast<size_t>(u)];
      if (fp8.count() > 0) {
        EXPECT_EQ(fp8.begin, fp8_end);
        EXPECT_EQ(fp8_slab.offset_bytes, layout.fp8_values + fp8.begin);
        fp8_end = fp8.end;
      }
      if (dense.count() > 0) {
        EXPECT_EQ(dense.begin, dense_end);
        EXPECT_EQ(dense_slab.offset_bytes, layout.dense + 2 * (dense.begin - unit.matmul_elements));
        dense_end = dense.end;
      }
    }
    EXPECT_EQ(fp8_end, unit.matmul_elements);
    EXPECT_EQ(dense_end, unit.elements);
  }
  const int block = rig.spec.block_unit(0);
  const int64_t matrices = rig.spec.units[1].matmul_elements;
  EXPECT_THROW(store.Dense(block, {matrices - 1024, matrices + 1024}), CheckError);
  EXPECT_THROW(store.Fp8Values(block, {matrices - 1024, matrices + 1024}), CheckError);
}

TEST(GradientStore, ViewsLieInTheSlabAndTheSumInTheArena) {
  for (const char* grad : {"bf16", "fp32"}) {
    Rig rig({.more = fmt::format("precision: {{grad_dtype: {}}}\n"
                                 "parallel: {{reduction_order: rank_then_micro}}\n",
                                 grad),
             .world = 3},
            2, Qwen2Spec());
    const GradientStore store(rig.memory);
    const int64_t size = std::string_view(grad) == "fp32" ? 4 : 2;
    for (const ParameterSpec& p : rig.spec.parameters) {
      const TensorView view = store.Parameter(p.unit, p.role);
      const UnitLayout& layout = rig.memory.layout.units[static_cast<size_t>(p.unit)];
      ASSERT_EQ(view.shape(), p.stored_shape) << p.name;
      EXPECT_EQ(SizeOf(view.dtype()), size);
      EXPECT_EQ(rig.In(rig.memory.slab, view), layout.gradients + p.unit_offset * size) << p.name;
      const ElementRange shard = rig.plan.Shard(rig.spec.units[static_cast<size_t>(p.unit)], 2);
      EXPECT_EQ(store.ShardSum(p.unit).elements(), shard.count());
      EXPECT_EQ(store.Slab(p.unit, shard).offset_bytes, layout.gradients + shard.begin * size);
      EXPECT_EQ(store.Slab(p.unit, shard).bytes, shard.count() * size);
    }
    EXPECT_THROW(store.Range(0, {0, rig.spec.units[0].elements + 1024}), CheckError);
  }
  Rig direct({.world = 2});
  EXPECT_FALSE(GradientStore(direct.memory).ShardSum(0));
}

TEST(GradientStore, OnTheHostTheShardIsAtHomeAndTheWholeInASlot) {
  Rig rig({.more = "memory: {offload: {gradients: host}, schedule: vertical}\n", .world = 2}, 1);
  const GradientStore store(rig.memory);
  for (int u = 0; u < static_cast<int>(rig.spec.units.size()); ++u) {
    const UnitSpec& unit = rig.spec.units[static_cast<size_t>(u)];
    const ElementRange shard = rig.plan.Shard(unit, 1);
    const UnitLayout& layout = rig.memory.layout.units[static_cast<size_t>(u)];
    EXPECT_EQ(store.Range(u, {0, unit.elements}).elements(), unit.elements);
    EXPECT_EQ(store.OnHost(u, shard).elements(), shard.count());
    EXPECT_EQ(rig.In(rig.memory.host, store.OnHost(u, shard)), layout.host_gradients);
    EXPECT_THROW(store.OnHost(u, {shard.begin - 1024, shard.end}), CheckError);
  }
}

// Whoever has lost a slot cannot be read or added to, whatever its version.
TEST(GradientStore, ASlotIsItsLastWritersAlone) {
  Rig rig({.more = "memory: {offload: {gradients: host}}\n"});
  GradientStore store(rig.memory);
  const int first = rig.spec.block_unit(0), second = rig.spec.block_unit(1),
            third = rig.spec.block_unit(2);
  EXPECT_THROW(store.AddTo(first, 7), CheckError) << "nobody made it resident";
  { const Lease lease = store.Write(first, kNothing); }
  { const Lease lease = store.AddTo(first, 7); }
  { const Lease lease = store.Write(second, kNothing); }
  EXPECT_NO_THROW(store.Read(first, 7));
  { const Lease lease = store.Write(third, 7); }
  EXPECT_THROW(store.Read(first, 7), CheckError);
  EXPECT_THROW(store.AddTo(first, 8), CheckError);
  EXPECT_NO_THROW(store.Read(third, 7));
  {
    const Lease lease = store.Read(third, 7);
    EXPECT_THROW(store.Write(first, kNothing), CheckError) << "the slot is in use";
    EXPECT_NO_THROW(store.Read(third, 7));
  }
  EXPECT_THROW(store.ReadHost(first, 7), CheckError) << "nobody stored it";
  { const Lease lease = store.WriteHost(first, 7); }
  EXPECT_NO_THROW(store.ReadHost(first, 7));
}

TEST(OptimizerStore, StateLivesWhereItWasPlacedAndIsStagedForTheDevice) {
  Rig rig({.more = "memory: {offload: {m: host}}\noptimizer: {v_dtype: fp32}\n", .world = 2}, 1);
  const OptimizerStore store(rig.memory);
  for (int u = 0; u < static_cast<int>(rig.spec.units.size()); ++u) {
    const int64_t count = rig.plan.Shard(rig.spec.units[static_cast<size_t>(u)], 1).count();
    const StateLayout& layout = rig.memory.layout.states[static_cast<size_t>(u)];
    for (StateKind kind : {StateKind::kMaster, StateKind::kM, StateKind::kV}) {
      EXPECT_EQ(store.Home(u, kind).elements(), count);
    }
    const ElementRange own = rig.plan.Shard(rig.spec.units[static_cast<size_t>(u)], 1);
    const ElementRange piece = StatePieces(rig.plan, rig.spec, u, 1).back();
    EXPECT_EQ(piece.end, own.end);
    EXPECT_EQ(rig.In(rig.memory.arena, store.Home(u, StateKind::kMaster)), layout.master);
    EXPECT_EQ(rig.In(rig.memory.host, store.Home(u, StateKind::kM)), layout.m);
    EXPECT_EQ(rig.In(rig.memory.arena, store.Home(u, StateKind::kV)), layout.v);
    EXPECT_EQ(store.Home(u, StateKind::kMaster).dtype(), DType::kF32);
    EXPECT_EQ(store.Home(u, StateKind::kM).dtype(), DType::kBF16);
    EXPECT_EQ(store.Home(u, StateKind::kV).dtype(), DType::kF32);
    const TensorView v = store.OnDevice(u, StateKind::kV, piece, 1);
    EXPECT_EQ(rig.In(rig.memory.arena, v), layout.v + (piece.begin - own.begin) * 4);
    EXPECT_EQ(v.elements(), piece.count());
    const TensorView m = store.OnDevice(u, StateKind::kM, piece, 0);
    EXPECT_EQ(m.elements(), piece.count());
    EXPECT_NO_THROW(rig.In(rig.memory.arena, m));
    EXPECT_NE(m.data(), store.OnDevice(u, StateKind::kM, piece, 1).data()) << "the slots are apart";
    EXPECT_EQ(rig.In(rig.memory.host, store.Home(u, StateKind::kM, piece)),
              layout.m + (piece.begin - own.begin) * 2);
  }
  std::set<std::string_view> names;
  for (int i = 0; i < kStateKindCount; ++i) names.insert(Name(static_cast<StateKind>(i)));
  EXPECT_EQ(names, (std::set<std::string_view>{"master", "m", "v"}));
}

TEST(ActivationStore, BoundariesAreSharedByNeighboursAndLeasesAreByLayer) {
  Rig rig({});
  ActivationStore store(rig.memory);
  const int layers = static_cast<int>(rig.spec.config.num_layers);
  for (int layer = 0; layer < layers; ++layer) {
    const auto forward = [&](int l, BlockTensor t) { return store.Block(l, 0, Pass::kForward, t); };
    if (layer + 1 < layers) {
      EXPECT_EQ(forward(layer, BlockTensor::kOutput).data(),
                forward(layer + 1, BlockTensor::kInput).data());
    }
    EXPECT_EQ(store.Block(layer, 0, Pass::kBackward, BlockTensor::kDOutput).data(),
              store.Block(0, 0, Pass::kBackward, BlockTensor::kDOutput).data());
    EXPECT_FALSE(forward(layer, BlockTensor::kLn1)) << "not under FP8";
  }
  { const Lease forward = store.Write(1, 10); }
  EXPECT_NO_THROW(store.Read(1, 10));
  EXPECT_THROW(store.Read(1, 9), CheckError) << "another forward's tensors";
  EXPECT_THROW(store.Read(0, 10), CheckError);
}

}  // namespace
}  // namespace hearth
