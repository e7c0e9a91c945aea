// The six sums of d theta, with AVX2. Cells are added one after the other, all six terms of one at once, and those of
// two images side by side: an addition waits for the one before it, but not for another image's.
#pragma once
#include "cpu/kernels.h"
#include "cpu/lanes.h"
#include "spatial_transformer.h"

namespace rmpe {
namespace {

template <typename T>
class ThetaSums;

// [d row, d column] of blocks of cells: those of one image, and those of another at the same cells. Of a cell outside
// the image or the output they are zeros, which change no sum.
template <typename T>
using SlopesOfTwo = const T (*const (&)[2])[2];

template <>
class ThetaSums<float> {
 public:
  // Adds `blocks` blocks of cells from (s, t) on.
  RMPE_INLINE void add(const Warp<float>& warp, int64_t s, int64_t t, int64_t blocks, SlopesOfTwo<float> slopes) {
    __m256 products = products_, sums = slopes_;
    if (warp.exact) {
      // A product of two floats is exact in double precision: rounding it once is what a float product does.
      const __m256 rows = _mm256_set1_ps(static_cast<float>(warp.rows[s]));
#pragma GCC unroll 4
      for (int64_t i = 0; i < 8 * blocks; ++i) {
        const __m256 at = _mm256_blend_ps(rows, _mm256_broadcast_ss(warp.columns_t + t + i), 0xcc);
        const __m256 both = of_two(slopes, i);
        products = _mm256_add_ps(products, _mm256_mul_ps(both, at));
        sums = _mm256_add_ps(sums, both);
      }
    } else {
      const __m256d rows = _mm256_set1_pd(warp.rows[s]);
      for (int64_t i = 0; i < 8 * blocks; ++i) {
        const __m256d at = _mm256_blend_pd(rows, _mm256_broadcast_sd(warp.columns + t + i), 0xc);
        const __m256 both = of_two(slopes, i);
        const __m128 first = product(_mm256_castps256_ps128(both), at);
        const __m128 second = product(_mm256_extractf128_ps(both, 1), at);
        products = _mm256_add_ps(products, _mm256_set_m128(second, first));
        sums = _mm256_add_ps(sums, both);
      }
    }
    products_ = products;
    slopes_ = sums;
  }
  // d theta of the first image, or of both.
  RMPE_INLINE void store(int images, float* d_theta) const {
    alignas(32) float products[8], slopes[8];
    _mm256_store_ps(products, products_);
    _mm256_store_ps(slopes, slopes_);
    for (int k = 0; k < 6 * images; ++k) {
      const int first = 4 * (k / 6), row = k % 6 / 3, column = k % 3;
      d_theta[k] = column == 2 ? slopes[first + row] : products[first + 2 * column + row];
    }
  }

 private:
  // d row, d column, d row, d column of cell i of the first image; of the second.
  static RMPE_INLINE __m256 of_two(SlopesOfTwo<float> slopes, int64_t i) {
    const __m256d first = _mm256_broadcast_sd(reinterpret_cast<const double*>(slopes[0][i]));
    const __m256d second = _mm256_broadcast_sd(reinterpret_cast<const double*>(slopes[1][i]));
    return _mm256_castpd_ps(_mm256_blend_pd(first, second, 0xc));
  }
  static RMPE_INLINE __m128 product(__m128 slope, __m256d at) { return _mm256_cvtpd_ps(_mm256_cvtps_pd(slope) * at); }

  FloatVector products_ = {};  // d row u, d column u, d row v, d column v of the first image; of the second
  FloatVector slopes_ = {};    // d row, d column, d row, d column of the first image; of the second
};

template <>
class ThetaSums<double> {
 public:
  RMPE_INLINE void add(const Warp<double>& warp, int64_t s, int64_t t, int64_t blocks, SlopesOfTwo<double> slopes) {
    const __m256d rows = _mm256_set1_pd(warp.rows[s]);
    for (int64_t i = 0; i < 4 * blocks; ++i) {
      const __m256d at = _mm256_blend_pd(rows, _mm256_broadcast_sd(warp.columns + t + i), 0xc);
      for (int j = 0; j < 2; ++j) {
        const __m128d slope = _mm_loadu_pd(slopes[j][i]);
        products_[j] += _mm256_set_m128d(slope, slope) * at;
        slopes_[j] += slope;
      }
    }
  }
  RMPE_INLINE void store(int images, double* d_theta) const {
    alignas(32) double products[2][4], slopes[2][2];
    for (int j = 0; j < 2; ++j) {
      _mm256_store_pd(products[j], products_[j]);
      _mm_store_pd(slopes[j], slopes_[j]);
    }
    for (int k = 0; k < 6 * images; ++k) {
      const int image = k / 6, row = k % 6 / 3, column = k % 3;
      d_theta[k] = column == 2 ? slopes[image][row] : products[image][2 * column + row];
    }
  }

 private:
  DoubleVector products_[2] = {};  // of an image: d row u, d column u, d row v, d column v
  __m128d slopes_[2] = {};         // d row, d column
};

}  // namespace
}  // namespace rmpe
