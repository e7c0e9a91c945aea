// Winograd's loops for x86 with AVX2 and FMA. Code below the pragma does not run on other processors, so system headers
// come before it, and nothing else may be compiled in this file.
#include "cpu/winograd.h"

#if RMPE_HAVE_VECTORS
#include <immintrin.h>

#pragma GCC target("avx2,fma")
#include "numeric.h"

namespace rmpe {
namespace {

struct Lanes {
  using Vector = __m256;
  static constexpr int kCount = 8, kRows = 6, kBlocks = 1;

  static RMPE_INLINE __m256i first(int64_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), lane);
  }
  static RMPE_INLINE Vector load(const float* from) { return _mm256_loadu_ps(from); }
  static RMPE_INLINE Vector load(const float* from, int64_t count) { return _mm256_maskload_ps(from, first(count)); }
  static RMPE_INLINE void store(float* to, Vector x) { _mm256_storeu_ps(to, x); }
  static RMPE_INLINE void store(float* to, Vector x, int64_t count) { _mm256_maskstore_ps(to, first(count), x); }
  static RMPE_INLINE Vector broadcast(float x) { return _mm256_set1_ps(x); }
  static RMPE_INLINE Vector plus(Vector x, Vector y) { return _mm256_add_ps(x, y); }
  static RMPE_INLINE Vector minus(Vector x, Vector y) { return _mm256_sub_ps(x, y); }
  static RMPE_INLINE Vector times(Vector x, Vector y) { return _mm256_mul_ps(x, y); }
  static RMPE_INLINE Vector madd(Vector x, Vector y, Vector z) { return _mm256_fmadd_ps(x, y, z); }
  // max(x, 0), and NaN for NaN.
  static RMPE_INLINE Vector positive(Vector x) { return _mm256_max_ps(_mm256_setzero_ps(), x); }
};

}  // namespace
}  // namespace rmpe
#include "cpu/winograd_loops.h"

namespace rmpe {

void winograd_avx2(const Winograd& conv, int64_t begin, int64_t end, float* scratch) {
  compute_tiles(conv, begin, end, scratch);
}

}  // namespace rmpe
#endif
