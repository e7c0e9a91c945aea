// The spatial transformer's loops with AVX2. Included by kernels_avx2.cpp alone.
//
// What differs from the baseline is where values are kept, never what is done to one, nor in which order a sum takes its
// terms. A stretch of an output row is worked on at a time, step by step: where its cells' points lie, what they read,
// what is made of it. Each step is a short loop over blocks of cells that do not wait for each other, and leaves its
// results in small arrays in the first level cache.
#pragma once
#include "cpu/kernels.h"
#include "cpu/lanes.h"
#include "spatial_transformer.h"

#define RMPE_LAMBDA __attribute__((always_inline))

namespace rmpe {
namespace {

// How many of a block's neighbours lie inside the image. A block that does not fill a register never has all; one that
// has may have them side by side.
enum Inside : uint8_t { kNone, kSome, kAll, kAllNear };

// The points of up to kCells cells (s, t), (s, t + 1), ... of the output.
template <typename T>
struct Stretch {
  using L = Lanes<T>;
  using V = typename L::V;
  static constexpr int kCells = 128, kBlocks = kCells / L::kCount;

  int64_t s, t;
  int cells, blocks;
  Inside inside[kBlocks];
  int32_t offset[kCells];                             // of neighbour (low, low)
  T row_low[kCells], column_low[kCells];              // whole numbers; not where all neighbours are inside
  T row_weight[2][kCells], column_weight[2][kCells];  // of the low and the high neighbour

  RMPE_INLINE Neighbours<V> row(int block) const { return neighbours(row_low, row_weight, block); }
  RMPE_INLINE Neighbours<V> column(int block) const { return neighbours(column_low, column_weight, block); }
  // What each of the four neighbours weighs, in the order of the output's sum.
  RMPE_INLINE void corner_weights(T (&weight)[4][kCells]) const {
    for (int i = 0; i < blocks * L::kCount; i += L::kCount) {
      for (int k = 0; k < 4; ++k) {
        L::store(weight[k] + i, L::load(row_weight[k % 2] + i) * L::load(column_weight[k / 2] + i));
      }
    }
  }
  // Lanes that hold a cell: all, but in the last block.
  RMPE_INLINE V valid(int block) const { return L::first(cells - block * L::kCount); }

 private:
  static RMPE_INLINE Neighbours<V> neighbours(const T* low, const T (&weight)[2][kCells], int block) {
    const V at = L::load(low + block * L::kCount);
    return {at, at + 1, L::load(weight[0] + block * L::kCount), L::load(weight[1] + block * L::kCount)};
  }
};

// Which neighbours of a block lie inside the image, and where; [column][row], each low or high.
template <typename T>
struct Places {
  using L = Lanes<T>;
  using V = typename L::V;

  V inside[2][2];
  typename L::Indices offset[2][2];

