// EltwiseAffine on CUDA: check, allocate, launch. As in spatial_transformer.cu, gradients are summed in the
// CPU's order if `deterministic` is set, and with atomics otherwise.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "cuda/eltwise_affine_kernels.h"
#include "cuda/launch.h"
#include "eltwise_affine_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

template <typename T>
ChannelParameters<T> parameters_of(const AffineArguments& args) {
  return {args.slope.const_data_ptr<T>(), args.bias.const_data_ptr<T>(), args.shared_slope, args.shared_bias};
}

// Calls launch(Index()) with an integer type that can count the values, rounded up to a whole launch.
template <typename Launch>
void with_index(int64_t count, const Launch& launch) {
  if (count < int64_t{1} << 30) {
    launch(uint32_t());
  } else {
    launch(uint64_t());
  }
}

unsigned elementwise_grid(int64_t count) {
  constexpr int64_t kMost = 1 << 16;  // blocks; each thread takes several values of a large tensor
  return static_cast<unsigned>(std::min(kMost, (count + kThreads - 1) / kThreads));
}

Tensor eltwise_affine(const Tensor& x, const Tensor& slope, const Tensor& bias, bool fused) {
  const AffineArguments args("eltwise_affine", x, slope, bias);
  const OnDeviceOf device(x);
  Tensor y = uninitialized(x, x.sizes());
  const int64_t count = y.numel();
  if (count == 0) return y;
  with_type(x, [&](auto type) {
    with_index(count, [&](auto index) {
      using T = decltype(type);
      using Index = decltype(index);
      const auto kernel = fused ? affine_kernel<true, Index, T> : affine_kernel<false, Index, T>;
      kernel<<<elementwise_grid(count), kThreads, 0, device.stream()>>>(
          parameters_of<T>(args), static_cast<Index>(count), static_cast<Index>(args.channels),
          static_cast<Index>(args.positions), args.x.const_data_ptr<T>(), y.mutable_data_ptr<T>());
      check_launch();
    });
  });
  return y;
}

template <typename T>
void sum_channels(const ChannelSums& sums, const OnDeviceOf& device, bool deterministic, const T* grad, const T* x,
                  T* d_slope, T* d_bias) {
  if (sums.channels == 0 || sums.count() == 0 || (d_slope == nullptr && d_bias == nullptr)) return;
  if (deterministic) {
    channel_sums_ordered_kernel<T><<<grid_for(sums.channels), kSummers + kThreads, 0, device.stream()>>>(
        sums, grad, x, d_slope, d_bias);
  } else {
    channel_sums_kernel<T><<<grid_for(sums.channels * sums.parts), kThreads, 0, device.stream()>>>(
        sums, grad, x, d_slope, d_bias);
  }
  check_launch();
}

// Number of parts of a channel's sum: enough to fill a large GPU, with at least a few values per thread.
int64_t parts_of(int64_t channels, int64_t count) {
  const int64_t wanted = (2048 + channels - 1) / std::max<int64_t>(1, channels);
  return std::max<int64_t>(1, std::min(wanted, count / (8 * kThreads)));
}

std::tuple<Tensor, Tensor, Tensor> eltwise_affine_backward(const Tensor& grad, const Tensor& x, const Tensor& slope,
                                                           const Tensor& bias, bool deterministic) {
  const AffineArguments args("eltwise_affine_backward", x, slope, bias);
  const Tensor from = check_gradient("eltwise_affine_backward", grad, args);
  const OnDeviceOf device(x);
  Tensor d_x = uninitialized(x, x.sizes());
  Tensor d_slope = torch::stable::new_zeros(slope, slope.sizes());
  Tensor d_bias = torch::stable::new_zeros(bias, bias.sizes());
  const int64_t count = d_x.numel();
  if (count == 0) return {d_x, d_slope, d_bias};
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const T *g = from.const_data_ptr<T>(), *in = args.x.const_data_ptr<T>();
    with_index(count, [&](auto index) {
      using Index = decltype(index);
      affine_gradient_kernel<Index, T><<<elementwise_grid(count), kThreads, 0, device.stream()>>>(
          parameters_of<T>(args), static_cast<Index>(count), static_cast<Index>(args.channels),
          static_cast<Index>(args.positions), g, d_x.mutable_data_ptr<T>());
      check_launch();
    });
    T *to_slope = d_slope.mutable_data_ptr<T>(), *to_bias = d_bias.mutable_data_ptr<T>();
    const int64_t image = args.channels * args.positions, values = args.n * args.positions;
    const ChannelSums each = {args.n, args.channels, args.positions, image, parts_of(args.channels, values)};
    const ChannelSums all = {1, 1, count, count, parts_of(1, count)};
    sum_channels<T>(each, device, deterministic, g, in, args.shared_slope ? nullptr : to_slope,
                    args.shared_bias ? nullptr : to_bias);
    sum_channels<T>(all, device, deterministic, g, in, args.shared_slope ? to_slope : nullptr,
                    args.shared_bias ? to_bias : nullptr);
  });
  return {d_x, d_slope, d_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CUDA, m) {
  m.impl("eltwise_affine", TORCH_BOX(&eltwise_affine));
  m.impl("eltwise_affine_backward", TORCH_BOX(&eltwise_affine_backward));
}

}  // namespace rmpe
