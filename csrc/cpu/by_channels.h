// The spatial transformer's loops with AVX2, a lane a channel: where a point lies is found once for all of them, and a
// neighbour is one load. For this the image is rearranged in scratch memory, its pixels one after the other, each with
// the values of all channels of the group.
#pragma once
#include "cpu/stretch.h"
#include "cpu/theta_sums.h"
#include "cpu/transpose.h"

namespace rmpe {
namespace {

// The four neighbours of a cell, in the order of the output's sum: where they lie, and whether inside the image.
template <typename T>
class AllInside {
 public:
  RMPE_INLINE AllInside(const Stretch<T>& stretch, int /*block*/, const Warp<T>& warp)
      : stretch_(stretch), w_(static_cast<int32_t>(warp.w)) {}
  RMPE_INLINE int32_t offset(int i, int k) const { return stretch_.offset[i] + (k % 2 ? w_ : 0) + k / 2; }
  RMPE_INLINE bool inside(int /*i*/, int /*k*/) const { return true; }

 private:
  const Stretch<T>& stretch_;
  int32_t w_;
};
template <typename T>
class SomeInside {
 public:
  RMPE_INLINE SomeInside(const Stretch<T>& stretch, int block, const Warp<T>& warp) : first_(block * L::kCount) {
    const Places<T> places = places_of(stretch, block, warp);
    for (int k = 0; k < 4; ++k) {
      L::store(offset_[k], places.offset[k / 2][k % 2]);
      inside_[k] = L::bits(places.inside[k / 2][k % 2]);
    }
  }
  RMPE_INLINE int32_t offset(int i, int k) const { return offset_[k][i - first_]; }
  RMPE_INLINE bool inside(int i, int k) const { return inside_[k] >> (i - first_) & 1; }

 private:
  using L = Lanes<T>;
  int first_, inside_[4];
  int32_t offset_[4][L::kCount];
};

template <bool kFused, typename T>
void sample_by_channels(const Warp<T>& warp, int channels, const T* image, T* out, T* scratch) {
  using L = Lanes<T>;
  using V = typename L::V;
  constexpr int kChannels = L::kCount;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  planes_to_pixels<kChannels>(image, plane, channels, plane, scratch);
  Stretch<T> stretch;
  alignas(32) T weight[4][Stretch<T>::kCells], values[Stretch<T>::kCells][kChannels];
  const auto block = [&](int b, const auto& places) RMPE_LAMBDA {
    for (int i = b * L::kCount; i < (b + 1) * L::kCount; ++i) {
      V sum = splat<V>(0);
      for (int k = 0; k < 4; ++k) {
        if (!places.inside(i, k)) continue;
        sum = multiply_add<kFused>(V(weight[k][i]), L::load(scratch + places.offset(i, k) * int64_t{kChannels}), sum);
      }
      L::store(values[i], sum);
    }
  };
  for (int64_t s = 0; s < warp.out_h; ++s) {
    for (int64_t t = 0; t < warp.out_w; t += stretch.kCells) {
      locate<kFused>(warp, s, t, stretch);
      stretch.corner_weights(weight);
      for (int b = 0; b < stretch.blocks; ++b) {
        if (stretch.inside[b] >= kAll) {
          block(b, AllInside<T>(stretch, b, warp));
        } else if (stretch.inside[b] == kSome) {
          block(b, SomeInside<T>(stretch, b, warp));
        } else {
          std::memset(values[b * L::kCount], 0, L::kCount * sizeof *values);
        }
      }
      pixels_to_planes<kChannels>(values[0], stretch.cells, channels, out + s * warp.out_w + t, out_plane);
    }
  }
}

// to[channel][i] = d row and d column of cell i of four; `stride`: between channels, in pairs.
RMPE_INLINE void store_slopes(const Slope<Floats> (&cells)[4], float (*to)[2], int64_t stride) {
  __m256d low[4], high[4];
  for (int i = 0; i < 4; ++i) {
    low[i] = _mm256_castps_pd(_mm256_unpacklo_ps(cells[i].row.v, cells[i].column.v));   // of channels 0, 1, 4, 5
    high[i] = _mm256_castps_pd(_mm256_unpackhi_ps(cells[i].row.v, cells[i].column.v));  // of channels 2, 3, 6, 7
  }
  const auto store = [&](int channel, __m256d pairs) RMPE_LAMBDA {
    _mm256_storeu_ps(to[channel * stride], _mm256_castpd_ps(pairs));
  };
  const auto store_four = [&](int channel, const __m256d(&from)[4]) RMPE_LAMBDA {
    const __m256d a = _mm256_unpacklo_pd(from[0], from[1]), b = _mm256_unpackhi_pd(from[0], from[1]);
    const __m256d c = _mm256_unpacklo_pd(from[2], from[3]), d = _mm256_unpackhi_pd(from[2], from[3]);
    store(channel, _mm256_permute2f128_pd(a, c, 0x20));
    store(channel + 1, _mm256_permute2f128_pd(b, d, 0x20));
    store(channel + 4, _mm256_permute2f128_pd(a, c, 0x31));
    store(channel + 5, _mm256_permute2f128_pd(b, d, 0x31));
  };
  store_four(0, low);
  store_four(2, high);
}
RMPE_INLINE void store_slopes(const Slope<Doubles> (&cells)[4], double (*to)[2], int64_t stride) {
  for (int i = 0; i < 4; ++i) {
    const __m256d low = _mm256_unpacklo_pd(cells[i].row.v, cells[i].column.v);   // of channels 0, 2
    const __m256d high = _mm256_unpackhi_pd(cells[i].row.v, cells[i].column.v);  // of channels 1, 3
    _mm_storeu_pd(to[i], _mm256_castpd256_pd128(low));
    _mm_storeu_pd(to[stride + i], _mm256_castpd256_pd128(high));
    _mm_storeu_pd(to[2 * stride + i], _mm256_extractf128_pd(low, 1));
    _mm_storeu_pd(to[3 * stride + i], _mm256_extractf128_pd(high, 1));
  }
}

// [d row, d column] of all cells of the output, for kCount channels. A row has room for whole blocks.
template <typename T>
struct SlopePlanes {
  T (*first)[2];
  int64_t row, channel;  // from one to the next, in pairs