  RMPE_INLINE Places(const Neighbours<V>& row, const Neighbours<V>& column, V valid, int64_t h, int64_t w) {
    const V rows[2] = {L::zero_for_nan(row.low), L::zero_for_nan(row.high)};
    const V columns[2] = {L::zero_for_nan(column.low), L::zero_for_nan(column.high)};
    const V zero = splat<V>(0);
    for (int c = 0; c < 2; ++c) {
      const V inside_column = L::both(valid, L::within(columns[c], zero, splat<V>(w)));
      for (int r = 0; r < 2; ++r) {
        inside[c][r] = L::both(inside_column, L::within(rows[r], zero, splat<V>(h)));
        offset[c][r] = L::offsets(L::to_indices(rows[r]), L::to_indices(columns[c]), static_cast<int32_t>(w));
      }
    }
  }
  RMPE_INLINE bool any() const {
    return (L::bits(inside[0][0]) | L::bits(inside[0][1]) | L::bits(inside[1][0]) | L::bits(inside[1][1])) != 0;
  }
};

template <typename T>
RMPE_INLINE Places<T> places_of(const Stretch<T>& stretch, int block, const Warp<T>& warp) {
  return Places<T>(stretch.row(block), stretch.column(block), stretch.valid(block), warp.h, warp.w);
}

// Where the points of the cells from (s, t) on lie.
template <bool kFused, typename T>
RMPE_INLINE void locate(const Warp<T>& warp, int64_t s, int64_t t, Stretch<T>& stretch) {
  using L = Lanes<T>;
  using V = typename L::V;
  const V h = splat<V>(warp.h), w = splat<V>(warp.w), u = splat<V>(warp.rows[s]);
  const int32_t last_row = static_cast<int32_t>(warp.h) - 2, last_column = static_cast<int32_t>(warp.w) - 2;
  const bool wide = last_row >= 0 && last_column >= 0;
  V theta[6];
  for (int k = 0; k < 6; ++k) theta[k] = splat<V>(warp.theta[k]);
  stretch.s = s;
  stretch.t = t;
  stretch.cells = static_cast<int>(warp.out_w - t < stretch.kCells ? warp.out_w - t : stretch.kCells);
  stretch.blocks = (stretch.cells + L::kCount - 1) / L::kCount;
  const V one = splat<V>(1);
  for (int b = 0; b < stretch.blocks; ++b) {
    const int i = b * L::kCount;
    const V v = L::load(warp.columns_t + t + i);
    const V row = source<kFused>(theta, u, v, h), column = source<kFused>(theta + 3, u, v, w);
    const V low_row = round_down(row), low_column = round_down(column);
    const auto row_index = L::to_indices(low_row), column_index = L::to_indices(low_column);
    L::store(stretch.offset + i, L::offsets(row_index, column_index, static_cast<int32_t>(warp.w)));
    if (wide && i + L::kCount <= stretch.cells && L::all_within(row_index, last_row, column_index, last_column)) {
      // From 0 on, high - x is what 1 - (x - low) is, to the last bit: one of x - low and 1 - (x - low) is exact.
      const V low_row_weight = one - (row - low_row), low_column_weight = one - (column - low_column);
      L::store(stretch.row_weight[0] + i, low_row_weight);
      L::store(stretch.row_weight[1] + i, one - low_row_weight);
      L::store(stretch.column_weight[0] + i, low_column_weight);
      L::store(stretch.column_weight[1] + i, one - low_column_weight);
      const int64_t behind = stretch.offset[i] + warp.w + 2 * L::kCount;  // what pick_pairs reads, at most
      const bool near = behind <= warp.h * warp.w && L::side_by_side(row_index, column_index);
      stretch.inside[b] = near ? kAllNear : kAll;
      continue;
    }
    const Neighbours<V> rows = neighbours(row), columns = neighbours(column);
    L::store(stretch.row_low + i, rows.low);
    L::store(stretch.column_low + i, columns.low);
    L::store(stretch.row_weight[0] + i, rows.low_weight);
    L::store(stretch.row_weight[1] + i, rows.high_weight);
    L::store(stretch.column_weight[0] + i, columns.low_weight);
    L::store(stretch.column_weight[1] + i, columns.high_weight);
    stretch.inside[b] = places_of(stretch, b, warp).any() ? kSome : kNone;
  }
}

// What lies at the neighbours of a block that has all, and in the row below.
template <typename T>
struct Pixels {
  using L = Lanes<T>;
  typename L::V low[2], high[2];

