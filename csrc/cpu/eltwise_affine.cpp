// EltwiseAffine on the CPU: check, allocate, divide the work.
#include "eltwise_affine.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "cpu/kernels.h"
#include "parallel.h"
#include "eltwise_affine_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

template <typename T>
struct Parameters {
  const T *slope, *bias;
  bool shared_slope, shared_bias;

  explicit Parameters(const AffineArguments& affine)
      : slope(affine.slope.const_data_ptr<T>()),
        bias(affine.bias.const_data_ptr<T>()),
        shared_slope(affine.shared_slope),
        shared_bias(affine.shared_bias) {}
  T slope_of(int64_t channel) const { return slope[shared_slope ? 0 : channel]; }
  T bias_of(int64_t channel) const { return bias[shared_bias ? 0 : channel]; }
};

template <typename T>
void forward(const AffineArguments& args, bool fused, Tensor& y) {
  const Parameters<T> parameters(args);
  const auto affine = best_kernels<T>().affine[fused];
  const T* from = args.x.const_data_ptr<T>();
  T* to = y.mutable_data_ptr<T>();
  for_each_task(args.n, y.numel(), [&](int64_t i) {
    for (int64_t c = 0; c < args.channels; ++c) {
      const int64_t at = (i * args.channels + c) * args.positions;
      affine(from + at, parameters.slope_of(c), parameters.bias_of(c), args.positions, to + at);
    }
  });
}

// d slope and d bias of some channels, side by side: each sum waits only for its own last addition.
template <int kTogether, typename T>
void sum_channels(const AffineArguments& args, const T* grad, const T* x, int64_t first, T* slope, T* bias) {
  T slopes[kTogether] = {}, biases[kTogether] = {};
  for (int64_t i = 0; i < args.n; ++i) {
    const int64_t at = (i * args.channels + first) * args.positions;
    for (int64_t p = 0; p < args.positions; ++p) {
      for (int k = 0; k < kTogether; ++k) {
        const T g = grad[at + k * args.positions + p];
        slopes[k] = add_slope_term(slopes[k], g, x[at + k * args.positions + p]);
        biases[k] += g;
      }
    }
  }
  for (int k = 0; k < kTogether; ++k) {
    if (slope != nullptr) slope[first + k] = slopes[k];
    if (bias != nullptr) bias[first + k] = biases[k];
  }
}

// The same for parameters that all channels share.
template <typename T>
void sum_all(const AffineArguments& args, const T* grad, const T* x, T* slope, T* bias) {
  T slopes = 0, biases = 0;
  for (int64_t i = 0; i < args.n * args.channels * args.positions; ++i) {
    slopes = add_slope_term(slopes, grad[i], x[i]);
    biases += grad[i];
  }
  if (slope != nullptr) *slope = slopes;
  if (bias != nullptr) *bias = biases;
}

template <typename T>
void backward(const AffineArguments& args, const Tensor& grad, Tensor& d_x, Tensor& d_slope, Tensor& d_bias) {
  const Parameters<T> parameters(args);
  const T *from = grad.const_data_ptr<T>(), *x = args.x.const_data_ptr<T>();
  T *to = d_x.mutable_data_ptr<T>(), *slope = d_slope.mutable_data_ptr<T>(), *bias = d_bias.mutable_data_ptr<T>();
  constexpr int64_t kTogether = 4;
  const int64_t groups = (args.channels + kTogether - 1) / kTogether;
  const bool shares = args.shared_slope || args.shared_bias;
  for_each_task(shares + groups + args.n, grad.numel(), [&](int64_t task) {
    if (shares && task == 0) {
      sum_all(args, from, x, args.shared_slope ? slope : nullptr, args.shared_bias ? bias : nullptr);
      return;
    }
    task -= shares;
    if (task < groups) {
      if (args.shared_slope && args.shared_bias) return;
      T *slopes = args.shared_slope ? nullptr : slope, *biases = args.shared_bias ? nullptr : bias;
      const int64_t first = task * kTogether, last = std::min(args.channels, first + kTogether);
      if (last - first == kTogether) return sum_channels<kTogether>(args, from, x, first, slopes, biases);
      for (int64_t c = first; c < last; ++c) sum_channels<1>(args, from, x, c, slopes, biases);
      return;
    }
    task -= groups;
    for (int64_t c = 0; c < args.channels; ++c) {
      const int64_t at = (task * args.channels + c) * args.positions;
      const T of_channel = parameters.slope_of(c);
      for (int64_t p = 0; p < args.positions; ++p) to[at + p] = affine_gradient(from[at + p], of_channel);
    }
  });
}

Tensor eltwise_affine(const Tensor& x, const Tensor& slope, const Tensor& bias, bool fused) {
  const AffineArguments args("eltwise_affine", x, slope, bias);
  Tensor y = uninitialized(x, x.sizes());
  with_type(x, [&](auto type) { forward<decltype(type)>(args, fused, y); });
  return y;
}

// deterministic is ignored: the CPU always is.
std::tuple<Tensor, Tensor, Tensor> eltwise_affine_backward(const Tensor& grad, const Tensor& x, const Tensor& slope,
                                                           const Tensor& bias, bool /*deterministic*/) {
  const AffineArguments args("eltwise_affine_backward", x, slope, bias);
  const Tensor from = check_gradient("eltwise_affine_backward", grad, args);
  Tensor d_x = uninitialized(x, x.sizes());
  Tensor d_slope = uninitialized(slope, slope.sizes());
  Tensor d_bias = uninitialized(bias, bias.sizes());
  with_type(x, [&](auto type) { backward<decltype(type)>(args, from, d_x, d_slope, d_bias); });
  return {d_x, d_slope, d_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("eltwise_affine", TORCH_BOX(&eltwise_affine));
  m.impl("eltwise_affine_backward", TORCH_BOX(&eltwise_affine_backward));
}

}  // namespace rmpe
