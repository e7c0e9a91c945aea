// Several values in one AVX2 register. Each lane does what a single value would, so the bits are the same.
// Included below a #pragma GCC target, and nowhere else.
#pragma once
#include "numeric.h"

#define RMPE_LAMBDA __attribute__((always_inline))

namespace rmpe {

typedef float FloatVector __attribute__((vector_size(32)));
typedef double DoubleVector __attribute__((vector_size(32)));

// One register, as a value of the arithmetic in the operators' headers.
template <typename T, typename Vector>
struct Register {
  Vector v;

  Register() = default;
  RMPE_INLINE Register(Vector v) : v(v) {}
  RMPE_INLINE Register(T x) : v(x - Vector{}) {}
  friend RMPE_INLINE Register operator+(Register a, Register b) { return a.v + b.v; }
  friend RMPE_INLINE Register operator-(Register a, Register b) { return a.v - b.v; }
  friend RMPE_INLINE Register operator*(Register a, Register b) { return a.v * b.v; }
};
using Floats = Register<float, FloatVector>;
using Doubles = Register<double, DoubleVector>;

RMPE_INLINE Floats fused_multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
RMPE_INLINE Doubles fused_multiply_add(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a.v, b.v, c.v); }
RMPE_INLINE Floats round_down(Floats x) { return _mm256_floor_ps(x.v); }
RMPE_INLINE Doubles round_down(Doubles x) { return _mm256_floor_pd(x.v); }

// What differs between float and double. A mask is a register whose lanes are all ones or all zeros.
template <typename T>
struct Lanes;

template <>
struct Lanes<float> {
  using V = Floats;
  using Indices = __m256i;
  static constexpr int kCount = 8;

  static RMPE_INLINE V load(const float* from) { return _mm256_loadu_ps(from); }
  static RMPE_INLINE void store(float* to, V value) { _mm256_storeu_ps(to, value.v); }
  static RMPE_INLINE Indices to_indices(V whole) { return _mm256_cvttps_epi32(whole.v); }
  static RMPE_INLINE Indices offsets(Indices row, Indices column, int32_t w) {
    return _mm256_add_epi32(_mm256_mullo_epi32(row, _mm256_set1_epi32(w)), column);
  }
  static RMPE_INLINE void store(int32_t* to, Indices value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
  }
  // Whether all of a and b lie in [0, last_a] and [0, last_b]; as unsigned numbers, negative ones are too great.
  static RMPE_INLINE bool all_within(Indices a, int32_t last_a, Indices b, int32_t last_b) {
    const __m256i fits_a = _mm256_cmpeq_epi32(_mm256_min_epu32(a, _mm256_set1_epi32(last_a)), a);
    const __m256i fits_b = _mm256_cmpeq_epi32(_mm256_min_epu32(b, _mm256_set1_epi32(last_b)), b);
    return _mm256_movemask_epi8(_mm256_and_si256(fits_a, fits_b)) == -1;
  }

