// The spatial transformer's arithmetic, for host and device: st_layer.{cpp,cu} of RMPE@5188c23.
//
// Output cell (s, t) of (out_h, out_w) samples the image at
//     row = (theta0 u + theta1 v + theta2 + 1) / 2 * h,   column = (theta3 u + theta4 v + theta5 + 1) / 2 * w
// with u = 2 s / out_h - 1 and v = 2 t / out_w - 1: rows come first; the grid starts at -1 and stops before +1.
// The value is a weighted sum of four neighbours; those outside the image count as 0.
//
// kFused: the multiply-adds that a GPU build of the fork fuses (read from its machine code): the 2x3 product of the
// grid, the sum of the four neighbours, and the halving inside the gradient. Everything else rounds twice.
//
// The order of sums is the same on every device:
//     row, column   ((theta0 u) + theta1 v) + theta2
//     output        neighbours (low, low), (high, low), (low, high), (high, high), each (row, column)
//     d theta       per image: channels, then rows, then columns of the output, ascending
//     d image       per pixel: cells of the output, ascending, and a cell's neighbours as above
#pragma once
#include "numeric.h"

namespace rmpe {

// The coordinate of cell i of n in [-1, 1), in double precision as in the published code.
RMPE_INLINE double cell(int64_t i, int64_t n) { return i * 1.0 / n * 2 - 1; }

// One coordinate of the sampled point in pixels. theta: one row of the 2x3 matrix; size: the image's h or w.
template <bool kFused, typename V>
RMPE_INLINE V source(const V* theta, V u, V v, V size) {
  const V p = multiply_add<kFused>(v, theta[1], u * theta[0]) + theta[2];
  return (p + 1) * (size * splat<V>(0.5));  // halving is exact, so the size can be halved instead
}

// The two neighbours of a point along one axis, as whole numbers, and their weights.
template <typename V>
struct Neighbours {
  V low, high, low_weight, high_weight;
};

template <typename V>
RMPE_INLINE Neighbours<V> neighbours(V x) {
  const V low = round_down(x), high = low + 1;  // past 2^24, a float's high may equal its low
  return {low, high, 1 - (x - low), 1 - (high - x)};
}

// The four neighbours of a point: (low, low), (high, low), (low, high), (high, high), each (row, column), the order of
// the output's sum; their positions in a plane, and their weights.
template <typename T>
struct Corners {
  bool inside[4];
  int64_t offset[4];
  T weight[4];

  RMPE_INLINE Corners(const Neighbours<T>& row, const Neighbours<T>& column, int64_t h, int64_t w) {
    const int32_t rows[2] = {to_index(row.low), to_index(row.high)};
    const int32_t columns[2] = {to_index(column.low), to_index(column.high)};
    const T row_weight[2] = {row.low_weight, row.high_weight};
    const T column_weight[2] = {column.low_weight, column.high_weight};
    for (int k = 0; k < 4; ++k) {
      const int32_t r = rows[k % 2], c = columns[k / 2];
      // as unsigned numbers, negative ones are too large; sides fit in 31 bits
      inside[k] = (static_cast<uint32_t>(r) < static_cast<uint32_t>(h)) &
                  (static_cast<uint32_t>(c) < static_cast<uint32_t>(w));
      offset[k] = r * w + c;
      weight[k] = row_weight[k % 2] * column_weight[k / 2];
    }
  }

