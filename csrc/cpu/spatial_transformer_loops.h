// The spatial transformer's loops over the channels of one image, for any lanes.
#pragma once
#include "cpu/kernels.h"
#include "cpu/lanes.h"
#include "spatial_transformer.h"

namespace rmpe {
namespace {

// Where some points lie: all with four neighbours inside the image, all with none, or any other way.
enum Place { kInside, kOutside, kMixed };

// The points that one row of the output samples, as many at a time as L has lanes.
template <typename L, bool kFused>
class RowOfPoints {
  using T = typename L::Type;
  using V = typename L::Value;

 public:
  RMPE_INLINE explicit RowOfPoints(const Warp<T>& warp)
      : warp_(warp), h_(splat<V>(warp.h)), w_(splat<V>(warp.w)), last_row_(h_ - 1), last_column_(w_ - 1) {
    for (int i = 0; i < 6; ++i) theta_[i] = splat<V>(warp.theta[i]);
  }

  RMPE_INLINE void start(int64_t s) { u_ = splat<V>(warp_.rows[s]); }

  // The points of cells t, t + 1, ... of the row that was started.
  RMPE_INLINE Place points(int64_t t, V& row, V& column) const {
    const V v = L::load(warp_.columns_t + t);
    row = source<kFused>(theta_, u_, v, h_);
    column = source<kFused>(theta_ + 3, u_, v, w_);
    const V zero = splat<V>(0), below = splat<V>(-1);
    if (warp_.small && (L::within(row, zero, last_row_) & L::within(column, zero, last_column_)) == L::kAll) {
      return kInside;
    }
    return (L::outside(row, below, h_) | L::outside(column, below, w_)) == L::kAll ? kOutside : kMixed;
  }

