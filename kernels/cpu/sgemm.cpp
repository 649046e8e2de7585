#include "kernels/cpu/sgemm.h"

#include <oneapi/dnnl/dnnl.h>

#include "kernels/core/check.h"

namespace hearth {

void Sgemm(const SgemmArgs& args) {
  const dnnl_status_t status =
      dnnl_sgemm(args.a.transposed ? 'T' : 'N', args.b.transposed ? 'T' : 'N', args.m, args.n,
                 args.k, args.alpha, args.a.data, args.a.leading, args.b.data, args.b.leading,
                 args.accumulate ? 1.0f : 0.0f, args.c, args.c_leading);
  if (status != dnnl_success) {
    throw DeviceError(Format("dnnl_sgemm with m {}, n {}, k {} failed with status {}", args.m,
                             args.n, args.k, static_cast<int>(status)));
  }
}

}  // namespace hearth