  // The values at the neighbours; nothing outside the plane is read.
  RMPE_INLINE void read(const T* plane, T (&pixel)[4]) const {
    for (int k = 0; k < 4; ++k) pixel[k] = inside[k] ? plane[offset[k]] : 0;
  }
};

// The value of one channel at a point, from the values of its neighbours.
template <bool kFused, typename T>
RMPE_INLINE T blend(const Corners<T>& corners, const T (&pixel)[4]) {
  T sum = 0;
  for (int k = 0; k < 4; ++k) sum = corners.inside[k] ? multiply_add<kFused>(corners.weight[k], pixel[k], sum) : sum;
  return sum;
}

// One term of d row or d column: weight * pixel * grad * size, halved with the given sign, added to the sum.
template <bool kFused, int kSign, typename V>
RMPE_INLINE V add_slope(V sum, V weight, V pixel, V grad, V size) {
  return multiply_add<kFused>(weight * pixel * grad * size, splat<V>(kSign * 0.5), sum);
}

// d row and d column of one point.
template <typename V>
struct Slope {
  V row, column;
};

// Adds the terms of neighbour (kRow, kColumn), each 0 for low or 1 for high.
template <bool kFused, int kRow, int kColumn, typename V>
RMPE_INLINE void add_neighbour(Slope<V>& slope, const Neighbours<V>& row, const Neighbours<V>& column, V pixel, V grad,
                               V h, V w) {
  slope.row = add_slope<kFused, kRow ? 1 : -1>(slope.row, kColumn ? column.high_weight : column.low_weight, pixel,
                                               grad, h);
  slope.column = add_slope<kFused, kColumn ? 1 : -1>(slope.column, kRow ? row.high_weight : row.low_weight, pixel,
                                                     grad, w);
}

// One term of d theta: a double product, rounded to T once.
template <typename T>
RMPE_INLINE T theta_term(T slope, double at) {
  return static_cast<T>(slope * at);
}

// All six at a cell (u, v).
template <typename V, typename Double>
RMPE_INLINE void theta_terms(const Slope<V>& slope, const Double& u, const Double& v, V* term) {
  term[0] = theta_term(slope.row, u);
  term[1] = theta_term(slope.row, v);
  term[2] = slope.row;
  term[3] = theta_term(slope.column, u);
  term[4] = theta_term(slope.column, v);
  term[5] = slope.column;
}

// d row and d column of one channel at a point with gradient grad. The neighbours are added in the published kernel's
// order, which differs from the output's.
template <bool kFused, typename T>
RMPE_INLINE Slope<T> slope_at(const Neighbours<T>& row, const Neighbours<T>& column, const Corners<T>& corners,
                              const T* plane, T h, T w, T grad) {
  T pixel[4];
  corners.read(plane, pixel);
  Slope<T> slope = {0, 0};
  if (corners.inside[0]) add_neighbour<kFused, 0, 0>(slope, row, column, pixel[0], grad, h, w);
  if (corners.inside[2]) add_neighbour<kFused, 0, 1>(slope, row, column, pixel[2], grad, h, w);
  if (corners.inside[1]) add_neighbour<kFused, 1, 0>(slope, row, column, pixel[1], grad, h, w);
  if (corners.inside[3]) add_neighbour<kFused, 1, 1>(slope, row, column, pixel[3], grad, h, w);
  return slope;
}

// a b - c d without cancellation.
RMPE_INLINE double difference_of_products(double a, double b, double c, double d) {
  const double cd = c * d;
  return fused_multiply_add(a, b, -cd) + fused_multiply_add(-c, d, cd);
}

// gamma, the map that undoes theta = [A | b]: [A^-1 | -A^-1 b], in double precision.
// For a singular theta, gives the identity, as in st_layer.cu:122-125, and returns false.
RMPE_INLINE bool invert(const double (&theta)[6], double (&gamma)[6]) {
  const double a = theta[0], b = theta[1], c = theta[2], d = theta[3], e = theta[4], f = theta[5];
  const double det = difference_of_products(a, e, b, d);
  const bool regular = det != 0;
  gamma[0] = regular ? e / det : 1;
  gamma[1] = regular ? -b / det : 0;
  gamma[2] = regular ? difference_of_products(b, f, e, c) / det : 0;
  gamma[3] = regular ? -d / det : 0;
  gamma[4] = regular ? a / det : 1;
  gamma[5] = regular ? difference_of_products(d, c, a, f) / det : 0;
  return regular;
}

// The same, rounded to T once.
template <typename T>
RMPE_INLINE void invert(const T* theta, T* gamma) {
  double from[6], to[6];
  for (int k = 0; k < 6; ++k) from[k] = theta[k];
  invert(from, to);
  for (int k = 0; k < 6; ++k) gamma[k] = static_cast<T>(to[k]);
}

// d theta from d gamma; zero where theta is singular (st_layer.cu:346-349).
// With gamma = [G | h]: dA = -G^T (dG G^T + dh h^T), db = -G^T dh.
template <typename T>
RMPE_INLINE void invert_gradient(const T* theta, const T* d_gamma, T* d_theta) {
  double from[6], g[6], m[4];
  for (int k = 0; k < 6; ++k) from[k] = theta[k];
  const bool regular = invert(from, g);
  for (int i = 0; i < 2; ++i) {
    const T* d = d_gamma + 3 * i;
    for (int j = 0; j < 2; ++j) m[2 * i + j] = d[0] * g[3 * j] + d[1] * g[3 * j + 1] + d[2] * g[3 * j + 2];
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      d_theta[3 * i + j] = regular ? static_cast<T>(-(g[i] * m[j] + g[3 + i] * m[2 + j])) : 0;
    }
    d_theta[3 * i + 2] = regular ? static_cast<T>(-(g[i] * d_gamma[2] + g[3 + i] * d_gamma[5])) : 0;
  }
}

}  // namespace rmpe
