// Resizing by weighted sums of rows and columns, in double precision: no Python, no torch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rmpe {

// The sources of the values along one axis of the result: for each, `width` source positions and their weights.
struct Taps {
  size_t count;
  size_t width;
  const int32_t* index;   // count x width
  const double* weight;   // count x width
};

// The range of an image's values, which is scaled to [0, 1] before the sums, and back afterwards. Low 0 and span 1
// leave values unchanged.
template <typename T>
struct Range {
  T low;
  T span;
  bool clip;  // the sums to [0, 1]
};

// image: h x w x channels, result: rows.count x columns.count x channels, both without gaps. The image is normalized
// in T; everything after that is done in double precision and rounded once.
template <typename T>
void resample(const T* image, size_t w, size_t channels, const Taps& rows, const Taps& columns, const Range<T>& range,
              T* result);

}  // namespace rmpe
