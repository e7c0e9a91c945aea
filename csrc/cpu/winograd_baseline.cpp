// Winograd's loops for any processor, one value at a time, and the transform of the weights.
#include "cpu/winograd.h"
#include "numeric.h"

namespace rmpe {
namespace {

struct Lanes {
  using Vector = float;
  static constexpr int kCount = 1, kRows = 2, kBlocks = 1;

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
};

}  // namespace
}  // namespace rmpe
#include "cpu/winograd_loops.h"

namespace rmpe {
namespace {

// Three weights -> their transform.
void transform_weight(const double (&g)[3], double (&to)[kTile]) {
  const double points[] = {0, kA, -kA, kB, -kB};
  for (int i = 0; i < kTile - 1; ++i) {
    const double p = points[i];
    double divisor = 1;
    for (const double other : points) divisor *= other == p ? 1 : p - other;
    to[i] = (g[0] + p * (g[1] + p * g[2])) / divisor;
  }
  to[kTile - 1] = g[2];
}

}  // namespace

void winograd_baseline(const Winograd& conv, int64_t begin, int64_t end, float* scratch) {
  compute_tiles(conv, begin, end, scratch);
}

void winograd_weight(const float* weight, int64_t outputs, int64_t channels, float* transformed) {
  const int64_t point = blocks(outputs) * channels * kBlock;
  for (int64_t k = 0; k < blocks(outputs) * kBlock; ++k) {
    for (int64_t c = 0; c < channels; ++c) {
      double half[3][kTile] = {};
      for (int i = 0; i < 3 && k < outputs; ++i) {
        const float* row = weight + ((k * channels + c) * 3 + i) * 3;
        transform_weight({row[0], row[1], row[2]}, half[i]);
      }
      float* to = transformed + (k / kBlock * channels + c) * kBlock + k % kBlock;
      for (int j = 0; j < kTile; ++j) {
        double made[kTile];
        transform_weight({half[0][j], half[1][j], half[2][j]}, made);
        for (int i = 0; i < kTile; ++i) to[(i * kTile + j) * point] = static_cast<float>(made[i]);
      }
    }
  }
}

}  // namespace rmpe
