// A small network's loops for x86 with AVX2 and FMA. Code below the pragma does not run on other processors, so system
// headers come before it, and nothing else may be compiled in this file.
#include "cpu/small_net.h"

#if RMPE_HAVE_VECTORS
#include <immintrin.h>

#pragma GCC target("avx2,fma")
#include "cpu/lanes_avx2.h"
#include "cpu/small_net_loops.h"

namespace rmpe {

void small_net_avx2(const SmallNet& net, const SmallNetImage& image, const StepRange& range) {
  compute_steps(net, image, range);
}

}  // namespace rmpe
#endif
