// Step 3 of d theta: its six sums. Cells are added one after another, as in the baseline, but the six terms of a
// cell together, and two images side by side, so that an addition waits only for the previous one of the same sum.
#pragma once
#include "cpu/kernels.h"
#include "simd.h"
#include "spatial_transformer.h"

namespace rmpe::vector {
namespace {

// [d row, d column] of blocks of cells of one image, and of another image at the same cells. A cell outside the image
// or the output has zeros, which change no sum.
using SlopesOfTwo = const float (*const (&)[2])[2];

class ThetaSums {
 public:
  RMPE_INLINE ThetaSums() {}  // written out: GCC 12 fails on the implicit one, at -O0
  // Adds `blocks` blocks of cells, from (s, t) on.
  RMPE_INLINE void add(const Warp<float>& warp, int64_t s, int64_t t, int64_t blocks, SlopesOfTwo slopes) {
    Sums sums = sums_;  // in registers: through memory, an addition would take twice as long
    if (warp.exact) {
      // A product of two floats is exact in double precision, so rounding it once is a float product.
      const __m256 rows = _mm256_set1_ps(static_cast<float>(warp.rows[s]));
      for (int64_t i = 0; i < kLanes * blocks; i += 4) {
        const __m256 columns = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(warp.columns_t + t + i));
        sums.add(two_cells(slopes, i), rows, _mm256_unpacklo_ps(columns, columns));
        sums.add(two_cells(slopes, i + 2), rows, _mm256_unpackhi_ps(columns, columns));
      }
    } else {
      for (int64_t i = 0; i < kLanes * blocks; i += 2) {
        sums.add(two_cells(slopes, i), warp.rows[s], warp.columns + t + i);
      }
    }
    sums_ = sums;
  }
  // Writes d theta of the first image, or of both.
  RMPE_INLINE void store(int images, float* d_theta) const {
    alignas(32) float products[8], slopes[8];
    _mm256_store_ps(products, sums_.products);
    _mm256_store_ps(slopes, sums_.slopes);
    for (int k = 0; k < 6 * images; ++k) {
      const int first = 4 * (k / 6), row = k % 6 / 3, column = k % 3;
      d_theta[k] = column == 2 ? slopes[first + row] : products[first + 2 * column + row];
    }
  }

 private:
  struct Sums {
    FloatVector products;  // d row u, d column u, d row v, d column v of the first image; then of the second
    FloatVector slopes;    // d row, d column, and two unused, of the first image; then of the second

    RMPE_INLINE Sums() : products{}, slopes{} {}
    RMPE_INLINE void add(__m256 cells, __m256 rows, __m256 columns) {
      const __m256d u = _mm256_castps_pd(cells * rows), v = _mm256_castps_pd(cells * columns);
      products += _mm256_castpd_ps(_mm256_unpacklo_pd(u, v));
      products += _mm256_castpd_ps(_mm256_unpackhi_pd(u, v));
      add_slopes(cells);
    }
    RMPE_INLINE void add(__m256 cells, double row, const double* columns) {
      const __m256 first = _mm256_permute_ps(cells, 0x44), second = _mm256_permute_ps(cells, 0xee);
      products += rounded(first, _mm256_setr_pd(row, row, columns[0], columns[0]));
      products += rounded(second, _mm256_setr_pd(row, row, columns[1], columns[1]));
      add_slopes(cells);
    }
    RMPE_INLINE void add_slopes(__m256 cells) {
      slopes += cells;
      slopes += _mm256_permute_ps(cells, 0xee);
    }
  };

  // d row and d column of cells i and i + 1 of the first image; then of the second.
  static RMPE_INLINE __m256 two_cells(SlopesOfTwo slopes, int64_t i) {
    return _mm256_set_m128(_mm_loadu_ps(slopes[1][i]), _mm_loadu_ps(slopes[0][i]));
  }
  // Products of both images in double precision, rounded once.
  static RMPE_INLINE __m256 rounded(__m256 slopes, __m256d at) {
    const __m256d first = _mm256_cvtps_pd(_mm256_castps256_ps128(slopes));
    const __m256d second = _mm256_cvtps_pd(_mm256_extractf128_ps(slopes, 1));
    return _mm256_set_m128(_mm256_cvtpd_ps(second * at), _mm256_cvtpd_ps(first * at));
  }

  Sums sums_;
};

}  // namespace
}  // namespace rmpe::vector
