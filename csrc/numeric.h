// Arithmetic shared by the operators' headers, with the same bits on host and device whatever the compiler flags.
#pragma once
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define RMPE_HOST_DEVICE __host__ __device__
#else
#define RMPE_HOST_DEVICE
#endif
// Always inlined: a file compiled for AVX must not contain a copy that the linker could pick for other files.
#define RMPE_INLINE RMPE_HOST_DEVICE inline __attribute__((always_inline))

namespace rmpe {

// a * b + c rounded once. Explicit, so that no compiler flag changes the number of roundings.
RMPE_INLINE float fused_multiply_add(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
RMPE_INLINE double fused_multiply_add(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}
RMPE_INLINE float round_down(float x) { return floorf(x); }
RMPE_INLINE double round_down(double x) { return floor(x); }

// A constant as a value of type V. V is float, double, or (simd.h) several of them.
template <typename V>
RMPE_INLINE V splat(double x) {
  return static_cast<V>(x);
}

// a * b + c, rounded once (kFused) or twice.
template <bool kFused, typename V>
RMPE_INLINE V multiply_add(V a, V b, V c) {
  if constexpr (kFused) {
    return fused_multiply_add(a, b, c);
  } else {
    return a * b + c;
  }
}

// A whole number as an index, as the GPU converts it: saturated, and 0 for NaN.
// Floats saturate at the largest one that fits in an int32; no image has a side that long.
RMPE_INLINE int32_t to_index(float whole) {
  if (!(whole == whole)) return 0;
  if (whole < -2147483648.0f) return INT32_MIN;
  return whole > 2147483520.0f ? 2147483520 : static_cast<int32_t>(whole);
}
RMPE_INLINE int32_t to_index(double whole) {
  if (!(whole == whole)) return 0;
  if (whole < -2147483648.0) return INT32_MIN;
  return whole > 2147483647.0 ? INT32_MAX : static_cast<int32_t>(whole);
}

}  // namespace rmpe
