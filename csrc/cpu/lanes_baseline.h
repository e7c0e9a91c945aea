// One float at a time, for any processor, with the same bits as the vectors of the other lanes_*.h.
#pragma once
#include "numeric.h"

namespace rmpe {
namespace {

struct Lanes {
  using Vector = float;
  static constexpr int kCount = 1;
  static constexpr int kRows = 2, kBlocks = 1;   // how many sums Winograd's products keep at a time
  static constexpr int kPixels = 2, kWide = 1;  // and those of a small network

  static RMPE_INLINE Vector load(const float* from) { return *from; }
  static RMPE_INLINE Vector load(const float* from, int64_t count) { return count > 0 ? *from : 0; }
  static RMPE_INLINE void store(float* to, Vector x) { *to = x; }
  static RMPE_INLINE void store(float* to, Vector x, int64_t count) { if (count > 0) *to = x; }
  static RMPE_INLINE Vector broadcast(float x) { return x; }
  static RMPE_INLINE Vector plus(Vector x, Vector y) { return x + y; }
  static RMPE_INLINE Vector minus(Vector x, Vector y) { return x - y; }
  static RMPE_INLINE Vector times(Vector x, Vector y) { return x * y; }
  static RMPE_INLINE Vector madd(Vector x, Vector y, Vector z) { return fused_multiply_add(x, y, z); }
  // max(x, 0), and NaN for NaN.
  static RMPE_INLINE Vector positive(Vector x) { return 0 > x ? 0 : x; }
  // x where it is above 0, else y.
  static RMPE_INLINE Vector if_positive(Vector x, Vector y) { return x > 0 ? x : y; }
  // max(x, y), and NaN if one of them is.
  static RMPE_INLINE Vector larger(Vector x, Vector y) { return y > x || y != y ? y : x; }
};

}  // namespace
}  // namespace rmpe
