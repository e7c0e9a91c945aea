// Finds the output cells that may read a pixel, so that a pixel's sum needs no atomics and keeps the output's order.
#pragma once
#include "numeric.h"

namespace rmpe {

// Along one axis a point lies at origin + per_row s + per_column t, up to `error` pixels of rounding.
struct AxisReach {
  double origin, per_row, per_column, error;
  bool finite;

  template <typename T>
  RMPE_INLINE AxisReach(const T* theta, int64_t size, int64_t out_h, int64_t out_w) {
    const double a = theta[0], b = theta[1], c = theta[2];
    const double epsilon = sizeof(T) == 4 ? 1e-6 : 1e-14;  // the error of ten roundings
    origin = (c - a - b + 1) / 2 * size;
    per_row = a * size / out_h;
    per_column = b * size / out_w;
    error = epsilon * (fabs(a) + fabs(b) + fabs(c) + 1) * size;
    finite = a - a == 0 && b - b == 0 && c - c == 0;
  }

  // Narrows [begin, end) to the columns of row s whose points lie within one pixel of `pixel`, perhaps with a few more.
  RMPE_INLINE void narrow(int64_t pixel, int64_t s, double& begin, double& end) const {
    if (!finite) {  // infinity lies outside; NaN counts as pixel 0
      if (pixel != 0) end = begin;
      return;
    }
    const double ahead = pixel - origin - per_row * s;
    const double width = 1 + error + 1e-9 * (fabs(origin) + fabs(per_row * s) + pixel);
    if (per_column == 0) {
      if (fabs(ahead) > width) end = begin;
      return;
    }
    const double low = ahead - width, high = ahead + width;
    const double first = (per_column > 0 ? low : high) / per_column, last = (per_column > 0 ? high : low) / per_column;
    if (first - 1 > begin) begin = first - 1;
    if (last + 2 < end) end = last + 2;
  }
};

struct Reach {
  AxisReach row, column;
  int64_t out_h, out_w;
  double determinant;
  bool regular;

  template <typename T>
  RMPE_INLINE Reach(const T* theta, int64_t h, int64_t w, int64_t out_h, int64_t out_w)
      : row(theta, h, out_h, out_w), column(theta + 3, w, out_h, out_w), out_h(out_h), out_w(out_w) {
    const double product = row.per_row * column.per_column, other = row.per_column * column.per_row;
    determinant = product - other;
    regular = row.finite && column.finite && fabs(determinant) > 1e-6 * (fabs(product) + fabs(other));
  }

  // Finds the output rows [begin, end) that contain every cell that reads pixel (i, j).
  RMPE_INLINE void rows(int64_t i, int64_t j, int64_t& begin, int64_t& end) const {
    begin = 0;
    end = out_h;
    if (!regular) return;
    const double along = column.per_column * (i - row.origin), across = row.per_column * (j - column.origin);
    const double centre = (along - across) / determinant;
    double radius = fabs(column.per_column) * (1 + row.error) + fabs(row.per_column) * (1 + column.error);
    radius = (radius + 1e-9 * (fabs(along) + fabs(across))) / fabs(determinant) + 1;
    const double low = floor(centre - radius), high = ceil(centre + radius);
    if (!(low <= high)) return;  // something overflowed
    begin = low > 0 ? (low < out_h ? static_cast<int64_t>(low) : out_h) : 0;
    end = high < out_h ? (high >= 0 ? static_cast<int64_t>(high) + 1 : 0) : out_h;
    if (end > out_h) end = out_h;
  }

  // The same for the columns of row s.
  RMPE_INLINE void columns(int64_t i, int64_t j, int64_t s, int64_t& begin, int64_t& end) const {
    double first = 0, last = static_cast<double>(out_w);
    row.narrow(i, s, first, last);
    column.narrow(j, s, first, last);
    const bool any = first < last;
    begin = any ? static_cast<int64_t>(first) : 0;
    end = any ? static_cast<int64_t>(last) : 0;
  }
};

}  // namespace rmpe
