// The spatial transformer on the CPU: check, allocate, share the work out. The loops: spatial_transformer_loops.h.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/tasks.h"
#include "spatial_transformer.h"
#include "spatial_transformer_checks.h"

namespace rmpe {
namespace {

// The output's grid, which all images share: one number a row, and one a column.
template <typename T>
class Grid {
 public:
  explicit Grid(const WarpArguments& warp) : warp_(warp), rows_(warp.out_h), columns_(warp.out_w) {
    for (int64_t s = 0; s < warp.out_h; ++s) rows_[s] = cell(s, warp.out_h);
    for (int64_t t = 0; t < warp.out_w; ++t) columns_[t] = cell(t, warp.out_w);
    columns_t_.assign(columns_.begin(), columns_.end());
  }

  Warp<T> of_image(int64_t i) const {
    constexpr int64_t kCounts = std::is_same_v<T, float> ? int64_t{1} << 24 : int64_t{1} << 31;
    const bool small = warp_.h <= kCounts && warp_.w <= kCounts && warp_.h * warp_.w <= INT32_MAX;
    return {warp_.channels, warp_.h, warp_.w, warp_.out_h, warp_.out_w, warp_.theta.const_data_ptr<T>() + 6 * i,
            rows_.data(), columns_.data(), columns_t_.data(), small};
  }

 private:
  const WarpArguments& warp_;
  std::vector<double> rows_, columns_;
  std::vector<T> columns_t_;
};

template <typename T>
void sample_all(const WarpArguments& warp, bool fused, Tensor& out) {
  const Grid<T> grid(warp);
  const auto sample = best_kernels<T>().sample[fused];
  const T* image = warp.image.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  constexpr int64_t kValues = 1 << 14;  // of a task, about
  const int64_t groups = (warp.channels + kPlanes - 1) / kPlanes;
  const int64_t rows = std::max<int64_t>(1, kValues / (kPlanes * std::max<int64_t>(1, warp.out_w)));
  const int64_t bands = (warp.out_h + rows - 1) / rows;
  for_each_task(warp.n * groups * bands, out.numel(), [&](int64_t task) {
    const int64_t band = task % bands, group = task / bands % groups, i = task / bands / groups;
    const int64_t channel = group * kPlanes, plane = i * warp.channels + channel;
    const int planes = static_cast<int>(std::min<int64_t>(kPlanes, warp.channels - channel));
    sample(grid.of_image(i), planes, image + plane * warp.h * warp.w, band * rows,
           std::min(warp.out_h, (band + 1) * rows), to + plane * warp.out_h * warp.out_w);
  });
}

// A task is d theta of one image, or d image of some channels. Each is one thread's, so no sum depends on how many
// there are.
template <typename T>
void gradient_all(const WarpArguments& warp, const Tensor& grad, bool fused, Tensor* d_image, Tensor* d_theta) {
  const Grid<T> grid(warp);
  const Kernels<T> kernels = best_kernels<T>();
  const T* image = warp.image.const_data_ptr<T>();
  const T* from = grad.const_data_ptr<T>();
  T* image_to = d_image ? d_image->mutable_data_ptr<T>() : nullptr;
  T* theta_to = d_theta ? d_theta->mutable_data_ptr<T>() : nullptr;
  const int64_t pixels = warp.h * warp.w, cells = warp.out_h * warp.out_w;
  const int64_t groups = (warp.channels + kPlanes - 1) / kPlanes;
  const int64_t thetas = d_theta ? warp.n : 0;
  for_each_task(thetas + (d_image ? warp.n * groups : 0), grad.numel(), [&](int64_t task) {
    if (task < thetas) {
      const int64_t plane = task * warp.channels;
      kernels.theta_gradient[fused](grid.of_image(task), image + plane * pixels, from + plane * cells,
                                    theta_to + 6 * task);
      return;
    }
    const int64_t i = (task - thetas) / groups, channel = (task - thetas) % groups * kPlanes;
    const int64_t plane = i * warp.channels + channel;
    const int planes = static_cast<int>(std::min<int64_t>(kPlanes, warp.channels - channel));
    std::memset(image_to + plane * pixels, 0, planes * pixels * sizeof(T));
    kernels.image_gradient[fused](grid.of_image(i), planes, from + plane * cells, image_to + plane * pixels);
  });
}

Tensor spatial_transformer(const Tensor& image, const Tensor& theta, int64_t out_h, int64_t out_w, bool fused) {
  const WarpArguments warp("spatial_transformer", image, theta, out_h, out_w);
  Tensor out = torch::stable::new_empty(image, {warp.n, warp.channels, out_h, out_w});
  if (out.numel() > 0) with_type(image, [&](auto type) { sample_all<decltype(type)>(warp, fused, out); });
  return out;
}

// deterministic: nothing else is ever done here.
std::tuple<Tensor, Tensor> spatial_transformer_backward(const Tensor& grad, const Tensor& image, const Tensor& theta,
                                                        bool fused, bool /*deterministic*/, bool need_image,
                                                        bool need_theta) {
  const char* op = "spatial_transformer_backward";
  check(grad.dim() == 4, op, ": grad must be (N, C, out_h, out_w), got ", shape(grad));
  const WarpArguments warp(op, image, theta, grad.size(2), grad.size(3));
  const Tensor from = check_gradient(op, grad, warp);
  Tensor d_image = torch::stable::new_empty(image, need_image ? warp.image.sizes() : kNone);
  Tensor d_theta = torch::stable::new_empty(theta, need_theta ? warp.theta.sizes() : kNone);
  with_type(image, [&](auto type) {
    gradient_all<decltype(type)>(warp, from, fused, need_image ? &d_image : nullptr, need_theta ? &d_theta : nullptr);
  });
  return {d_image, d_theta};
}

Tensor invert_theta(const Tensor& theta) {
  const Tensor from = check_theta("invert_theta", "theta", theta);
  Tensor gamma = torch::stable::empty_like(from);
  with_type(theta, [&](auto type) {
    using T = decltype(type);
    const T* in = from.const_data_ptr<T>();
    T* out = gamma.mutable_data_ptr<T>();
    for (int64_t i = 0; i < theta.size(0); ++i) invert(in + 6 * i, out + 6 * i);
  });
  return gamma;
}

Tensor invert_theta_backward(const Tensor& grad, const Tensor& theta) {
  const InverseArguments args(grad, theta);
  Tensor d_theta = torch::stable::empty_like(args.theta);
  with_type(theta, [&](auto type) {
    using T = decltype(type);
    const T *in = args.theta.const_data_ptr<T>(), *d_in = args.grad.const_data_ptr<T>();
    T* out = d_theta.mutable_data_ptr<T>();
    for (int64_t i = 0; i < theta.size(0); ++i) invert_gradient(in + 6 * i, d_in + 6 * i, out + 6 * i);
  });
  return d_theta;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("spatial_transformer", TORCH_BOX(&spatial_transformer));
  m.impl("spatial_transformer_backward", TORCH_BOX(&spatial_transformer_backward));
  m.impl("invert_theta", TORCH_BOX(&invert_theta));
  m.impl("invert_theta_backward", TORCH_BOX(&invert_theta_backward));
}

}  // namespace rmpe