  SlopePlanes(const Warp<T>& warp, T* scratch)
      : first(reinterpret_cast<T(*)[2]>(scratch)), row(row_of(warp)), channel(channel_of(warp)) {}
  // How many values it takes.
  static int64_t room(const Warp<T>& warp) { return 2 * Lanes<T>::kCount * channel_of(warp); }

 private:
  static int64_t row_of(const Warp<T>& warp) {
    return (warp.out_w + Lanes<T>::kCount - 1) / Lanes<T>::kCount * Lanes<T>::kCount;
  }
  // A line more, lest the channels compete for the same places of the cache.
  static int64_t channel_of(const Warp<T>& warp) { return warp.out_h * row_of(warp) + 32 / sizeof(T); }
};

// The gradients of a group of channels: d image where kImage, what d theta is the sum of where kTheta.
template <bool kFused, bool kImage, bool kTheta, int kChannels, typename T>
void gradient_by_channels(const Warp<T>& warp, int given, const T* image, const T* grad, T* d_image,
                          T* pixels, T* d_pixel_values, const SlopePlanes<T>& slopes) {
  using L = Lanes<T>;
  using V = typename L::V;
  typedef T P __attribute__((vector_size(kChannels * sizeof(T)), aligned(sizeof(T)), may_alias));  // of all channels
  static_assert(!kTheta || kChannels == L::kCount);
  const int channels = given < kChannels ? given : kChannels;  // never less; this tells the compiler
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const V height = splat<V>(warp.h), width = splat<V>(warp.w);
  P* const d_pixels = reinterpret_cast<P*>(d_pixel_values);
  if (kTheta) planes_to_pixels<kChannels>(image, plane, channels, plane, pixels);
  if (kImage) std::memset(d_pixels, 0, plane * sizeof(P));

  const Ahead<kChannels * sizeof(T)> ahead(warp);
  Stretch<T> stretch;
  alignas(32) T weight[4][Stretch<T>::kCells], cell_grad[Stretch<T>::kCells][kChannels] = {};
  const auto add_to_image = [&](int i, const auto& places) RMPE_LAMBDA {
    const P g = *reinterpret_cast<const P*>(cell_grad[i]);
    for (int k = 0; k < 4; ++k) {
      if (places.inside(i, k)) d_pixels[places.offset(i, k)] += weight[k][i] * g;
    }
  };
  const auto slope_of = [&](int i, const auto& places) RMPE_LAMBDA {
    const Neighbours<V> row = {V(), V(), V(stretch.row_weight[0][i]), V(stretch.row_weight[1][i])};
    const Neighbours<V> column = {V(), V(), V(stretch.column_weight[0][i]), V(stretch.column_weight[1][i])};
    const V g = L::load(cell_grad[i]);
    Slope<V> slope = {splat<V>(0), splat<V>(0)};
    for_each_neighbour([&](auto r, auto c) RMPE_LAMBDA {
      const int k = 2 * c + r;
      if (!places.inside(i, k)) return;
      const V pixel = L::load(pixels + places.offset(i, k) * int64_t{kChannels});
      add_neighbour<kFused, r, c>(slope, row, column, pixel, g, height, width);
    });
    return slope;
  };
  const auto block = [&](int b, T(*to)[2], const auto& places) RMPE_LAMBDA {
    for (int first = b * L::kCount; first < (b + 1) * L::kCount; first += 4) {
      if constexpr (kTheta) {
        Slope<V> four[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          if (kImage) add_to_image(first + i, places);
          four[i] = slope_of(first + i, places);
        }
        store_slopes(four, to + first, slopes.channel);
      } else {
        ahead.ask(d_pixels, stretch.offset + first, 4);
        for (int i = first; i < first + 4; ++i) add_to_image(i, places);
      }
    }
  };
  for (int64_t s = 0; s < warp.out_h; ++s) {
    for (int64_t t = 0; t < warp.out_w; t += stretch.kCells) {
      locate<kFused>(warp, s, t, stretch);
      if (kImage) stretch.corner_weights(weight);
      planes_to_pixels<kChannels>(grad + s * warp.out_w + t, out_plane, channels, stretch.cells, cell_grad[0]);
      T(*to)[2] = kTheta ? slopes.first + s * slopes.row + t : nullptr;
      for (int b = 0; b < stretch.blocks; ++b) {
        if (stretch.inside[b] >= kAll) {
          block(b, to, AllInside<T>(stretch, b, warp));
        } else if (stretch.inside[b] == kSome) {
          block(b, to, SomeInside<T>(stretch, b, warp));
        } else if (kTheta) {
          for (int k = 0; k < kChannels; ++k) {
            std::memset(to[k * slopes.channel + b * L::kCount], 0, L::kCount * sizeof *to);
          }
        }
      }
    }
  }
  if (!kImage) return;
  pixels_to_planes<kChannels>(d_pixel_values, plane, channels, d_image, plane);
}

}  // namespace
}  // namespace rmpe
