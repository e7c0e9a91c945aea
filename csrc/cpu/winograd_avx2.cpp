// Winograd's loops for x86 with AVX2 and FMA. Code below the pragma does not run on other processors, so system headers
// come before it, and nothing else may be compiled in this file.
#include "cpu/winograd.h"

#if RMPE_HAVE_VECTORS
#include <immintrin.h>

#pragma GCC target("avx2,fma")
#include "cpu/lanes_avx2.h"
#include "cpu/winograd_loops.h"

namespace rmpe {

void winograd_avx2(const Winograd& conv, int64_t begin, int64_t end, float* scratch) {
  compute_tiles(conv, begin, end, scratch);
}

}  // namespace rmpe
#endif
