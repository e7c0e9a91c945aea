// The same loops for x86 with AVX-512: registers as wide as AVX2's, but twice as many, and masks. Code below the pragma
// does not run on other processors, so system headers come before it, and nothing else may be compiled in this file.
#include "cpu/kernels.h"

#if RMPE_HAVE_VECTORS
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=256")
#include "cpu/kernels_vector.h"

namespace rmpe {

Kernels<float> avx512_kernels() { return vector_kernels(); }

}  // namespace rmpe
#endif
