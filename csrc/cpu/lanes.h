// What the CPU loops compute with: one value at a time (on any machine), or as many as an AVX2 register holds.
// Each lane does what a single value would, so the bits do not depend on the choice.
#pragma once
#include "numeric.h"

namespace rmpe {

template <typename T>
struct ScalarLanes {
  using Type = T;
  using Value = T;
  using Double = double;  // as many doubles as Value has lanes
  static constexpr int kCount = 1, kAll = 1;

  static RMPE_INLINE T load(const T* from) { return *from; }
  static RMPE_INLINE void store(T* to, T value) { *to = value; }
  static RMPE_INLINE double load_double(const double* from) { return *from; }
  // Lanes that lie in [begin, end), and those that lie outside it (NaN does neither), as bits.
  static RMPE_INLINE int within(T x, T begin, T end) { return x >= begin && x < end; }
  static RMPE_INLINE int outside(T x, T begin, T end) { return x < begin || x >= end; }
  // row * w + column, of whole numbers
  static RMPE_INLINE void offsets(int32_t* to, T row, T column, int32_t w) {
    *to = static_cast<int32_t>(row) * w + static_cast<int32_t>(column);
  }
  // The two values that lie side by side at each offset.
  static RMPE_INLINE void gather(const T* from, const int32_t* offset, T& first, T& second) {
    first = from[*offset];
    second = from[*offset + 1];
  }
  // Adds each lane of six terms to six sums (of eight), first lane first.
  static RMPE_INLINE void add_in_turn(T* sum, const T* term) {
    for (int k = 0; k < 6; ++k) sum[k] += term[k];
  }
};

#ifdef RMPE_AVX2  // set by a file that is compiled for it

typedef float FloatVector __attribute__((vector_size(32)));
typedef double DoubleVector __attribute__((vector_size(32)));

// One register of values of type T, as a value.
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

struct EightDoubles {
  Doubles low, high;
  EightDoubles() = default;
  RMPE_INLINE EightDoubles(double x) : low(x), high(x) {}
};

RMPE_INLINE Doubles theta_term(Doubles slope, Doubles at) { return slope * at; }
RMPE_INLINE Floats theta_term(Floats slope, const EightDoubles& at) {
  const Doubles low = theta_term(_mm256_cvtps_pd(_mm256_castps256_ps128(slope.v)), at.low);
  const Doubles high = theta_term(_mm256_cvtps_pd(_mm256_extractf128_ps(slope.v, 1)), at.high);
  return _mm256_set_m128(_mm256_cvtpd_ps(high.v), _mm256_cvtpd_ps(low.v));
}

template <typename T>
struct Avx2Lanes;

template <>
struct Avx2Lanes<float> {
  using Type = float;
  using Value = Floats;
  using Double = EightDoubles;
  static constexpr int kCount = 8, kAll = 0xff;

