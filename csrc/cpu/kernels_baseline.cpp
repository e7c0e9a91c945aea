// The loops for any processor, one value at a time, straight from the definitions in the operators' headers.
#include "cpu/kernels.h"
#include "eltwise_affine.h"
#include "spatial_transformer.h"

namespace rmpe {
namespace {

// Calls body(s, t, u, v, row, column) for each cell of rows [begin, end), in order, with its point's neighbours.
template <bool kFused, typename T, typename Body>
RMPE_INLINE void walk(const Warp<T>& warp, int64_t begin, int64_t end, const Body& body) {
  const T h = static_cast<T>(warp.h), w = static_cast<T>(warp.w);
  for (int64_t s = begin; s < end; ++s) {
    const T u = static_cast<T>(warp.rows[s]);
    for (int64_t t = 0; t < warp.out_w; ++t) {
      const T v = warp.columns_t[t];
      body(s, t, neighbours(source<kFused>(warp.theta, u, v, h)), neighbours(source<kFused>(warp.theta + 3, u, v, w)));
    }
  }
}

template <bool kFused, typename T>
void sample(const Warp<T>& warp, int channels, const T* image, int64_t begin, int64_t end, T* out, T* /*scratch*/) {
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  walk<kFused>(warp, begin, end, [&](int64_t s, int64_t t, const Neighbours<T>& row, const Neighbours<T>& column) {
    const Corners<T> corners(row, column, warp.h, warp.w);
    for (int c = 0; c < channels; ++c) {
      T pixel[4];
      corners.read(image + c * plane, pixel);
      out[c * out_plane + s * warp.out_w + t] = blend<kFused>(corners, pixel);
    }
  });
}

template <bool kFused, typename T>
void theta_gradient(const Warp<T>& warp, const T* image, const T* grad, T* d_theta) {
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  T sum[6] = {};
  for (int64_t c = 0; c < warp.channels; ++c, image += plane, grad += out_plane) {
    walk<kFused>(warp, 0, warp.out_h, [&](int64_t s, int64_t t, const Neighbours<T>& row, const Neighbours<T>& column) {
      const Corners<T> corners(row, column, warp.h, warp.w);
      const Slope<T> slope = slope_at<kFused>(row, column, corners, image, static_cast<T>(warp.h),
                                              static_cast<T>(warp.w), grad[s * warp.out_w + t]);
      T term[6];
      theta_terms(slope, warp.rows[s], warp.columns[t], term);
      for (int k = 0; k < 6; ++k) sum[k] += term[k];
    });
  }
  for (int k = 0; k < 6; ++k) d_theta[k] = sum[k];
}

template <bool kFused, typename T>
void image_gradient(const Warp<T>& warp, const T* grad, T* d_image) {
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  std::memset(d_image, 0, warp.channels * plane * sizeof(T));
  walk<kFused>(warp, 0, warp.out_h, [&](int64_t s, int64_t t, const Neighbours<T>& row, const Neighbours<T>& column) {
    const Corners<T> corners(row, column, warp.h, warp.w);
    for (int64_t c = 0; c < warp.channels; ++c) {
      const T g = grad[c * out_plane + s * warp.out_w + t];
      for (int k = 0; k < 4; ++k) {
        if (corners.inside[k]) d_image[c * plane + corners.offset[k]] += corners.weight[k] * g;
      }
    }
  });
}

template <bool kFused, typename T>
void gradient(const Warp<T>* warps, int images, const T* image, const T* grad, T* d_image, T* d_theta, T* /*scratch*/) {
  for (int j = 0; j < images; ++j) {
    const Warp<T>& warp = warps[j];
    const int64_t values = warp.channels * warp.h * warp.w, out_values = warp.channels * warp.out_h * warp.out_w;
    if (d_theta) theta_gradient<kFused>(warp, image + j * values, grad + j * out_values, d_theta + 6 * j);
    if (d_image) image_gradient<kFused>(warp, grad + j * out_values, d_image + j * values);
  }
}

template <typename T>
int64_t no_room(const Warp<T>& /*warp*/) {
  return 0;
}

template <bool kFused, typename T>
void affine(const T* x, T slope, T bias, int64_t count, T* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = affine_value<kFused>(x[i], slope, bias);
}

template <typename T>
constexpr Kernels<T> kernels() {
  return {{sample<false, T>, sample<true, T>},
          no_room<T>,
          {gradient<false, T>, gradient<true, T>},
          no_room<T>,
          {affine<false, T>, affine<true, T>}};
}

}  // namespace

template <>
Kernels<float> baseline_kernels() {
  return kernels<float>();
}
template <>
Kernels<double> baseline_kernels() {
  return kernels<double>();
}

}  // namespace rmpe