  RMPE_INLINE Pixels(const Stretch<T>& stretch, int block, const T* from, int64_t w) {
    const int32_t* offset = stretch.offset + block * L::kCount;
    if (stretch.inside[block] == kAllNear) {
      L::pick_pairs(from, offset, low[0], low[1]);
      L::pick_pairs(from + w, offset, high[0], high[1]);
    } else {
      L::gather_pairs(from, offset, low[0], low[1]);
      L::gather_pairs(from + w, offset, high[0], high[1]);
    }
  }
};

template <bool kFused, typename T>
void sample(const Warp<T>& warp, int channels, const T* image, int64_t begin, int64_t end, T* out) {
  using L = Lanes<T>;
  using V = typename L::V;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  Stretch<T> stretch;
  T weight[4][Stretch<T>::kCells];
  const auto all = [&](int b, const T* from) RMPE_LAMBDA {
    const int i = b * L::kCount;
    const Pixels<T> pixels(stretch, b, from, warp.w);
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
      L::store(to + k * out_plane, sum, stretch.valid(b));
    }
  };
  const auto none = [&](int b, T* to) RMPE_LAMBDA {
    for (int k = 0; k < channels; ++k) L::store(to + k * out_plane, splat<V>(0), stretch.valid(b));
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

// d row and d column of the cells of a stretch, side by side.
template <typename T>
struct Slopes {
  T at[Stretch<T>::kCells][2];
};

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

// The six sums of d theta. Cells are added one after the other, all six terms of one at once.
template <typename T>
struct ThetaSums;

template <>
struct ThetaSums<float> {
  FloatVector sum = {};  // d row u, d column u, d row v, d column v, d row, d column; the rest is nothing

  RMPE_INLINE void add_block(const Warp<float>& warp, int64_t s, int64_t t, const float (*slope)[2]) {
    FloatVector total = sum;
    if (warp.exact) {
      // A product of two floats is exact in double precision: rounding it once is what a float product does.
      const float u = static_cast<float>(warp.rows[s]);
      const __m256 rows = _mm256_setr_ps(u, u, 0, 0, 1, 1, 0, 0);
      for (int i = 0; i < 8; ++i) {
        const __m256 at = _mm256_blend_ps(rows, _mm256_broadcast_ss(warp.columns_t + t + i), 0x0c);
        total += _mm256_castpd_ps(_mm256_broadcast_sd(reinterpret_cast<const double*>(slope[i]))) * at;
      }
    } else {
      const __m256d rows = _mm256_set1_pd(warp.rows[s]);
      for (int i = 0; i < 8; ++i) {
        const __m256d at = _mm256_blend_pd(rows, _mm256_broadcast_sd(warp.columns + t + i), 0xc);
        const __m128 both = _mm_castpd_ps(_mm_loaddup_pd(reinterpret_cast<const double*>(slope[i])));
        total += _mm256_set_m128(both, _mm256_cvtpd_ps(_mm256_cvtps_pd(both) * at));
      }
    }
    sum = total;
  }
  RMPE_INLINE void store(float* d_theta) const {
    for (int k = 0; k < 6; ++k) d_theta[k] = sum[2 * (k % 3) + k / 3];
  }
};

template <>
struct ThetaSums<double> {
  DoubleVector products = {};  // d row u, d column u, d row v, d column v
  __m128d slopes = {};         // d row, d column

  RMPE_INLINE void add_block(const Warp<double>& warp, int64_t s, int64_t t, const double (*slope)[2]) {
    const __m256d rows = _mm256_set1_pd(warp.rows[s]);
    for (int i = 0; i < 4; ++i) {
      const __m128d both = _mm_loadu_pd(slope[i]);
      const __m256d at = _mm256_blend_pd(rows, _mm256_broadcast_sd(warp.columns + t + i), 0xc);
      products += _mm256_set_m128d(both, both) * at;
      slopes += both;
    }
  }
  RMPE_INLINE void store(double* d_theta) const {
    for (int k = 0; k < 6; ++k) d_theta[k] = k % 3 == 2 ? slopes[k / 3] : products[2 * (k % 3) + k / 3];
  }
};

template <bool kFused, typename T>
void theta_gradient(const Warp<T>& warp, const T* image, const T* grad, T* d_theta) {
  using L = Lanes<T>;
  using V = typename L::V;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const V height = splat<V>(warp.h), width = splat<V>(warp.w);
  const auto all = [&](const Stretch<T>& stretch, int b, const T* from, V g) RMPE_LAMBDA {
    const Neighbours<V> row = stretch.row(b), column = stretch.column(b);
    const Pixels<T> pixels(stretch, b, from, warp.w);
    Slope<V> slope = {splat<V>(0), splat<V>(0)};
    add_neighbour<kFused, 0, 0>(slope, row, column, pixels.low[0], g, height, width);
    add_neighbour<kFused, 0, 1>(slope, row, column, pixels.low[1], g, height, width);
    add_neighbour<kFused, 1, 0>(slope, row, column, pixels.high[0], g, height, width);
    add_neighbour<kFused, 1, 1>(slope, row, column, pixels.high[1], g, height, width);
    return slope;
  };
  const auto some = [&](const Stretch<T>& stretch, int b, const T* from, V g) RMPE_LAMBDA {
    const Neighbours<V> row = stretch.row(b), column = stretch.column(b);
    const Places<T> places = places_of(stretch, b, warp);
    Slope<V> slope = {splat<V>(0), splat<V>(0)};
    const auto neighbour = [&](auto r, auto c) RMPE_LAMBDA {
      const V pixel = L::gather(from, places.offset[c][r], places.inside[c][r]);
      Slope<V> more = slope;
      add_neighbour<kFused, r, c>(more, row, column, pixel, g, height, width);
      slope.row = L::choose(places.inside[c][r], more.row, slope.row);
      slope.column = L::choose(places.inside[c][r], more.column, slope.column);
    };
    constexpr std::integral_constant<int, 0> kLow;
    constexpr std::integral_constant<int, 1> kHigh;
    neighbour(kLow, kLow);
    neighbour(kLow, kHigh);
    neighbour(kHigh, kLow);
    neighbour(kHigh, kHigh);
    return slope;
  };

  // The sums wait for each addition. So a stretch is added up while the slopes of the next are computed.
  Stretch<T> stretches[2];
  Slopes<T> slopes[2];
  ThetaSums<T> sums;
  int now = 0;
  stretches[1].blocks = 0;
  const auto add_before = [&](int first, int last) RMPE_LAMBDA {
    const Stretch<T>& before = stretches[1 - now];
    for (int b = first; b < last && b < before.blocks; ++b) {
      const int i = b * L::kCount;
      if (before.inside[b] != kNone) sums.add_block(warp, before.s, before.t + i, slopes[1 - now].at + i);
    }
  };
  for (int64_t k = 0; k < warp.channels; ++k, image += plane, grad += out_plane) {
    for (int64_t s = 0; s < warp.out_h; ++s) {
      for (int64_t t = 0; t < warp.out_w; t += Stretch<T>::kCells, now = 1 - now) {
        Stretch<T>& stretch = stretches[now];
        locate<kFused>(warp, s, t, stretch);
        const T* from = grad + s * warp.out_w + t;
        for (int b = 0; b < stretch.blocks; ++b, from += L::kCount) {
          const int i = b * L::kCount;
          if (stretch.inside[b] >= kAll) {
            store_slope(all(stretch, b, image, L::load(from)), slopes[now].at + i);
          } else if (stretch.inside[b] == kSome) {  // a cell outside adds zeros, which change no sum
            store_slope(some(stretch, b, image, L::load(from, stretch.valid(b))), slopes[now].at + i);
          }
          add_before(b, b + 1);
        }
        add_before(stretch.blocks, Stretch<T>::kBlocks);
      }
    }
  }
  add_before(0, Stretch<T>::kBlocks);
  sums.store(d_theta);
}

// to[j][i] = from[i][j] for i of [0, rows) and j of [0, columns)
RMPE_INLINE void transpose_four(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_stride);
  __m128 c = _mm_loadu_ps(from + 2 * from_stride), d = _mm_loadu_ps(from + 3 * from_stride);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, a);
  _mm_storeu_ps(to + to_stride, b);
  _mm_storeu_ps(to + 2 * to_stride, c);
  _mm_storeu_ps(to + 3 * to_stride, d);
}
RMPE_INLINE void transpose_four(const double* from, int64_t from_stride, double* to, int64_t to_stride) {
  const __m256d a = _mm256_loadu_pd(from), b = _mm256_loadu_pd(from + from_stride);
  const __m256d c = _mm256_loadu_pd(from + 2 * from_stride), d = _mm256_loadu_pd(from + 3 * from_stride);
  const __m256d ab_low = _mm256_unpacklo_pd(a, b), ab_high = _mm256_unpackhi_pd(a, b);
  const __m256d cd_low = _mm256_unpacklo_pd(c, d), cd_high = _mm256_unpackhi_pd(c, d);
  _mm256_storeu_pd(to, _mm256_permute2f128_pd(ab_low, cd_low, 0x20));
  _mm256_storeu_pd(to + to_stride, _mm256_permute2f128_pd(ab_high, cd_high, 0x20));
  _mm256_storeu_pd(to + 2 * to_stride, _mm256_permute2f128_pd(ab_low, cd_low, 0x31));
  _mm256_storeu_pd(to + 3 * to_stride, _mm256_permute2f128_pd(ab_high, cd_high, 0x31));
}
// The shorter side is the outer loop: whoever has planes has few, and the cache holds a line of each, not of all.
template <typename T>
RMPE_INLINE void transpose(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to,
                           int64_t to_stride) {
  const auto tile = [&](int64_t i, int64_t j) RMPE_LAMBDA {
    if (i + 4 <= rows && j + 4 <= columns) {
      return transpose_four(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
    }
    for (int64_t k = i; k < rows && k < i + 4; ++k) {
      for (int64_t l = j; l < columns && l < j + 4; ++l) to[l * to_stride + k] = from[k * from_stride + l];
    }
  };
  if (rows < columns) {
    for (int64_t i = 0; i < rows; i += 4) {
      for (int64_t j = 0; j < columns; j += 4) tile(i, j);
    }
  } else {
    for (int64_t j = 0; j < columns; j += 4) {
      for (int64_t i = 0; i < rows; i += 4) tile(i, j);
    }
  }
}

// A lane a channel: a cell adds to a pixel of all of them at once. `scratch` has the pixels one after the other, each
// with kChannels values.
template <bool kFused, int kChannels, typename T>
RMPE_INLINE void image_gradient_lanes(const Warp<T>& warp, int given, const T* grad, T* d_image, T* scratch) {
  const int channels = given < kChannels ? given : kChannels;  // never less; this tells the compiler
  using L = Lanes<T>;
  typedef T Pixel __attribute__((vector_size(kChannels * sizeof(T)), aligned(sizeof(T)), may_alias));
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const int32_t w = static_cast<int32_t>(warp.w);
  Pixel* pixels = reinterpret_cast<Pixel*>(scratch);
  std::memset(scratch, 0, plane * sizeof(Pixel));

  Stretch<T> stretch;
  T weight[4][Stretch<T>::kCells], cell_grad[Stretch<T>::kCells][kChannels] = {};
  const auto all = [&](int first) RMPE_LAMBDA {
    for (int i = first; i < first + L::kCount; ++i) {
      const Pixel g = *reinterpret_cast<const Pixel*>(cell_grad[i]);
      Pixel* at = pixels + stretch.offset[i];
      at[0] += weight[0][i] * g;
      at[w] += weight[1][i] * g;
      at[1] += weight[2][i] * g;
      at[w + 1] += weight[3][i] * g;
    }
  };
  const auto some = [&](int b, int first) RMPE_LAMBDA {
    const Places<T> places = places_of(stretch, b, warp);
    int32_t offset[4][L::kCount];
    int inside[4];
    for (int k = 0; k < 4; ++k) {
      L::store(offset[k], places.offset[k / 2][k % 2]);
      inside[k] = L::bits(places.inside[k / 2][k % 2]);
    }
    for (int i = 0; i < L::kCount; ++i) {
      const Pixel g = *reinterpret_cast<const Pixel*>(cell_grad[first + i]);
      for (int k = 0; k < 4; ++k) {
        if (inside[k] >> i & 1) pixels[offset[k][i]] += weight[k][first + i] * g;
      }
    }
  };
  for (int64_t s = 0; s < warp.out_h; ++s) {
    for (int64_t t = 0; t < warp.out_w; t += stretch.kCells) {
      locate<kFused>(warp, s, t, stretch);
      stretch.corner_weights(weight);
      transpose(grad + s * warp.out_w + t, out_plane, channels, stretch.cells, cell_grad[0], kChannels);
      for (int b = 0; b < stretch.blocks; ++b) {
        if (stretch.inside[b] >= kAll) all(b * L::kCount);
        if (stretch.inside[b] == kSome) some(b, b * L::kCount);
      }
    }
  }
  constexpr int64_t kPart = 64;  // pixels that the first level cache holds while the channels take turns
  for (int64_t i = 0; i < plane; i += kPart) {
    const int64_t pixels = plane - i < kPart ? plane - i : kPart;
    transpose(scratch + i * kChannels, kChannels, pixels, channels, d_image + i, plane);
  }
}

template <bool kFused, typename T>
void image_gradient(const Warp<T>& warp, int channels, const T* grad, T* d_image, T* scratch) {
  if (channels > 4) {
    image_gradient_lanes<kFused, Kernels<T>::kGroup>(warp, channels, grad, d_image, scratch);
  } else {
    image_gradient_lanes<kFused, 4>(warp, channels, grad, d_image, scratch);
  }
}

}  // namespace
}  // namespace rmpe

#undef RMPE_LAMBDA
