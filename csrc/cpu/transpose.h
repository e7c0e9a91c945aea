// Planes to pixels that have the values of kChannels channels side by side, and back, with AVX2.
#pragma once
#include <cstdint>

#include "cpu/lanes.h"

namespace rmpe {
namespace {

// Four places, of as many channels as fit beside each other. What a channel has there is one part of a register: of
// channels 0 to 3, and, where there are eight, of 4 to 7 in the other half.
template <typename T, int kChannels>
struct Tile;

template <>
struct Tile<float, 4> {
  __m128 row[4];

  RMPE_INLINE void load_channel(int k, const float* from) { row[k] = _mm_loadu_ps(from); }
  RMPE_INLINE void store_channel(int k, float* to) const { _mm_storeu_ps(to, row[k]); }
  RMPE_INLINE void load_place(int i, const float* from) { row[i] = _mm_loadu_ps(from); }
  RMPE_INLINE void store_place(int i, float* to) const { _mm_storeu_ps(to, row[i]); }
  RMPE_INLINE void transpose() { _MM_TRANSPOSE4_PS(row[0], row[1], row[2], row[3]); }
};

template <>
struct Tile<float, 8> {
  __m256 row[4];

  RMPE_INLINE void load_channel(int k, const float* from) {
    const __m128 values = _mm_loadu_ps(from);
    row[k % 4] = k < 4 ? _mm256_castps128_ps256(values) : _mm256_insertf128_ps(row[k % 4], values, 1);
  }
  RMPE_INLINE void store_channel(int k, float* to) const {
    _mm_storeu_ps(to, k < 4 ? _mm256_castps256_ps128(row[k % 4]) : _mm256_extractf128_ps(row[k % 4], 1));
  }
  RMPE_INLINE void load_place(int i, const float* from) { row[i] = _mm256_loadu_ps(from); }
  RMPE_INLINE void store_place(int i, float* to) const { _mm256_storeu_ps(to, row[i]); }
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
struct Tile<double, 4> {
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
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    if (i % kLine == 0) {  // as many streams as there are channels are more than a processor foresees
      for (int k = 0; k < channels; ++k) _mm_prefetch(planes + k * plane + i + 8 * kLine, _MM_HINT_T0);
    }
    Tile<T, kChannels> tile = {};
#pragma GCC unroll 8
    for (int k = 0; k < kChannels; ++k) {
      if (k < channels) tile.load_channel(k, planes + k * plane + i);
    }
    tile.transpose();
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) tile.store_place(j, pixels + (i + j) * kChannels);
  }
  for (; i < count; ++i) {
    for (int k = 0; k < kChannels; ++k) pixels[i * kChannels + k] = k < channels ? planes[k * plane + i] : 0;
  }
}

// planes[k][i] = pixels[i][k]
template <int kChannels, typename T>
RMPE_INLINE void pixels_to_planes(const T* pixels, int64_t count, int channels, T* planes, int64_t plane) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    Tile<T, kChannels> tile;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) tile.load_place(j, pixels + (i + j) * kChannels);
    tile.transpose();
#pragma GCC unroll 8
    for (int k = 0; k < kChannels; ++k) {
      if (k < channels) tile.store_channel(k, planes + k * plane + i);
    }
  }
  for (; i < count; ++i) {
    for (int k = 0; k < channels; ++k) planes[k * plane + i] = pixels[i * kChannels + k];
  }
}

}  // namespace
}  // namespace rmpe
