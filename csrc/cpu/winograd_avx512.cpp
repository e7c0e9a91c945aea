// Winograd's loops for x86 with AVX-512. Code below the pragma does not run on other processors, so system headers come
// before it, and nothing else may be compiled in this file.
#include "cpu/winograd.h"

#if RMPE_HAVE_VECTORS
#include <immintrin.h>

#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
#include "numeric.h"

namespace rmpe {
namespace {

struct Lanes {
  using Vector = __m512;
  static constexpr int kCount = 16, kRows = 12, kBlocks = 2;

  static RMPE_INLINE __mmask16 first(int64_t count) { return static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1); }
  static RMPE_INLINE Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static RMPE_INLINE Vector load(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(first(count), from); }
  static RMPE_INLINE void store(float* to, Vector x) { _mm512_storeu_ps(to, x); }
  static RMPE_INLINE void store(float* to, Vector x, int64_t count) { _mm512_mask_storeu_ps(to, first(count), x); }
  static RMPE_INLINE Vector broadcast(float x) { return _mm512_set1_ps(x); }
  static RMPE_INLINE Vector plus(Vector x, Vector y) { return _mm512_add_ps(x, y); }
  static RMPE_INLINE Vector minus(Vector x, Vector y) { return _mm512_sub_ps(x, y); }
  static RMPE_INLINE Vector times(Vector x, Vector y) { return _mm512_mul_ps(x, y); }
  static RMPE_INLINE Vector madd(Vector x, Vector y, Vector z) { return _mm512_fmadd_ps(x, y, z); }
  // max(x, 0), and NaN for NaN.
  static RMPE_INLINE Vector positive(Vector x) { return _mm512_maskz_max_ps(0xffff, _mm512_setzero_ps(), x); }
};

}  // namespace
}  // namespace rmpe
#include "cpu/winograd_loops.h"

namespace rmpe {

void winograd_avx512(const Winograd& conv, int64_t begin, int64_t end, float* scratch) {
  compute_tiles(conv, begin, end, scratch);
}

}  // namespace rmpe
#endif
