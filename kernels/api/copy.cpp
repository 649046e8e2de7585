#include "kernels/api/copy.h"

#include "kernels/api/checks.h"

namespace hearth {

namespace {

void CheckPair(const TensorView& source, const TensorView& destination) {
  CHECK(source, "copy.source is absent");
  CHECK(destination, "copy.destination is absent");
  CHECK(source.elements() == destination.elements(),
        "copy.source has shape {}, copy.destination {}: not the same number of elements",
        source.shape(), destination.shape());
  CheckDisjoint({"copy.destination", destination}, {{"copy.source", source}});
}

}  // namespace

void Validate(const CopyArgs& args) {
  CheckPair(args.source, args.destination);
  CheckType({"copy.destination", args.destination}, args.source.dtype());
}

void Validate(const ZeroArgs& args) { CHECK(args.destination, "zero.destination is absent"); }

void Validate(const CastArgs& args) {
  CheckPair(args.source, args.destination);
  CheckStorage({"cast.source", args.source});
  CheckStorage({"cast.destination", args.destination});
  CHECK(args.source.dtype() != args.destination.dtype(),
        "a cast from {} to {}: equal types are copied", Name(args.source.dtype()),
        Name(args.destination.dtype()));
}

}  // namespace hearth
