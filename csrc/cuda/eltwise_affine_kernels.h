// EltwiseAffine's kernels.
#pragma once
#include "cuda/block.h"
#include "eltwise_affine.h"

namespace rmpe {

// A channel's parameters: one per channel, or one for all.
template <typename T>
struct ChannelParameters {
  const T *slope, *bias;
  bool shared_slope, shared_bias;

  RMPE_INLINE T slope_of(int64_t channel) const { return slope[shared_slope ? 0 : channel]; }
  RMPE_INLINE T bias_of(int64_t channel) const { return bias[shared_bias ? 0 : channel]; }
};

// Index: uint32_t if it can count all values, since dividing by it is several times faster.
template <bool kFused, typename Index, typename T>
__global__ void affine_kernel(ChannelParameters<T> parameters, Index count, Index channels, Index positions,
                              const T* __restrict__ x, T* __restrict__ y) {
  for (Index i = blockIdx.x * Index{kThreads} + threadIdx.x; i < count; i += Index{kThreads} * gridDim.x) {
    const Index c = i / positions % channels;
    y[i] = affine_value<kFused>(x[i], parameters.slope_of(c), parameters.bias_of(c));
  }
}

template <typename Index, typename T>
__global__ void affine_gradient_kernel(ChannelParameters<T> parameters, Index count, Index channels, Index positions,
                                       const T* __restrict__ grad, T* __restrict__ d_x) {
  for (Index i = blockIdx.x * Index{kThreads} + threadIdx.x; i < count; i += Index{kThreads} * gridDim.x) {
    d_x[i] = affine_gradient(grad[i], parameters.slope_of(i / positions % channels));
  }
}

// d slope and d bias of each channel, or of all channels as one; `first` is the first of `channels` in `x`.
// A block sums part of one channel's values: `positions` values in each of n images, `stride` apart.
struct ChannelSums {
  int64_t n, channels, positions, stride, parts;

  RMPE_INLINE int64_t count() const { return n * positions; }
  RMPE_INLINE int64_t at(int64_t channel, int64_t i) const {
    return channel * positions + i / positions * stride + i % positions;
  }
};

// In the fastest order. Outputs are null or initialized to zero.
template <typename T>
__global__ void __launch_bounds__(kThreads) channel_sums_kernel(ChannelSums sums, const T* __restrict__ grad,
                                                                const T* __restrict__ x, T* d_slope, T* d_bias) {
  for (int64_t block = blockIdx.x; block < sums.channels * sums.parts; block += gridDim.x) {
    const int64_t channel = block / sums.parts, part = block % sums.parts;
    T sum[2] = {0, 0};
    for (int64_t i = part * kThreads + threadIdx.x; i < sums.count(); i += sums.parts * kThreads) {
      const T g = grad[sums.at(channel, i)];
      sum[0] = add_slope_term(sum[0], g, x[sums.at(channel, i)]);
      sum[1] += g;
    }
    block_sum(sum);
    if (threadIdx.x == 0 && d_slope != nullptr) atomicAdd(d_slope + channel, sum[0]);
    if (threadIdx.x == 0 && d_bias != nullptr) atomicAdd(d_bias + channel, sum[1]);
  }
}

// In the CPU's order: one block of kSummers + kThreads threads per channel.
template <typename T>
__global__ void __launch_bounds__(kSummers + kThreads) channel_sums_ordered_kernel(ChannelSums sums,
                                                                                   const T* __restrict__ grad,
                                                                                   const T* __restrict__ x, T* d_slope,
                                                                                   T* d_bias) {
  for (int64_t channel = blockIdx.x; channel < sums.channels; channel += gridDim.x) {
    const auto terms = [&](int64_t i, T* term) {
      const T g = grad[sums.at(channel, i)];
      term[0] = add_slope_term(T(0), g, x[sums.at(channel, i)]);
      term[1] = g;
    };
    const T sum = ordered_sum<2, T>(sums.count(), terms);
    if (threadIdx.x == 0 && d_slope != nullptr) d_slope[channel] = sum;
    if (threadIdx.x == 1 && d_bias != nullptr) d_bias[channel] = sum;
  }
}

}  // namespace rmpe
