#include "runtime/plan/gradient_places.h"

#include <algorithm>

namespace hearth {

bool GradientPlaces::InSlot(int unit) const {
  if (plan_.inference || !plan_.gradients.in_slots()) return false;
  return Unit(unit).kind == UnitKind::kBlock || spec_.HeadMatrix().unit == spec_.head_unit();
}

int GradientPlaces::Slot(int unit) const {
  return Unit(unit).kind == UnitKind::kBlock ? UnitSlot(Unit(unit).layer) : kEdgeSlot;
}

bool GradientPlaces::StaysInSlot(int unit) const {
  if (!OnHost(unit) || plan_.PlacementOf(unit).update_on_host || HasShardSum(unit)) return false;
  // Where some updates wait for the norm and others for the next step, the former would take the
  // slots of the latter.
  const bool in_turn =
      plan_.early_updates || plan_.deferred_share == 0.0 || plan_.deferred_share == 1.0;
  return in_turn && (unit == spec_.embedding_unit() ||
                     (Unit(unit).kind == UnitKind::kBlock && Unit(unit).layer < kUnitSlots));
}

bool GradientPlaces::HasShardSum(int unit) const {
  return plan_.RanksFirst() || (InSlot(unit) && !OnHost(unit));
}

ElementRange GradientPlaces::HostRange(int unit, int rank) const {
  return plan_.gradients.sharded ? plan_.Shard(Unit(unit), rank)
                                 : ElementRange{0, Unit(unit).elements};
}

int64_t GradientPlaces::SlotElements(int slot) const {
  int64_t largest = 0;
  for (int unit = 0; unit < static_cast<int>(spec_.units.size()); ++unit) {
    if (InSlot(unit) && Slot(unit) == slot) largest = std::max(largest, Unit(unit).elements);
  }
  return largest;
}

int64_t GradientPlaces::SlotShardElements(int slot, int rank) const {
  int64_t largest = 0;
  for (int unit = 0; unit < static_cast<int>(spec_.units.size()); ++unit) {
    if (InSlot(unit) && Slot(unit) == slot) {
      largest = std::max(largest, plan_.Shard(Unit(unit), rank).count());
    }
  }
  return largest;
}

}  // namespace hearth
