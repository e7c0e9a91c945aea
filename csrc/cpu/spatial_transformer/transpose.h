// Conversion between planes, one channel after another, and pixels, with kChannels channels side by side.
#pragma once
#include "cpu/kernels.h"
#include "simd.h"

namespace rmpe::vector {
namespace {

// Four channels of kLanes places. Before the transposition a register holds one channel; afterwards, the four channels
// of one place in each half.
struct Tile {
  __m256 row[4];

  RMPE_INLINE void load_channel(int k, const float* from) { row[k] = _mm256_loadu_ps(from); }
  RMPE_INLINE void store_channel(int k, float* to) const { _mm256_storeu_ps(to, row[k]); }
  RMPE_INLINE void load_place(int i, const float* from) {
    const __m128 values = _mm_loadu_ps(from);
    row[i % 4] = i < 4 ? _mm256_castps128_ps256(values) : _mm256_insertf128_ps(row[i % 4], values, 1);
  }
  RMPE_INLINE void store_place(int i, float* to) const {
    _mm_storeu_ps(to, i < 4 ? _mm256_castps256_ps128(row[i % 4]) : _mm256_extractf128_ps(row[i % 4], 1));
  }
  RMPE_INLINE void transpose() {
    const __m256 a = _mm256_unpacklo_ps(row[0], row[1]), b = _mm256_unpackhi_ps(row[0], row[1]);
    const __m256 c = _mm256_unpacklo_ps(row[2], row[3]), d = _mm256_unpackhi_ps(row[2], row[3]);
    row[0] = _mm256_shuffle_ps(a, c, 0x44);
    row[1] = _mm256_shuffle_ps(a, c, 0xee);
    row[2] = _mm256_shuffle_ps(b, d, 0x44);
    row[3] = _mm256_shuffle_ps(b, d, 0xee);
  }
};

// pixels[i][k] = planes[k][i] for `count` places i and `channels` channels k; 0 for the other channels.
// `plane`: the distance from one plane to the next.
template <int kChannels>
RMPE_INLINE void planes_to_pixels(const float* planes, int64_t plane, int channels, int64_t count, float* pixels) {
  constexpr int64_t kLine = 64 / sizeof(float);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    if (i % kLine == 0) {  // there are more channels than the hardware prefetcher can follow
      for (int k = 0; k < channels; ++k) _mm_prefetch(planes + k * plane + i + 8 * kLine, _MM_HINT_T0);
    }
#pragma GCC unroll 2
    for (int first = 0; first < kChannels; first += 4) {
      Tile tile = {};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (first + k < channels) tile.load_channel(k, planes + (first + k) * plane + i);
      }
      tile.transpose();
#pragma GCC unroll 8
      for (int j = 0; j < kLanes; ++j) tile.store_place(j, pixels + (i + j) * kChannels + first);
    }
  }
  for (; i < count; ++i) {
    for (int k = 0; k < kChannels; ++k) pixels[i * kChannels + k] = k < channels ? planes[k * plane + i] : 0;
  }
}

// planes[k][i] = pixels[i][k]
template <int kChannels>
RMPE_INLINE void pixels_to_planes(const float* pixels, int64_t count, int channels, float* planes, int64_t plane) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma GCC unroll 2
    for (int first = 0; first < kChannels; first += 4) {
      Tile tile;
#pragma GCC unroll 8
      for (int j = 0; j < kLanes; ++j) tile.load_place(j, pixels + (i + j) * kChannels + first);
      tile.transpose();
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (first + k < channels) tile.store_channel(k, planes + (first + k) * plane + i);
      }
    }
  }
  for (; i < count; ++i) {
    for (int k = 0; k < channels; ++k) planes[k * plane + i] = pixels[i * kChannels + k];
  }
}

}  // namespace
}  // namespace rmpe::vector
