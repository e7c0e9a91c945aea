// Sixteen floats in a register. Include this only below a #pragma GCC target with AVX-512.
#pragma once
#include "numeric.h"

namespace rmpe {
namespace {

struct Lanes {
  using Vector = __m512;
  static constexpr int kCount = 16;
  static constexpr int kRows = 12, kBlocks = 2;  // how many sums Winograd's products keep in registers
  static constexpr int kPixels = 8, kWide = 3;   // and those of a small network, which also need an address per row

  static RMPE_INLINE __mmask16 first(int64_t count) {
    return static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1);
  }
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
  // x where it is above 0, else y.
  static RMPE_INLINE Vector if_positive(Vector x, Vector y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), y, x);
  }
  // max(x, y), and NaN if one of them is.
  static RMPE_INLINE Vector larger(Vector x, Vector y) {
    const __mmask16 takes_y = _mm512_cmp_ps_mask(y, x, _CMP_GT_OQ) | _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
    return _mm512_mask_blend_ps(takes_y, x, y);
  }
};

}  // namespace
}  // namespace rmpe
