// Eight floats in a register. Include this only below a #pragma GCC target with AVX2 and FMA.
#pragma once
#include "numeric.h"

namespace rmpe {
namespace {

struct Lanes {
  using Vector = __m256;
  static constexpr int kCount = 8;
  static constexpr int kRows = 6, kBlocks = 1;   // how many sums Winograd's products keep in registers
  static constexpr int kPixels = 6, kWide = 1;  // and those of a small network, which also need an address per row

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
  // x where it is above 0, else y.
  static RMPE_INLINE Vector if_positive(Vector x, Vector y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
  }
  // max(x, y), and NaN if one of them is.
  static RMPE_INLINE Vector larger(Vector x, Vector y) {
    const Vector is_larger = _mm256_cmp_ps(y, x, _CMP_GT_OQ), is_nan = _mm256_cmp_ps(y, y, _CMP_UNORD_Q);
    return _mm256_blendv_ps(x, y, _mm256_or_ps(is_larger, is_nan));
  }
};

}  // namespace
}  // namespace rmpe
