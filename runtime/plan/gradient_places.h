// Where the gradients of units lie. Shared by the memory layout, the schedule and the stores.
#pragma once

#include "runtime/plan/plan.h"

namespace hearth {

// Blocks take turns in kUnitSlots slots, embedding and head in another one.
constexpr int kEdgeSlot = kUnitSlots;
constexpr int kGradientSlots = kUnitSlots + 1;

// Backward adds to a unit's *whole gradient* on the device. Under ZeRO 2, and where gradients live
// on the host, it has memory there only in a slot, while micro-batches add to it, and what remains
// is its *sum*: a shard of the sum over ranks on the device, or on the host whatever this rank
// needs of it. Embedding and head of a model that ties them are always whole on the device: a slot
// for the one table would be as large.
class GradientPlaces {
 public:
  // `plan` and `spec` must outlive it.
  GradientPlaces(const Plan& plan, const ModelSpec& spec) : plan_(plan), spec_(spec) {}

  bool InSlot(int unit) const;
  int Slot(int unit) const;  // in [0, kGradientSlots)
  bool OnHost(int unit) const { return plan_.gradients.tier == Tier::kHost && InSlot(unit); }
  // Of a unit that is OnHost: whether a training step leaves its final gradient in the slot, whose
  // last user it is, for its update there. Else it goes to the host and comes back.
  bool StaysInSlot(int unit) const;
  // Whether the sum over ranks has memory on the device beside the whole gradient: one per unit, or
  // one per slot where it goes on to the host.
  bool HasShardSum(int unit) const;
  // What the host has memory for, of a unit that is OnHost.
  ElementRange HostRange(int unit, int rank) const;
  // Elements of the largest unit of a slot, and of the largest shard.
  int64_t SlotElements(int slot) const;
  int64_t SlotShardElements(int slot, int rank) const;

 private:
  const UnitSpec& Unit(int unit) const { return spec_.units.at(static_cast<size_t>(unit)); }

  const Plan& plan_;
  const ModelSpec& spec_;
};

}  // namespace hearth
