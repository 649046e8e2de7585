// Matmuls that run beside something else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "comm/api/bootstrap.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

class MatmulLoad {
 public:
  // Of [size, size] bf16 matrices with random values. Collective, as is Slowdown.
  MatmulLoad(Bootstrap& bootstrap, KernelBackend& backend, int64_t size);

  // By how much a matmul takes longer than alone while what `enqueue` enqueues on `stream`, which
  // takes so many seconds alone, follows upon itself: 0.03 is 3 %. Of the slowest rank, the same on
  // every rank.
  double Slowdown(Stream& stream, double seconds, const std::function<void()>& enqueue);

 private:
  // Seconds of all matmuls, begun together with that many calls.
  double Time(Stream& stream, int64_t calls, const std::function<void()>& enqueue);

  Bootstrap& bootstrap_;
  KernelBackend& backend_;
  const int64_t size_;
  const std::unique_ptr<Stream> compute_;
  Buffer memory_;  // two factors, the product and a workspace
  double matmul_seconds_ = 0;
  int64_t matmuls_ = 1;
};

}  // namespace hearth
