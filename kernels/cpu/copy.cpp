#include "kernels/api/copy.h"

#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

// Bytes of a piece: enough that a thread's share outweighs its start.
constexpr int64_t kCopyBytes = int64_t{1} << 18;

}  // namespace

void CpuBackend::DoCopy(Stream& stream, const CopyArgs& args) {
  Enqueue(stream, [this, args] {
    const auto* source = static_cast<const std::byte*>(args.source.data());
    auto* destination = static_cast<std::byte*>(args.destination.data());
    ForEachPiece(device_.pool(), args.source.bytes(), kCopyBytes, [&](int64_t begin, int64_t end) {
      std::memcpy(destination + begin, source + begin, static_cast<size_t>(end - begin));
    });
  });
}

void CpuBackend::DoZero(Stream& stream, const ZeroArgs& args) {
  Enqueue(stream, [this, args] {
    auto* destination = static_cast<std::byte*>(args.destination.data());
    ForEachPiece(device_.pool(), args.destination.bytes(), kCopyBytes,
                 [&](int64_t begin, int64_t end) {
                   std::memset(destination + begin, 0, static_cast<size_t>(end - begin));
                 });
  });
}

void CpuBackend::DoCast(Stream& stream, const CastArgs& args) {
  Enqueue(stream, [this, args] {
    ForEachPiece(device_.pool(), args.source.elements(), kCopyBytes / 4,
                 [&](int64_t begin, int64_t end) {
                   if (args.source.dtype() == DType::kF32) {
                     StoreRow(args.source.as<float>() + begin, end - begin,
                              args.destination.as<BFloat16>() + begin);
                   } else {
                     LoadRow(args.source.as<BFloat16>() + begin, end - begin,
                             args.destination.as<float>() + begin);
                   }
                 });
  });
}

}  // namespace hearth