  // Whether all of a are the same, and all of b lie in [b0, b0 + kCount), the first lane's.
  static RMPE_INLINE bool side_by_side(Indices a, Indices b) {
    const __m256i same = _mm256_cmpeq_epi32(a, _mm256_broadcastd_epi32(_mm256_castsi256_si128(a)));
    const __m256i ahead = _mm256_sub_epi32(b, _mm256_broadcastd_epi32(_mm256_castsi256_si128(b)));
    const __m256i near = _mm256_cmpeq_epi32(_mm256_min_epu32(ahead, _mm256_set1_epi32(7)), ahead);
    return _mm256_movemask_epi8(_mm256_and_si256(same, near)) == -1;
  }
  // The two values that lie side by side at each offset, where the offsets are side_by_side: the first ones lie in one
  // register, the second ones in that from one value on.
  static RMPE_INLINE void pick_pairs(const float* from, const int32_t* offset, V (&to)[2]) {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset));
    const __m256i lane = _mm256_sub_epi32(at, _mm256_broadcastd_epi32(_mm256_castsi256_si128(at)));
    to[0] = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + offset[0]), lane);
    to[1] = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + offset[0] + 1), lane);
  }

  static RMPE_INLINE V zero_for_nan(V x) { return _mm256_and_ps(x.v, _mm256_cmp_ps(x.v, x.v, _CMP_ORD_Q)); }
  static RMPE_INLINE V within(V x, V begin, V end) {
    return _mm256_and_ps(_mm256_cmp_ps(x.v, begin.v, _CMP_GE_OQ), _mm256_cmp_ps(x.v, end.v, _CMP_LT_OQ));
  }
  // Lanes of x that lie in [begin, end), or are no number.
  static RMPE_INLINE V perhaps_within(V x, V begin, V end) {
    return _mm256_and_ps(_mm256_cmp_ps(x.v, begin.v, _CMP_NLT_UQ), _mm256_cmp_ps(x.v, end.v, _CMP_NGE_UQ));
  }
  static RMPE_INLINE V both(V a, V b) { return _mm256_and_ps(a.v, b.v); }
  static RMPE_INLINE V choose(V mask, V yes, V no) { return _mm256_blendv_ps(no.v, yes.v, mask.v); }
  static RMPE_INLINE int bits(V mask) { return _mm256_movemask_ps(mask.v); }
  static RMPE_INLINE V first(int64_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), lane));
  }
  static RMPE_INLINE V load(const float* from, V mask) { return _mm256_maskload_ps(from, _mm256_castps_si256(mask.v)); }
  static RMPE_INLINE void store(float* to, V value, V mask) {
    _mm256_maskstore_ps(to, _mm256_castps_si256(mask.v), value.v);
  }
  // Memory is read where the mask is set; 0 elsewhere.
  static RMPE_INLINE V gather(const float* from, Indices offset, V mask) {
    return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), from, offset, mask.v, 4);
  }

  // The two values that lie side by side at each offset of a row, and of the row below.
  static RMPE_INLINE void gather_squares(const float* row, const float* below, const int32_t* offset, V (&first)[2],
                                         V (&second)[2]) {
    __m128 upper[4], lower[4];  // two offsets each
    for (int i = 0; i < 4; ++i) {
      const int64_t a = offset[2 * i], b = offset[2 * i + 1];
      upper[i] = two_pairs(row + a, row + b);
      lower[i] = two_pairs(below + a, below + b);
    }
    unzip(upper, first);
    unzip(lower, second);
  }

 private:
  static RMPE_INLINE __m128 two_pairs(const float* a, const float* b) {
    const __m128 low = _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<const __m64*>(a));
    return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(b));
  }
  // The pairs' first values and their second ones.
  static RMPE_INLINE void unzip(const __m128 (&pairs)[4], V (&to)[2]) {
    const __m256 even = _mm256_set_m128(pairs[2], pairs[0]), odd = _mm256_set_m128(pairs[3], pairs[1]);
    to[0] = _mm256_shuffle_ps(even, odd, 0x88);  // shuffles stay within a half
    to[1] = _mm256_shuffle_ps(even, odd, 0xdd);
  }
};

template <>
struct Lanes<double> {
  using V = Doubles;
  using Indices = __m128i;
  static constexpr int kCount = 4;

