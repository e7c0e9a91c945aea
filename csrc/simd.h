// Eight floats in one 256-bit register. Each lane computes what a single float would, so the bits are the same.
// Include this only below a #pragma GCC target.
#pragma once
#include "numeric.h"

// For lambdas, which must be inlined for the same reason as RMPE_INLINE functions.
#define RMPE_LAMBDA __attribute__((always_inline))

namespace rmpe {

constexpr int kLanes = 8;

typedef float FloatVector __attribute__((vector_size(32)));
using Indices = __m256i;  // eight int32

// One register, as a value type that the arithmetic in the operators' headers can use like float.
struct Floats {
  FloatVector v;

  Floats() = default;
  RMPE_INLINE Floats(FloatVector v) : v(v) {}
  RMPE_INLINE Floats(float x) : v(x - FloatVector{}) {}
  friend RMPE_INLINE Floats operator+(Floats a, Floats b) { return a.v + b.v; }
  friend RMPE_INLINE Floats operator-(Floats a, Floats b) { return a.v - b.v; }
  friend RMPE_INLINE Floats operator*(Floats a, Floats b) { return a.v * b.v; }
};

RMPE_INLINE Floats fused_multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
RMPE_INLINE Floats round_down(Floats x) { return _mm256_floor_ps(x.v); }

namespace simd {

RMPE_INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
RMPE_INLINE void store(float* to, Floats values) { _mm256_storeu_ps(to, values.v); }
RMPE_INLINE void store(int32_t* to, Indices values) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), values); }

// --- masks: registers whose lanes are all ones or all zeros ------------------------------------------------

RMPE_INLINE Floats first_lanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), lane));
}
// Lanes of x in [begin, end).
RMPE_INLINE Floats within(Floats x, Floats begin, Floats end) {
  return _mm256_and_ps(_mm256_cmp_ps(x.v, begin.v, _CMP_GE_OQ), _mm256_cmp_ps(x.v, end.v, _CMP_LT_OQ));
}
// Lanes of x in [begin, end), and NaN.
RMPE_INLINE Floats within_or_nan(Floats x, Floats begin, Floats end) {
  return _mm256_and_ps(_mm256_cmp_ps(x.v, begin.v, _CMP_NLT_UQ), _mm256_cmp_ps(x.v, end.v, _CMP_NGE_UQ));
}
RMPE_INLINE Floats both(Floats a, Floats b) { return _mm256_and_ps(a.v, b.v); }
RMPE_INLINE Floats select(Floats mask, Floats yes, Floats no) { return _mm256_blendv_ps(no.v, yes.v, mask.v); }
RMPE_INLINE int bits(Floats mask) { return _mm256_movemask_ps(mask.v); }  // lane 0 is the lowest bit
RMPE_INLINE Floats zero_for_nan(Floats x) { return _mm256_and_ps(x.v, _mm256_cmp_ps(x.v, x.v, _CMP_ORD_Q)); }

// Memory is touched only where the mask is set; other lanes load 0.
RMPE_INLINE Floats load(const float* from, Floats mask) {
  return _mm256_maskload_ps(from, _mm256_castps_si256(mask.v));
}
RMPE_INLINE void store(float* to, Floats values, Floats mask) {
  _mm256_maskstore_ps(to, _mm256_castps_si256(mask.v), values.v);
}
RMPE_INLINE Floats gather(const float* from, Indices offset, Floats mask) {
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), from, offset, mask.v, 4);
}

// --- indices ------------------------------------------------------------------------------------------------

RMPE_INLINE Indices to_indices(Floats whole) { return _mm256_cvttps_epi32(whole.v); }
// row * w + column
RMPE_INLINE Indices offsets(Indices row, Indices column, int32_t w) {
  return _mm256_add_epi32(_mm256_mullo_epi32(row, _mm256_set1_epi32(w)), column);
}
// Lanes in [0, last]. Compared as unsigned numbers, negative indices are too large.
RMPE_INLINE Indices up_to(Indices x, int32_t last) {
  return _mm256_cmpeq_epi32(_mm256_min_epu32(x, _mm256_set1_epi32(last)), x);
}
// Whether every lane of a is in [0, last_a], and every lane of b in [0, last_b].
RMPE_INLINE bool all_within(Indices a, int32_t last_a, Indices b, int32_t last_b) {
  return _mm256_movemask_epi8(_mm256_and_si256(up_to(a, last_a), up_to(b, last_b))) == -1;
}
RMPE_INLINE Indices lane_0(Indices x) { return _mm256_broadcastd_epi32(_mm256_castsi256_si128(x)); }
// Whether all rows are equal, and all columns are less than kLanes to the right of lane 0's.
RMPE_INLINE bool in_one_register(Indices row, Indices column) {
  const __m256i same = _mm256_cmpeq_epi32(row, lane_0(row));
  const __m256i near = up_to(_mm256_sub_epi32(column, lane_0(column)), kLanes - 1);
  return _mm256_movemask_epi8(_mm256_and_si256(same, near)) == -1;
}

// --- pairs of neighbours ------------------------------------------------------------------------------------

// The two adjacent values at each offset, for offsets that are in_one_register: two loads and two permutations.
RMPE_INLINE void pick_pairs(const float* from, const int32_t* offset, Floats (&to)[2]) {
  const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset));
  const __m256i lane = _mm256_sub_epi32(at, lane_0(at));
  to[0] = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + offset[0]), lane);
  to[1] = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + offset[0] + 1), lane);
}

RMPE_INLINE __m128 two_pairs(const float* a, const float* b) {
  const __m128 low = _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<const __m64*>(a));
  return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(b));
}
// The first value of each pair, and the second.
RMPE_INLINE void unzip(const __m128 (&pairs)[4], Floats (&to)[2]) {
  const __m256 even = _mm256_set_m128(pairs[2], pairs[0]), odd = _mm256_set_m128(pairs[3], pairs[1]);
  to[0] = _mm256_shuffle_ps(even, odd, 0x88);  // shuffles stay within a half
  to[1] = _mm256_shuffle_ps(even, odd, 0xdd);
}
// The two adjacent values at each offset of a row, and those of the row below it.
RMPE_INLINE void gather_squares(const float* row, const float* below, const int32_t* offset, Floats (&upper)[2],
                                Floats (&lower)[2]) {
  __m128 above_pairs[4], below_pairs[4];
  for (int i = 0; i < 4; ++i) {
    const int64_t a = offset[2 * i], b = offset[2 * i + 1];
    above_pairs[i] = two_pairs(row + a, row + b);
    below_pairs[i] = two_pairs(below + a, below + b);
  }
  unzip(above_pairs, upper);
  unzip(below_pairs, lower);
}

}  // namespace simd
}  // namespace rmpe
