// A whole small network in one call. The engine has turned its layers into steps; each image passes through them on its
// own, in scratch memory in which the channels of a pixel lie together. So a layer costs little beyond its arithmetic.
//
// All instruction sets give the same bits: vectors are of channels, so each sum is of one order.
#pragma once
#include <cstdint>

#include "cpu/blocks.h"
#include "cpu/kernels.h"

namespace rmpe {

enum StepKind : int64_t { kCopyStep, kConvolveStep, kPoolStep, kAffineStep, kCombineStep, kSoftmaxStep, kStepKinds };
enum Space : int64_t { kScratchSpace, kInputSpace, kOutputSpace };  // outputs count from kOutputSpace on
enum Activation : int64_t { kNoActivation = -1, kReluActivation = -2 };  // others: where PReLU's slopes lie
enum Combination : int64_t { kSum, kProduct, kMaximum };

// The steps, as lists of int64 that rmpe_legacy/ops/small_net.py writes. `from` and `to` are places in an image's
// scratch memory; `weight`, `bias`, `scale` and so on are places among the parameters.
constexpr int kStepWords = 20;

// Moves values in any order: size[i] of them along three axes, with strides on both sides. Before that, `cleared` values
// from `clear` on become 0, which makes the padding of a convolution.
struct CopyStep {
  int64_t kind, from_space, from, to_space, to;
  int64_t size[3], from_stride[3], to_stride[3];
  int64_t clear, cleared;
};

// y[k] = activation(bias[k] + sum of x[tap] weight[k][tap]), where a tap is a row, column and channel of the kernel.
// Weights: [block of outputs][tap][output of the block], zero beyond the last output; so are bias and slopes. There is no
// padding: a copy has made it.
struct ConvolveStep {
  int64_t kind, from, to;
  int64_t channels, row, pixel;  // of the input: how many are read, and the distance of its rows and pixels
  int64_t outputs, to_pixel;     // distance of the output's pixels
  int64_t out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int64_t weight, bias, activation;
};

// Maximum or mean of windows; padding counts for the mean's divisor, as in Caffe.
struct PoolStep {
  int64_t kind, from, to;
  int64_t channels, h, w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  int64_t mean;
};

// y = activation(x scale + shift) per channel; without `scale`, which is then -1, activation(x).
struct AffineStep {
  int64_t kind, from, to, pixels, channels;
  int64_t scale, shift, activation;
};

// y = x scale[0] + other scale[1], x other, or max(x, other), value by value.
struct CombineStep {
  int64_t kind, from, other, to, count;
  int64_t combination, scale;
};

// Along the channels.
struct SoftmaxStep {
  int64_t kind, from, to, pixels, channels;
};

struct SmallNet {
  const int64_t* steps;
  int64_t count;
  const float* parameters;
};

// One image, with all its values in Caffe's order.
struct SmallNetImage {
  const float* x;
  float* const* outputs;
  float* scratch;
};

// The steps to compute, [begin, end). A convolution may be shared out: then `part` of `parts` parts of its pixels.
struct StepRange {
  int64_t begin, end, part = 0, parts = 1;
};

using SmallNetSteps = void (*)(const SmallNet& net, const SmallNetImage& image, const StepRange& range);

void small_net_baseline(const SmallNet& net, const SmallNetImage& image, const StepRange& range);
void small_net_avx2(const SmallNet& net, const SmallNetImage& image, const StepRange& range);
void small_net_avx512(const SmallNet& net, const SmallNetImage& image, const StepRange& range);

inline SmallNetSteps best_small_net() {
#if RMPE_HAVE_VECTORS
  if (has_avx512()) return small_net_avx512;
  if (has_avx2()) return small_net_avx2;
#endif
  return small_net_baseline;
}

}  // namespace rmpe
