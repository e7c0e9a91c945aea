// The spatial transformer on CUDA: check, allocate, launch.
//
// Forward gives the same bits as the CPU. So does backward if `deterministic` is set
// (torch.use_deterministic_algorithms): one thread sums each number of d theta, and one each pixel of d image, in the
// CPU's order. Otherwise the sums use atomicAdd, whose order varies from run to run.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/launch.h"
#include "cuda/spatial_transformer_kernels.h"
#include "spatial_transformer_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

template <typename T>
BatchWarp<T> share_out(const WarpArguments& args, int64_t places_h, int64_t places_w, int most_together) {
  return BatchWarp<T>(args.theta.const_data_ptr<T>(), args.n, args.channels, args.h, args.w, args.out_h, args.out_w,
                      places_h, places_w, most_together);
}

Tensor spatial_transformer(const Tensor& image, const Tensor& theta, int64_t out_h, int64_t out_w, bool fused) {
  const WarpArguments args("spatial_transformer", image, theta, out_h, out_w);
  const OnDeviceOf device(image);
  Tensor out = uninitialized(image, {args.n, args.channels, out_h, out_w});
  if (out.numel() == 0) return out;
  with_type(image, [&](auto type) {
    using T = decltype(type);
    const BatchWarp<T> warp = share_out<T>(args, out_h, out_w, 8);
    const auto kernel = fused ? sample_kernel<true, T> : sample_kernel<false, T>;
    kernel<<<grid_for(warp.blocks), kThreads, 0, device.stream()>>>(warp, args.image.const_data_ptr<T>(),
                                                                    out.mutable_data_ptr<T>());
    check_launch();
  });
  return out;
}

// With atomics. Gradients that are not needed are null.
template <bool kFused, typename T>
void gradient(const WarpArguments& args, const OnDeviceOf& device, const T* grad, T* d_image, T* d_theta) {
  const BatchWarp<T> warp = share_out<T>(args, args.out_h, args.out_w, 8);
  if (warp.blocks == 0 || (d_image == nullptr && d_theta == nullptr)) return;
  const auto kernel = d_theta == nullptr   ? gradient_kernel<kFused, true, false, T>
                      : d_image == nullptr ? gradient_kernel<kFused, false, true, T>
                                           : gradient_kernel<kFused, true, true, T>;
  kernel<<<grid_for(warp.blocks), kThreads, 0, device.stream()>>>(warp, args.image.const_data_ptr<T>(), grad, d_image,
                                                                  d_theta);
  check_launch();
}

// In the CPU's order.
template <bool kFused, typename T>
void gradient_ordered(const WarpArguments& args, const OnDeviceOf& device, const T* grad, T* d_image, T* d_theta) {
  if (d_theta != nullptr && args.n > 0) {
    const BatchWarp<T> warp = share_out<T>(args, args.out_h, args.out_w, 1);
    theta_gradient_ordered_kernel<kFused, T><<<grid_for(args.n), kSummers + kThreads, 0, device.stream()>>>(
        warp, args.image.const_data_ptr<T>(), grad, d_theta);
    check_launch();
  }
  const BatchWarp<T> warp = share_out<T>(args, args.h, args.w, kMostTogether);
  if (d_image == nullptr || warp.blocks == 0) return;
  Tensor grid = torch::stable::new_empty(args.image, {args.out_h + args.out_w}, ScalarType::Double);
  double *rows = grid.mutable_data_ptr<double>(), *columns = rows + args.out_h;
  if (grid.numel() > 0) {
    grid_kernel<<<grid_for((grid.numel() + kThreads - 1) / kThreads), kThreads, 0, device.stream()>>>(
        args.out_h, args.out_w, rows, columns);
    check_launch();
  }
  image_gradient_ordered_kernel<kFused, T><<<grid_for(warp.blocks), kThreads, 0, device.stream()>>>(
      warp, rows, columns, grad, d_image);
  check_launch();
}

std::tuple<Tensor, Tensor> spatial_transformer_backward(const Tensor& grad, const Tensor& image, const Tensor& theta,
                                                        bool fused, bool deterministic, bool need_image,
                                                        bool need_theta) {
  const char* op = "spatial_transformer_backward";
  check(grad.dim() == 4, op, ": grad must be (N, C, out_h, out_w), got ", Shape{grad});
  const WarpArguments args(op, image, theta, grad.size(2), grad.size(3));
  const Tensor from = check_gradient(op, grad, args);
  const OnDeviceOf device(image);
  Tensor d_image = torch::stable::new_zeros(image, need_image ? args.image.sizes() : kNone);
  Tensor d_theta = torch::stable::new_zeros(theta, need_theta ? args.theta.sizes() : kNone);
  with_type(image, [&](auto type) {
    using T = decltype(type);
    T* image_to = need_image ? d_image.mutable_data_ptr<T>() : nullptr;
    T* theta_to = need_theta ? d_theta.mutable_data_ptr<T>() : nullptr;
    const auto run = deterministic ? (fused ? gradient_ordered<true, T> : gradient_ordered<false, T>)
                                   : (fused ? gradient<true, T> : gradient<false, T>);
    run(args, device, from.const_data_ptr<T>(), image_to, theta_to);
  });
  return {d_image, d_theta};
}

Tensor invert_theta(const Tensor& theta) {
  const Tensor from = check_theta("invert_theta", "theta", theta);
  const OnDeviceOf device(theta);
  Tensor gamma = uninitialized(from, from.sizes());
  const int64_t n = theta.size(0);
  if (n == 0) return gamma;
  with_type(theta, [&](auto type) {
    using T = decltype(type);
    invert_theta_kernel<T><<<grid_for((n + kThreads - 1) / kThreads), kThreads, 0, device.stream()>>>(
        n, from.const_data_ptr<T>(), gamma.mutable_data_ptr<T>());
    check_launch();
  });
  return gamma;
}

Tensor invert_theta_backward(const Tensor& grad, const Tensor& theta) {
  const InverseArguments args(grad, theta);
  const OnDeviceOf device(theta);
  Tensor d_theta = uninitialized(args.theta, args.theta.sizes());
  const int64_t n = theta.size(0);
  if (n == 0) return d_theta;
  with_type(theta, [&](auto type) {
    using T = decltype(type);
    invert_theta_backward_kernel<T><<<grid_for((n + kThreads - 1) / kThreads), kThreads, 0, device.stream()>>>(
        n, args.theta.const_data_ptr<T>(), args.grad.const_data_ptr<T>(), d_theta.mutable_data_ptr<T>());
    check_launch();
  });
  return d_theta;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CUDA, m) {
  m.impl("spatial_transformer", TORCH_BOX(&spatial_transformer));
  m.impl("spatial_transformer_backward", TORCH_BOX(&spatial_transformer_backward));
  m.impl("invert_theta", TORCH_BOX(&invert_theta));
  m.impl("invert_theta_backward", TORCH_BOX(&invert_theta_backward));
}

}  // namespace rmpe
