// What the spatial transformer's loops take and give; the same for every instruction set.
#pragma once
#include <cstdint>

namespace rmpe {

// One image's warp. Planes are contiguous, the channels one after the other.
template <typename T>
struct Warp {
  int64_t channels, h, w, out_h, out_w;
  const T* theta;         // six numbers
  const double* rows;     // cell(s, out_h)
  const double* columns;  // cell(t, out_w)
  const T* columns_t;     // the same as T
  bool small;             // whether T counts the image's rows and columns, and an int32 its pixels
};

constexpr int kPlanes = 4;  // channels that are worked on together, at most

// Each function is there twice: [fused].
template <typename T>
struct WarpKernels {
  // Rows [begin, end) of the output of so many channels.
  void (*sample[2])(const Warp<T>& warp, int planes, const T* image, int64_t begin, int64_t end, T* out);
  // d theta, from all channels.
  void (*theta_gradient[2])(const Warp<T>& warp, const T* image, const T* grad, T* d_theta);
  // Adds to d image of so many channels.
  void (*image_gradient[2])(const Warp<T>& warp, int planes, const T* grad, T* d_image);
};

template <typename T>
WarpKernels<T> baseline_warp();
template <typename T>
WarpKernels<T> avx2_warp();

}  // namespace rmpe
