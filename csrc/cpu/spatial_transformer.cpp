// The spatial transformer on the CPU: check, allocate, divide the work. The loops are in kernels_*.cpp.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "cpu/kernels.h"
#include "parallel.h"
#include "spatial_transformer.h"
#include "spatial_transformer_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

// The output's grid, which all images share: one number per row, and one per column.
template <typename T>
class Grid {
 public:
  explicit Grid(const WarpArguments& warp) : warp_(warp), rows_(warp.out_h), columns_(warp.out_w + kPad) {
    for (int64_t s = 0; s < warp.out_h; ++s) rows_[s] = cell(s, warp.out_h);
    for (int64_t t = 0; t < warp.out_w; ++t) columns_[t] = cell(t, warp.out_w);
    columns_t_.assign(columns_.begin(), columns_.end());
    const auto holds = [](double x) { return static_cast<double>(static_cast<T>(x)) == x; };
    exact_ = std::all_of(rows_.begin(), rows_.end(), holds) && std::all_of(columns_.begin(), columns_.end(), holds);
  }

  Warp<T> of_image(int64_t i) const {
    return {warp_.channels, warp_.h, warp_.w, warp_.out_h, warp_.out_w, warp_.theta.const_data_ptr<T>() + 6 * i,
            rows_.data(), columns_.data(), columns_t_.data(), exact_};
  }

 private:
  const WarpArguments& warp_;
  std::vector<double> rows_, columns_;
  std::vector<T> columns_t_;
  bool exact_;
};

// Channels [first, first + count) of image i; plane: the first one's number among all images' channels.
struct Group {
  int64_t i, first, plane;
  int count;

  Group(const WarpArguments& warp, int64_t number) {
    const int64_t groups = of(warp);
    i = number / groups;
    first = number % groups * kGroup;
    plane = i * warp.channels + first;
    count = static_cast<int>(std::min<int64_t>(kGroup, warp.channels - first));
  }
  // Number of groups per image.
  static int64_t of(const WarpArguments& warp) { return (warp.channels + kGroup - 1) / kGroup; }
};

template <typename T>
void sample_all(const WarpArguments& warp, bool fused, Tensor& out) {
  const Grid<T> grid(warp);
  const Kernels<T> kernels = best_kernels<T>(vectors_fit(warp.h, warp.w));
  const T* image = warp.image.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  const int64_t room = kernels.sample_room(grid.of_image(0)), groups = warp.n * Group::of(warp);
  // Neighbouring bands of an image read some rows twice, so there are only as many as keep the threads busy.
  const int64_t wanted = room > 0 ? 1 : 4 * static_cast<int64_t>(torch::stable::get_num_threads()) / groups;
  const int64_t rows = wanted <= 1 ? warp.out_h : (warp.out_h + wanted - 1) / wanted;
  const int64_t bands = (warp.out_h + rows - 1) / rows;
  for_each_task<T>(groups * bands, out.numel(), room, [&](int64_t task, T* scratch) {
    const Group group(warp, task / bands);
    const int64_t begin = task % bands * rows;
    kernels.sample[fused](grid.of_image(group.i), group.count, image + group.plane * warp.h * warp.w, begin,
                          std::min(warp.out_h, begin + rows), to + group.plane * warp.out_h * warp.out_w, scratch);
  });
}

// Each sum is computed by one thread, so the number of threads does not change results. A task is d theta of an image,
// or of two if there are enough for all threads; after these, which take longest, d image of some of an image's
// channels. Loops that rearrange an image do so for both gradients at once.
template <typename T>
void gradient_all(const WarpArguments& warp, const Tensor& grad, bool fused, Tensor* d_image, Tensor* d_theta) {
  const Grid<T> grid(warp);
  const Kernels<T> kernels = best_kernels<T>(vectors_fit(warp.h, warp.w));
  const T *image = warp.image.const_data_ptr<T>(), *from = grad.const_data_ptr<T>();
  T* image_to = d_image ? d_image->mutable_data_ptr<T>() : nullptr;
  T* theta_to = d_theta ? d_theta->mutable_data_ptr<T>() : nullptr;
  const int64_t pixels = warp.h * warp.w, cells = warp.out_h * warp.out_w;
  const int64_t room = kernels.gradient_room(grid.of_image(0));
  const int64_t most = warp.n >= 2 * static_cast<int64_t>(torch::stable::get_num_threads()) ? 2 : 1;
  const bool together = d_image && d_theta && most == 2 && kernels.sample_room(grid.of_image(0)) > 0;
  const int64_t thetas = d_theta ? (warp.n + most - 1) / most : 0;
  const int64_t groups = d_image && !together ? warp.n * Group::of(warp) : 0;
  for_each_task<T>(thetas + groups, grad.numel(), room, [&](int64_t task, T* scratch) {
    if (task < thetas) {
      const int64_t i = task * most, plane = i * warp.channels;
      const int images = static_cast<int>(std::min(most, warp.n - i));
      const Warp<T> warps[] = {grid.of_image(i), grid.of_image(i + images - 1)};
      return kernels.gradient[fused](warps, images, image + plane * pixels, from + plane * cells,
                                     together ? image_to + plane * pixels : nullptr, theta_to + 6 * i, scratch);
    }
    const Group group(warp, task - thetas);
    Warp<T> part = grid.of_image(group.i);
    part.channels = group.count;
    kernels.gradient[fused](&part, 1, nullptr, from + group.plane * cells, image_to + group.plane * pixels, nullptr,
                            scratch);
  });
}

Tensor spatial_transformer(const Tensor& image, const Tensor& theta, int64_t out_h, int64_t out_w, bool fused) {
  const WarpArguments warp("spatial_transformer", image, theta, out_h, out_w);
  Tensor out = uninitialized(image, {warp.n, warp.channels, out_h, out_w});
  if (out.numel() > 0) with_type(image, [&](auto type) { sample_all<decltype(type)>(warp, fused, out); });
  return out;
}

// deterministic is ignored: the CPU always is.
std::tuple<Tensor, Tensor> spatial_transformer_backward(const Tensor& grad, const Tensor& image, const Tensor& theta,
                                                        bool fused, bool /*deterministic*/, bool need_image,
                                                        bool need_theta) {
  const char* op = "spatial_transformer_backward";
  check(grad.dim() == 4, op, ": grad must be (N, C, out_h, out_w), got ", Shape{grad});
  const WarpArguments warp(op, image, theta, grad.size(2), grad.size(3));
  const Tensor from = check_gradient(op, grad, warp);
  Tensor d_image = uninitialized(image, need_image ? warp.image.sizes() : kNone);
  Tensor d_theta = uninitialized(theta, need_theta ? warp.theta.sizes() : kNone);
  with_type(image, [&](auto type) {
    gradient_all<decltype(type)>(warp, from, fused, need_image ? &d_image : nullptr, need_theta ? &d_theta : nullptr);
  });
  return {d_image, d_theta};
}

Tensor invert_theta(const Tensor& theta) {
  const Tensor from = check_theta("invert_theta", "theta", theta);
  Tensor gamma = uninitialized(from, from.sizes());
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
  Tensor d_theta = uninitialized(args.theta, args.theta.sizes());
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