  static RMPE_INLINE V load(const double* from) { return _mm256_loadu_pd(from); }
  static RMPE_INLINE void store(double* to, V value) { _mm256_storeu_pd(to, value.v); }
  static RMPE_INLINE Indices to_indices(V whole) { return _mm256_cvttpd_epi32(whole.v); }
  static RMPE_INLINE Indices offsets(Indices row, Indices column, int32_t w) {
    return _mm_add_epi32(_mm_mullo_epi32(row, _mm_set1_epi32(w)), column);
  }
  static RMPE_INLINE void store(int32_t* to, Indices value) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value); }
  static RMPE_INLINE bool all_within(Indices a, int32_t last_a, Indices b, int32_t last_b) {
    const __m128i fits_a = _mm_cmpeq_epi32(_mm_min_epu32(a, _mm_set1_epi32(last_a)), a);
    const __m128i fits_b = _mm_cmpeq_epi32(_mm_min_epu32(b, _mm_set1_epi32(last_b)), b);
    return _mm_movemask_epi8(_mm_and_si128(fits_a, fits_b)) == 0xffff;
  }

  static RMPE_INLINE bool side_by_side(Indices a, Indices b) {
    const __m128i same = _mm_cmpeq_epi32(a, _mm_broadcastd_epi32(a));
    const __m128i ahead = _mm_sub_epi32(b, _mm_broadcastd_epi32(b));
    const __m128i near = _mm_cmpeq_epi32(_mm_min_epu32(ahead, _mm_set1_epi32(3)), ahead);
    return _mm_movemask_epi8(_mm_and_si128(same, near)) == 0xffff;
  }
  static RMPE_INLINE void pick_pairs(const double* from, const int32_t* offset, V (&to)[2]) {
    const __m128i at = _mm_loadu_si128(reinterpret_cast<const __m128i*>(offset));
    const __m128i lane = _mm_sub_epi32(at, _mm_broadcastd_epi32(at));
    const __m128i half = _mm_add_epi32(lane, lane);  // a double is two halves to a permutation
    const __m256i halves = _mm256_set_m128i(_mm_unpackhi_epi32(half, _mm_add_epi32(half, _mm_set1_epi32(1))),
                                            _mm_unpacklo_epi32(half, _mm_add_epi32(half, _mm_set1_epi32(1))));
    const __m256 here = _mm256_castpd_ps(_mm256_loadu_pd(from + offset[0]));
    const __m256 next = _mm256_castpd_ps(_mm256_loadu_pd(from + offset[0] + 1));
    to[0] = _mm256_castps_pd(_mm256_permutevar8x32_ps(here, halves));
    to[1] = _mm256_castps_pd(_mm256_permutevar8x32_ps(next, halves));
  }

  static RMPE_INLINE V zero_for_nan(V x) { return _mm256_and_pd(x.v, _mm256_cmp_pd(x.v, x.v, _CMP_ORD_Q)); }
  static RMPE_INLINE V within(V x, V begin, V end) {
    return _mm256_and_pd(_mm256_cmp_pd(x.v, begin.v, _CMP_GE_OQ), _mm256_cmp_pd(x.v, end.v, _CMP_LT_OQ));
  }
  static RMPE_INLINE V perhaps_within(V x, V begin, V end) {
    return _mm256_and_pd(_mm256_cmp_pd(x.v, begin.v, _CMP_NLT_UQ), _mm256_cmp_pd(x.v, end.v, _CMP_NGE_UQ));
  }
  static RMPE_INLINE V both(V a, V b) { return _mm256_and_pd(a.v, b.v); }
  static RMPE_INLINE V choose(V mask, V yes, V no) { return _mm256_blendv_pd(no.v, yes.v, mask.v); }
  static RMPE_INLINE int bits(V mask) { return _mm256_movemask_pd(mask.v); }
  static RMPE_INLINE V first(int64_t count) {
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_castsi256_pd(_mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane));
  }
  static RMPE_INLINE V load(const double* from, V mask) {
    return _mm256_maskload_pd(from, _mm256_castpd_si256(mask.v));
  }
  static RMPE_INLINE void store(double* to, V value, V mask) {
    _mm256_maskstore_pd(to, _mm256_castpd_si256(mask.v), value.v);
  }
  static RMPE_INLINE V gather(const double* from, Indices offset, V mask) {
    return _mm256_mask_i32gather_pd(_mm256_setzero_pd(), from, offset, mask.v, 8);
  }

  static RMPE_INLINE void gather_squares(const double* row, const double* below, const int32_t* offset, V (&first)[2],
                                         V (&second)[2]) {
    gather_pairs(row, offset, first);
    gather_pairs(below, offset, second);
  }

 private:
  static RMPE_INLINE void gather_pairs(const double* from, const int32_t* offset, V (&to)[2]) {
    const __m256d ac = _mm256_set_m128d(_mm_loadu_pd(from + offset[2]), _mm_loadu_pd(from + offset[0]));
    const __m256d bd = _mm256_set_m128d(_mm_loadu_pd(from + offset[3]), _mm_loadu_pd(from + offset[1]));
    to[0] = _mm256_unpacklo_pd(ac, bd);
    to[1] = _mm256_unpackhi_pd(ac, bd);
  }
};

}  // namespace rmpe
