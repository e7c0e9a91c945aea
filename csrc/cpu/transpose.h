// Planes to pixels that have the values of kChannels channels side by side, and back, with AVX2.
#pragma once
#include <cstdint>

#include "cpu/lanes.h"

namespace rmpe {
namespace {

// Four channels of as many places as a register holds. Place i of all channels is a part of a register: half a float
// register, a whole double one.
template <typename T>
struct Tile;

template <>
struct Tile<float> {
  static constexpr int kPlaces = 8;
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

template <>
struct Tile<double> {
  static constexpr int kPlaces = 4;
  __m256d row[4];

  RMPE_INLINE void load_channel(int k, const double* from) { row[k] = _mm256_loadu_pd(from); }
  RMPE_INLINE void store_channel(int k, double* to) const { _mm256_storeu_pd(to, row[k]); }
  RMPE_INLINE void load_place(int i, const double* from) { row[i] = _mm256_loadu_pd(from); }
  RMPE_INLINE void store_place(int i, double* to) const { _mm256_storeu_pd(to, row[i]); }
  RMPE_INLINE void transpose() {
    const __m256d a = _mm256_unpacklo_pd(row[0], row[1]), b = _mm256_unpackhi_pd(row[0], row[1]);
    const __m256d c = _mm256_unpacklo_pd(row[2], row[3]), d = _mm256_unpackhi_pd(row[2], row[3]);
    row[0] = _mm256_permute2f128_pd(a, c, 0x20);
    row[1] = _mm256_permute2f128_pd(b, d, 0x20);
    row[2] = _mm256_permute2f128_pd(a, c, 0x31);
    row[3] = _mm256_permute2f128_pd(b, d, 0x31);
  }
};

// pixels[i][k] = planes[k][i] for `count` places i and `channels` channels k; 0 for the rest of kChannels.
// A plane begins `plane` values behind the one before.
template <int kChannels, typename T>
RMPE_INLINE void planes_to_pixels(const T* planes, int64_t plane, int channels, int64_t count, T* pixels) {
  constexpr int64_t kLine = 64 / sizeof(T);
  constexpr int kPlaces = Tile<T>::kPlaces;
  int64_t i = 0;
  for (; i + kPlaces <= count; i += kPlaces) {
    if (i % kLine == 0) {  // as many streams as there are channels are more than a processor foresees
      for (int k = 0; k < channels; ++k) _mm_prefetch(planes + k * plane + i + 8 * kLine, _MM_HINT_T0);
    }
#pragma GCC unroll 2
    for (int first = 0; first < kChannels; first += 4) {
      Tile<T> tile = {};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (first + k < channels) tile.load_channel(k, planes + (first + k) * plane + i);
      }
      tile.transpose();
#pragma GCC unroll 8
      for (int j = 0; j < kPlaces; ++j) tile.store_place(j, pixels + (i + j) * kChannels + first);
    }
  }
  for (; i < count; ++i) {
    for (int k = 0; k < kChannels; ++k) pixels[i * kChannels + k] = k < channels ? planes[k * plane + i] : 0;
  }
}

// planes[k][i] = pixels[i][k]
template <int kChannels, typename T>
RMPE_INLINE void pixels_to_planes(const T* pixels, int64_t count, int channels, T* planes, int64_t plane) {
  constexpr int kPlaces = Tile<T>::kPlaces;
  int64_t i = 0;
  for (; i + kPlaces <= count; i += kPlaces) {
#pragma GCC unroll 2
    for (int first = 0; first < kChannels; first += 4) {
      Tile<T> tile;
#pragma GCC unroll 8
      for (int j = 0; j < kPlaces; ++j) tile.load_place(j, pixels + (i + j) * kChannels + first);
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
}  // namespace rmpe