 private:
  const Warp<T>& warp_;
  V theta_[6], u_, h_, w_, last_row_, last_column_;
};

// Walks the cells of output rows [begin, end) in order, and calls
//   inside(s, t, row, column)    for L::kCount cells from t on, whose points have all neighbours inside the image,
//   outside(s, t)                for L::kCount cells that have none,
//   single(s, t, row, column)    for one cell, wherever its point lies.
template <typename L, bool kFused, typename Inside, typename Outside, typename Single>
RMPE_INLINE void walk(const Warp<typename L::Type>& warp, int64_t begin, int64_t end, Inside inside, Outside outside,
                      Single single) {
  RowOfPoints<L, kFused> many(warp);
  RowOfPoints<ScalarLanes<typename L::Type>, kFused> one(warp);
  for (int64_t s = begin; s < end; ++s) {
    many.start(s);
    one.start(s);
    int64_t t = 0;
    while (t < warp.out_w) {
      int64_t singles = warp.out_w - t;
      if (singles >= L::kCount) {
        singles = L::kCount;
        typename L::Value row, column;
        const Place place = many.points(t, row, column);
        if (place == kInside) inside(s, t, row, column);
        if (place == kOutside) outside(s, t);
        if (place != kMixed) {
          t += L::kCount;
          continue;
        }
      }
      for (; singles > 0; --singles, ++t) {
        typename L::Type row, column;
        one.points(t, row, column);
        single(s, t, row, column);
      }
    }
  }
}

#define RMPE_LAMBDA __attribute__((always_inline))

template <typename L, bool kFused, typename T = typename L::Type>
void sample(const Warp<T>& warp, int planes, const T* image, int64_t begin, int64_t end, T* out) {
  using V = typename L::Value;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const int32_t w = static_cast<int32_t>(warp.w);

  const auto inside = [&](int64_t s, int64_t t, V row, V column) RMPE_LAMBDA {
    const Neighbours<V> r = neighbours(row), c = neighbours(column);
    const V low_low = r.low_weight * c.low_weight, high_low = r.high_weight * c.low_weight;
    const V low_high = r.low_weight * c.high_weight, high_high = r.high_weight * c.high_weight;
    int32_t offset[L::kCount];
    L::offsets(offset, r.low, c.low, w);
    for (int p = 0; p < planes; ++p) {
      V low[2], high[2];
      L::gather(image + p * plane, offset, low[0], low[1]);
      L::gather(image + p * plane + w, offset, high[0], high[1]);
      V sum = multiply_add<kFused>(low_low, low[0], splat<V>(0));
      sum = multiply_add<kFused>(high_low, high[0], sum);
      sum = multiply_add<kFused>(low_high, low[1], sum);
      L::store(out + p * out_plane + s * warp.out_w + t, multiply_add<kFused>(high_high, high[1], sum));
    }
  };
  const auto outside = [&](int64_t s, int64_t t) RMPE_LAMBDA {
    for (int p = 0; p < planes; ++p) L::store(out + p * out_plane + s * warp.out_w + t, splat<V>(0));
  };
  const auto single = [&](int64_t s, int64_t t, T row, T column) RMPE_LAMBDA {
    const Corners<T> corners(neighbours(row), neighbours(column), warp.h, warp.w);
    for (int p = 0; p < planes; ++p) {
      T pixel[4];
      corners.read(image + p * plane, pixel);
      out[p * out_plane + s * warp.out_w + t] = blend<kFused>(corners, pixel);
    }
  };
  walk<L, kFused>(warp, begin, end, inside, outside, single);
}

template <typename L, bool kFused, typename T = typename L::Type>
void theta_gradient(const Warp<T>& warp, const T* image, const T* grad, T* d_theta) {
  using V = typename L::Value;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const int32_t w = static_cast<int32_t>(warp.w);
  const V height = splat<V>(warp.h), width = splat<V>(warp.w);
  T sum[8] = {};  // six; eight fill a register

  const auto inside = [&](int64_t s, int64_t t, V row, V column) RMPE_LAMBDA {
    const Neighbours<V> r = neighbours(row), c = neighbours(column);
    int32_t offset[L::kCount];
    L::offsets(offset, r.low, c.low, w);
    V low[2], high[2];
    L::gather(image, offset, low[0], low[1]);
    L::gather(image + w, offset, high[0], high[1]);
    const V g = L::load(grad + s * warp.out_w + t);
    Slope<V> slope = {splat<V>(0), splat<V>(0)};
    add_neighbour<kFused, 0, 0>(slope, r, c, low[0], g, height, width);
    add_neighbour<kFused, 0, 1>(slope, r, c, low[1], g, height, width);
    add_neighbour<kFused, 1, 0>(slope, r, c, high[0], g, height, width);
    add_neighbour<kFused, 1, 1>(slope, r, c, high[1], g, height, width);
    const auto u = splat<typename L::Double>(warp.rows[s]);
    const auto v = L::load_double(warp.columns + t);
    V term[6];
    theta_terms(slope, u, v, term);
    L::add_in_turn(sum, term);
  };
  const auto outside = [](int64_t, int64_t) RMPE_LAMBDA {};
  const auto single = [&](int64_t s, int64_t t, T row, T column) RMPE_LAMBDA {
    const Neighbours<T> r = neighbours(row), c = neighbours(column);
    const Corners<T> corners(r, c, warp.h, warp.w);
    const Slope<T> slope = slope_at<kFused>(r, c, corners, image, static_cast<T>(warp.h), static_cast<T>(warp.w),
                                            grad[s * warp.out_w + t]);
    T term[6];
    theta_terms(slope, warp.rows[s], warp.columns[t], term);
    ScalarLanes<T>::add_in_turn(sum, term);
  };
  for (int64_t p = 0; p < warp.channels; ++p, image += plane, grad += out_plane) {
    walk<L, kFused>(warp, 0, warp.out_h, inside, outside, single);
  }
  for (int k = 0; k < 6; ++k) d_theta[k] = sum[k];
}

template <typename L, bool kFused, typename T = typename L::Type>
void image_gradient(const Warp<T>& warp, int planes, const T* grad, T* d_image) {
  using V = typename L::Value;
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  const int32_t w = static_cast<int32_t>(warp.w);

  const auto inside = [&](int64_t s, int64_t t, V row, V column) RMPE_LAMBDA {
    const Neighbours<V> r = neighbours(row), c = neighbours(column);
    int32_t offset[L::kCount];
    L::offsets(offset, r.low, c.low, w);
    T low[kPlanes][2][L::kCount], high[kPlanes][2][L::kCount];
    for (int p = 0; p < planes; ++p) {
      const V g = L::load(grad + p * out_plane + s * warp.out_w + t);
      L::store(low[p][0], r.low_weight * c.low_weight * g);
      L::store(low[p][1], r.low_weight * c.high_weight * g);
      L::store(high[p][0], r.high_weight * c.low_weight * g);
      L::store(high[p][1], r.high_weight * c.high_weight * g);
    }
    // Neighbouring cells add to the same pixels, so each addition waits for the last; planes do not wait for another.
    for (int i = 0; i < L::kCount; ++i) {
      for (int p = 0; p < planes; ++p) {
        T* at = d_image + p * plane + offset[i];
        at[0] += low[p][0][i];
        at[1] += low[p][1][i];
        at[w] += high[p][0][i];
        at[w + 1] += high[p][1][i];
      }
    }
  };
  const auto outside = [](int64_t, int64_t) RMPE_LAMBDA {};
  const auto single = [&](int64_t s, int64_t t, T row, T column) RMPE_LAMBDA {
    const Corners<T> corners(neighbours(row), neighbours(column), warp.h, warp.w);
    for (int p = 0; p < planes; ++p) {
      const T g = grad[p * out_plane + s * warp.out_w + t];
      for (int k = 0; k < 4; ++k) {
        if (corners.inside[k]) d_image[p * plane + corners.offset[k]] += corners.weight[k] * g;
      }
    }
  };
  walk<L, kFused>(warp, 0, warp.out_h, inside, outside, single);
}

#undef RMPE_LAMBDA

}  // namespace
}  // namespace rmpe
