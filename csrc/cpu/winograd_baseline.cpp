// Winograd's loops for any processor, one value at a time, and the transform of the weights.
#include "cpu/winograd.h"
#include "cpu/lanes_baseline.h"
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
