// The spatial transformer's loops with AVX2, a lane a cell of the output: for few channels, and for images that are
// too large to be rearranged in a cache. A stretch of an output row is worked on at a time, step by step: where its
// cells' points lie, what they read, what is made of it. Each step is a short loop over blocks of cells that do not
// wait for each other, and leaves its results in small arrays in the first level cache.
#pragma once
#include "cpu/stretch.h"
#include "cpu/theta_sums.h"

namespace rmpe {
namespace {

// What lies at the neighbours of a block that has all, and in the row below.
template <typename T>
struct Pixels {
  using L = Lanes<T>;
  typename L::V low[2], high[2];

  RMPE_INLINE Pixels(const Stretch<T>& stretch, int block, const T* from, int64_t w, const Ahead<sizeof(T)>& ahead) {
    const int32_t* offset = stretch.offset + block * L::kCount;
    const T* below = from + w;
    ahead.ask(from, offset, L::kCount);
    if (stretch.inside[block] == kAllNear) {
      L::pick_pairs(from, offset, low);
      L::pick_pairs(below, offset, high);
    } else {
      L::gather_squares(from, below, offset, low, high);
    }
  }
};

template <bool kFused, typename T>
void sample_by_cells(const Warp<T>& warp, int channels, const T* image, int64_t begin, int64_t end, T* out) {
  using L = Lanes<T>;
  using V = typename L::V;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const Ahead<sizeof(T)> ahead(warp);
  Stretch<T> stretch;
  alignas(32) T weight[4][Stretch<T>::kCells];
  const auto all = [&](int b, const T* from) RMPE_LAMBDA {
    const int i = b * L::kCount;
    const Pixels<T> pixels(stretch, b, from, warp.w, ahead);
    V sum = multiply_add<kFused>(L::load(weight[0] + i), pixels.low[0], splat<V>(0));
    sum = multiply_add<kFused>(L::load(weight[1] + i), pixels.high[0], sum);
    sum = multiply_add<kFused>(L::load(weight[2] + i), pixels.low[1], sum);
    return multiply_add<kFused>(L::load(weight[3] + i), pixels.high[1], sum);
  };
  const auto some = [&](int b, T* to) RMPE_LAMBDA {
    const Places<T> places = places_of(stretch, b, warp);
    for (int k = 0; k < channels; ++k) {
      V sum = splat<V>(0);
      for (int c = 0; c < 2; ++c) {
        for (int r = 0; r < 2; ++r) {
          const V pixel = L::gather(image + k * plane, places.offset[c][r], places.inside[c][r]);
          const V corner = L::load(weight[2 * c + r] + b * L::kCount);
          sum = L::choose(places.inside[c][r], multiply_add<kFused>(corner, pixel, sum), sum);
        }
      }
      stretch.store(to + k * out_plane, sum, b);
    }
  };
  const auto none = [&](int b, T* to) RMPE_LAMBDA {
    for (int k = 0; k < channels; ++k) stretch.store(to + k * out_plane, splat<V>(0), b);
  };
  for (int64_t s = begin; s < end; ++s) {
    for (int64_t t = 0; t < warp.out_w; t += stretch.kCells) {
      locate<kFused>(warp, s, t, stretch);
      stretch.corner_weights(weight);
      T* to = out + s * warp.out_w + t;
      // Planes are often a multiple of 4096 bytes apart: of several at once, the cache would hold little.
      for (int k = 0; k < channels; ++k) {
        for (int b = 0; b < stretch.blocks; ++b) {
          if (stretch.inside[b] >= kAll) L::store(to + k * out_plane + b * L::kCount, all(b, image + k * plane));
        }
      }
      for (int b = 0; b < stretch.blocks; ++b) {
        if (stretch.inside[b] == kSome) some(b, to + b * L::kCount);
        if (stretch.inside[b] == kNone) none(b, to + b * L::kCount);
      }
    }
  }
}

// Puts the lanes of a slope side by side.
RMPE_INLINE void store_slope(const Slope<Floats>& slope, float (*at)[2]) {
  const __m256 low = _mm256_unpacklo_ps(slope.row.v, slope.column.v);
  const __m256 high = _mm256_unpackhi_ps(slope.row.v, slope.column.v);
  _mm256_storeu_ps(at[0], _mm256_permute2f128_ps(low, high, 0x20));
  _mm256_storeu_ps(at[4], _mm256_permute2f128_ps(low, high, 0x31));
}
RMPE_INLINE void store_slope(const Slope<Doubles>& slope, double (*at)[2]) {
  const __m256d low = _mm256_unpacklo_pd(slope.row.v, slope.column.v);
  const __m256d high = _mm256_unpackhi_pd(slope.row.v, slope.column.v);
  _mm256_storeu_pd(at[0], _mm256_permute2f128_pd(low, high, 0x20));
  _mm256_storeu_pd(at[2], _mm256_permute2f128_pd(low, high, 0x31));
}

// d theta of `images` images, 1 or 2.
template <bool kFused, typename T>
void theta_gradient_by_cells(const Warp<T>* warps, int images, const T* image, const T* grad, T* d_theta) {
  using L = Lanes<T>;
  using V = typename L::V;
  const Warp<T>& warp = warps[0];
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  constexpr int64_t kPage = 4096 / sizeof(T);
  const V height = splat<V>(warp.h), width = splat<V>(warp.w);
  const Ahead<sizeof(T)> ahead[2] = {Ahead<sizeof(T)>(warps[0]), Ahead<sizeof(T)>(warps[images - 1])};
  Stretch<T> stretch;
  const auto all = [&](int j, int b, const T* from, V g) RMPE_LAMBDA {
    const Neighbours<V> row = stretch.row(b), column = stretch.column(b);
    const Pixels<T> pixels(stretch, b, from, warp.w, ahead[j]);
    Slope<V> slope = {splat<V>(0), splat<V>(0)};
    for_each_neighbour([&](auto r, auto c) RMPE_LAMBDA {
      add_neighbour<kFused, r, c>(slope, row, column, r ? pixels.high[c] : pixels.low[c], g, height, width);
    });
    return slope;
  };
  const auto some = [&](int b, const T* from, V g) RMPE_LAMBDA {
    const Neighbours<V> row = stretch.row(b), column = stretch.column(b);
    const Places<T> places = places_of(stretch, b, warp);
    Slope<V> slope = {splat<V>(0), splat<V>(0)};
    for_each_neighbour([&](auto r, auto c) RMPE_LAMBDA {
      const V pixel = L::gather(from, places.offset[c][r], places.inside[c][r]);
      Slope<V> more = slope;
      add_neighbour<kFused, r, c>(more, row, column, pixel, g, height, width);
      slope.row = L::choose(places.inside[c][r], more.row, slope.row);
      slope.column = L::choose(places.inside[c][r], more.column, slope.column);
    });
    return slope;
  };

  // The sums wait for each addition. So a stretch is added up while the slopes of the next are computed.
  struct {
    int64_t s, t;
    int blocks = 0;
    bool any[Stretch<T>::kBlocks];                   // whether a block has slopes that are not 0
    alignas(32) T slopes[2][Stretch<T>::kCells][2];  // of each image
  } stretches[2];
  ThetaSums<T> sums;
  int now = 0;
  const auto add_before = [&](int begin, int end) RMPE_LAMBDA {
    const auto& before = stretches[1 - now];
    for (int b = begin; b < end && b < before.blocks; ++b) {
      if (!before.any[b]) continue;
      const int i = b * L::kCount;
      const T(*const slopes[2])[2] = {before.slopes[0] + i, before.slopes[images - 1] + i};
      sums.add(warp, before.s, before.t + i, 1, slopes);
    }
  };
  const auto slopes_of = [&](int j, const T* from, const T* g) RMPE_LAMBDA {
    for (int b = 0; b < stretch.blocks; ++b, g += L::kCount) {
      T(*to)[2] = stretches[now].slopes[j] + b * L::kCount;
      // A processor that foresees lines does so up to the end of a page; here pages are done with soon.
      if (b % 2 == 0) _mm_prefetch(g + kPage, _MM_HINT_T0);
      stretches[now].any[b] = stretch.inside[b] != kNone || (j > 0 && stretches[now].any[b]);
      if (stretch.inside[b] >= kAll) {
        store_slope(all(j, b, from, L::load(g)), to);
      } else if (stretch.inside[b] == kSome) {
        store_slope(some(b, from, L::load(g, stretch.valid(b))), to);
      } else {
        std::memset(to, 0, L::kCount * sizeof *to);
      }
      if (j == 0) add_before(b, b + 1);
    }
  };
  for (int64_t k = 0; k < warp.channels; ++k, image += plane, grad += out_plane) {
    for (int64_t s = 0; s < warp.out_h; ++s) {
      for (int64_t t = 0; t < warp.out_w; t += Stretch<T>::kCells, now = 1 - now) {
        const T* g = grad + s * warp.out_w + t;
        for (int j = 0; j < images; ++j) {
          locate<kFused>(warps[j], s, t, stretch);
          slopes_of(j, image + j * warp.channels * plane, g + j * warp.channels * out_plane);
        }
        add_before(stretch.blocks, Stretch<T>::kBlocks);
        stretches[now].s = s;
        stretches[now].t = t;
        stretches[now].blocks = stretch.blocks;
      }
    }
  }
  add_before(0, Stretch<T>::kBlocks);
  sums.store(images, d_theta);
}

}  // namespace
}  // namespace rmpe
