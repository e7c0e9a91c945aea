// The loops for x86 with AVX2 and FMA. Code below the pragma does not run on other processors, so system headers come
// before it, and nothing else may be compiled in this file.
#include "cpu/kernels.h"

#if RMPE_HAVE_VECTORS
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#pragma GCC target("avx2,fma")
#include "cpu/kernels_vector.h"

namespace rmpe {

Kernels<float> avx2_kernels() { return vector_kernels(); }

}  // namespace rmpe
#endif
