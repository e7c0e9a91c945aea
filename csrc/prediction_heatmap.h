// Where a heatmap peaks, once for host and device: prediction_heatmap_layer.cpp:40-90 of RMPE@5188c23.
//
// The published code copies each map (h, w) into a matrix of h rows and w columns with rows and columns exchanged, that
// is to place x w + y, and takes the first maximum there. So
// - in a square map the peak is the greatest value; of equal ones that with the smallest x, then the smallest y;
// - in a tall map (h > w) some places are written twice and keep the later value, and the places from (w - 1) w + h on,
//   if any, keep 0: the peak may be one of them, and its x and y are those of the matrix;
// - a wide map (w > h) does not fit the matrix. Differs: it is copied to places x h + y, so that nothing is lost.
#pragma once
#include "numeric.h"

namespace rmpe {

struct HeatmapPlaces {
  int64_t h, w, stride;

  RMPE_INLINE HeatmapPlaces(int64_t h, int64_t w) : h(h), w(w), stride(h < w ? h : w) {}
  RMPE_INLINE int64_t place(int64_t x, int64_t y) const { return x * stride + y; }
  // How many values of a row, from the left, no later row writes over.
  RMPE_INLINE int64_t kept(int64_t y) const { return y + stride < h ? 1 : w; }
  // Whether places are left at 0, and the first of them.
  RMPE_INLINE bool has_empty() const { return h > stride && w > 1; }
  RMPE_INLINE int64_t first_empty() const { return (w - 1) * stride + h; }
  RMPE_INLINE int64_t x_of(int64_t place) const { return place / stride; }
  RMPE_INLINE int64_t y_of(int64_t place) const { return place % stride; }
};

struct Peak {
  float score;  // single precision also of doubles, as in the published code
  int64_t place;
};

// A map in which no value compares as greater (NaN, negative infinity) peaks at its first place.
RMPE_INLINE Peak no_peak(const HeatmapPlaces& places) {
  return places.has_empty() ? Peak{0.0f, places.first_empty()} : Peak{-HUGE_VALF, 0};
}

RMPE_INLINE bool beats(const Peak& a, const Peak& b) {
  return a.score > b.score || (a.score == b.score && a.place < b.place);
}

}  // namespace rmpe