  static RMPE_INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static RMPE_INLINE void store(float* to, Floats value) { _mm256_storeu_ps(to, value.v); }
  static RMPE_INLINE EightDoubles load_double(const double* from) {
    EightDoubles x;
    x.low = _mm256_loadu_pd(from);
    x.high = _mm256_loadu_pd(from + 4);
    return x;
  }
  static RMPE_INLINE int within(Floats x, Floats begin, Floats end) {
    return _mm256_movemask_ps(_mm256_and_ps(_mm256_cmp_ps(x.v, begin.v, _CMP_GE_OQ),
                                             _mm256_cmp_ps(x.v, end.v, _CMP_LT_OQ)));
  }
  static RMPE_INLINE int outside(Floats x, Floats begin, Floats end) {
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(x.v, begin.v, _CMP_LT_OQ),
                                            _mm256_cmp_ps(x.v, end.v, _CMP_GE_OQ)));
  }
  static RMPE_INLINE void offsets(int32_t* to, Floats row, Floats column, int32_t w) {
    const __m256i start = _mm256_mullo_epi32(_mm256_cvttps_epi32(row.v), _mm256_set1_epi32(w));
    const __m256i offset = _mm256_add_epi32(start, _mm256_cvttps_epi32(column.v));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), offset);
  }
  static RMPE_INLINE __m128 two_pairs(const float* a, const float* b) {
    double low, high;  // two floats travel as one double
    __builtin_memcpy(&low, a, sizeof low);
    __builtin_memcpy(&high, b, sizeof high);
    return _mm_castpd_ps(_mm_set_pd(high, low));
  }
  static RMPE_INLINE void gather(const float* from, const int32_t* offset, Floats& first, Floats& second) {
    const __m128 ab = two_pairs(from + offset[0], from + offset[1]), cd = two_pairs(from + offset[2], from + offset[3]);
    const __m128 ef = two_pairs(from + offset[4], from + offset[5]), gh = two_pairs(from + offset[6], from + offset[7]);
    const __m256 even = _mm256_set_m128(ef, ab), odd = _mm256_set_m128(gh, cd);  // shuffles stay within a half
    first = _mm256_shuffle_ps(even, odd, 0x88);
    second = _mm256_shuffle_ps(even, odd, 0xdd);
  }
  static RMPE_INLINE void add_in_turn(float* sum, const Floats* term) {
    // Transposed: register i has lane i of every term. Pairs of lanes, then fours, then halves.
    __m256 pair[8], four[8];
    for (int k = 0; k < 3; ++k) {
      pair[2 * k] = _mm256_unpacklo_ps(term[2 * k].v, term[2 * k + 1].v);
      pair[2 * k + 1] = _mm256_unpackhi_ps(term[2 * k].v, term[2 * k + 1].v);
    }
    const __m256 none = _mm256_setzero_ps();
    for (int k = 0; k < 2; ++k) {
      four[2 * k] = _mm256_shuffle_ps(pair[k], pair[2 + k], 0x44);
      four[2 * k + 1] = _mm256_shuffle_ps(pair[k], pair[2 + k], 0xee);
      four[4 + 2 * k] = _mm256_shuffle_ps(pair[4 + k], none, 0x44);
      four[4 + 2 * k + 1] = _mm256_shuffle_ps(pair[4 + k], none, 0xee);
    }
    Floats total = load(sum);
    for (int i = 0; i < 4; ++i) total = total + Floats(_mm256_permute2f128_ps(four[i], four[4 + i], 0x20));
    for (int i = 0; i < 4; ++i) total = total + Floats(_mm256_permute2f128_ps(four[i], four[4 + i], 0x31));
    store(sum, total);
  }
};

template <>
struct Avx2Lanes<double> {
  using Type = double;
  using Value = Doubles;
  using Double = Doubles;
  static constexpr int kCount = 4, kAll = 0xf;

  static RMPE_INLINE Doubles load(const double* from) { return _mm256_loadu_pd(from); }
  static RMPE_INLINE void store(double* to, Doubles value) { _mm256_storeu_pd(to, value.v); }
  static RMPE_INLINE Doubles load_double(const double* from) { return _mm256_loadu_pd(from); }
  static RMPE_INLINE int within(Doubles x, Doubles begin, Doubles end) {
    return _mm256_movemask_pd(_mm256_and_pd(_mm256_cmp_pd(x.v, begin.v, _CMP_GE_OQ),
                                             _mm256_cmp_pd(x.v, end.v, _CMP_LT_OQ)));
  }
  static RMPE_INLINE int outside(Doubles x, Doubles begin, Doubles end) {
    return _mm256_movemask_pd(_mm256_or_pd(_mm256_cmp_pd(x.v, begin.v, _CMP_LT_OQ),
                                            _mm256_cmp_pd(x.v, end.v, _CMP_GE_OQ)));
  }
  static RMPE_INLINE void offsets(int32_t* to, Doubles row, Doubles column, int32_t w) {
    const __m128i start = _mm_mullo_epi32(_mm256_cvttpd_epi32(row.v), _mm_set1_epi32(w));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_add_epi32(start, _mm256_cvttpd_epi32(column.v)));
  }
  static RMPE_INLINE void gather(const double* from, const int32_t* offset, Doubles& first, Doubles& second) {
    const __m256d ac = _mm256_set_m128d(_mm_loadu_pd(from + offset[2]), _mm_loadu_pd(from + offset[0]));
    const __m256d bd = _mm256_set_m128d(_mm_loadu_pd(from + offset[3]), _mm_loadu_pd(from + offset[1]));
    first = _mm256_unpacklo_pd(ac, bd);
    second = _mm256_unpackhi_pd(ac, bd);
  }
  static RMPE_INLINE void add_in_turn(double* sum, const Doubles* term) {
    double lane[6][4];
    for (int k = 0; k < 6; ++k) store(lane[k], term[k]);
    for (int i = 0; i < 4; ++i) {
      for (int k = 0; k < 6; ++k) sum[k] += lane[k][i];
    }
  }
};

#endif

}  // namespace rmpe
