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
