// Finds the peak of a heatmap, on host and device: prediction_heatmap_layer.cpp:40-90 of RMPE@5188c23.
//
// The published code copies each map (h, w), transposed, into a matrix of h rows and w columns: value (x, y) goes to
// index x w + y. It then takes the first maximum of the matrix. Therefore
// - in a square map, the peak is the greatest value; among equal ones, the one with the smallest x, then smallest y;
// - in a tall map (h > w), some indices are written twice and keep the later value, and indices from (w - 1) w + h on
//   keep 0. The peak may be one of those, with the x and y of the matrix;
// - a wide map (w > h) does not fit into the matrix. Differs: index x h + y is used, so that no value is lost.
#pragma once
#include "numeric.h"

namespace rmpe {

struct HeatmapPlaces {
  int64_t h, w, stride;

  RMPE_INLINE HeatmapPlaces(int64_t h, int64_t w) : h(h), w(w), stride(h < w ? h : w) {}
  RMPE_INLINE int64_t place(int64_t x, int64_t y) const { return x * stride + y; }
  // How many values of a row, from the left, are not overwritten by a later row.
  RMPE_INLINE int64_t kept(int64_t y) const { return y + stride < h ? 1 : w; }
  // Whether some indices keep 0, and the first that does.
  RMPE_INLINE bool has_empty() const { return h > stride && w > 1; }
  RMPE_INLINE int64_t first_empty() const { return (w - 1) * stride + h; }
  RMPE_INLINE int64_t x_of(int64_t place) const { return place / stride; }
  RMPE_INLINE int64_t y_of(int64_t place) const { return place % stride; }
};

struct Peak {
  float score;  // single precision even for doubles, as in the published code
  int64_t place;
};

// If no value is greater than the initial one (NaN, negative infinity), the peak is at index 0.
RMPE_INLINE Peak no_peak(const HeatmapPlaces& places) {
  return places.has_empty() ? Peak{0.0f, places.first_empty()} : Peak{-HUGE_VALF, 0};
}

RMPE_INLINE bool beats(const Peak& a, const Peak& b) {
  return a.score > b.score || (a.score == b.score && a.place < b.place);
}

}  // namespace rmpe
