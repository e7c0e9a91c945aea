// Winograd convolution on the CPU: check, allocate, divide the work.
#include "cpu/winograd.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "checks.h"
#include "parallel.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

Tensor as_channels_last(const Tensor& tensor) {
  return torch::stable::contiguous(tensor, torch::headeronly::MemoryFormat::ChannelsLast);
}

void check_float(const char* op, const char* name, const Tensor& tensor) {
  check(tensor.scalar_type() == ScalarType::Float, op, ": ", name, " must be float, got ", tensor.scalar_type());
}

Tensor transform_weight(const Tensor& weight) {
  constexpr const char* kOp = "winograd_weight";
  const bool fits = weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3;
  check(fits, kOp, ": weight must be (K, C, 3, 3), got ", Shape{weight});
  check_float(kOp, "weight", weight);
  const Tensor from = as_contiguous(weight);
  const int64_t outputs = from.size(0), channels = from.size(1);
  Tensor to = uninitialized(from, {kPoints, blocks(outputs), channels, kBlock});
  winograd_weight(from.const_data_ptr<float>(), outputs, channels, to.mutable_data_ptr<float>());
  return to;
}

// The number of strips in which the tiles are computed. Each strip reads all weights, so strips are the longer the more
// weights there are: of short ones, more stays in the caches (measured on a Zen 4). It is a multiple of the number of
// threads, so that all finish at the same time.
int64_t strips_of(const Winograd& conv) {
  const int64_t threads = torch::stable::get_num_threads(), tiles = conv.tiles();
  const int64_t longest = std::clamp<int64_t>(conv.channels * conv.outputs / 1024, 12, 96);
  return std::min(tiles, (tiles + threads * longest - 1) / (threads * longest) * threads);
}

Tensor convolve(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                const std::optional<Tensor>& term, int64_t outputs, int64_t pad_h, int64_t pad_w,
                int64_t dilation_h, int64_t dilation_w, bool relu) {
  constexpr const char* kOp = "winograd";
  check(x.dim() == 4, kOp, ": x must be (N, C, H, W), got ", Shape{x});
  check_float(kOp, "x", x);
  Winograd conv = {};
  conv.n = x.size(0), conv.channels = x.size(1), conv.h = x.size(2), conv.w = x.size(3);
  conv.pad_h = pad_h, conv.pad_w = pad_w, conv.relu = relu;
  conv.dilation_h = dilation_h, conv.dilation_w = dilation_w, conv.outputs = outputs;
  conv.out_h = conv.h + 2 * (pad_h - dilation_h), conv.out_w = conv.w + 2 * (pad_w - dilation_w);
  check(dilation_h > 0 && dilation_w > 0, kOp, ": dilation must be positive, got ", dilation_h, ", ", dilation_w);
  check(pad_h >= 0 && pad_w >= 0 && conv.out_h > 0 && conv.out_w > 0, kOp, ": x must have rows and columns for one ",
        "output with its padding, got ", Shape{x});
  const std::vector<int64_t> expected = {kPoints, blocks(outputs), conv.channels, kBlock};
  check(weight.sizes().equals(expected) && weight.is_contiguous(), kOp, ": weight must be that of winograd_weight for ",
        conv.channels, " channels and ", outputs, " outputs, got ", Shape{weight});
  check_float(kOp, "weight", weight);
  const std::vector<int64_t> shape = {conv.n, outputs, conv.out_h, conv.out_w};
  const int64_t pixels = conv.out_h * conv.out_w;
  Tensor y = uninitialized(x, shape, {pixels * outputs, 1, conv.out_w * outputs, outputs});
  if (y.numel() == 0) return y;

  const Tensor image = as_channels_last(x);
  Tensor biases = weight, terms = y;
  if (bias) {
    check(bias->dim() == 1 && bias->size(0) == outputs, kOp, ": bias must be (", outputs, ",), got ", Shape{*bias});
    check_float(kOp, "bias", *bias);
    biases = as_contiguous(*bias);
    conv.bias = biases.const_data_ptr<float>();
  }
  if (term) {
    check(term->sizes().equals(shape), kOp, ": term must have the result's shape ", Shape{y}, ", got ", Shape{*term});
    check_float(kOp, "term", *term);
    terms = as_channels_last(*term);
    conv.term = terms.const_data_ptr<float>();
  }
  conv.x = image.const_data_ptr<float>();
  conv.weight = weight.const_data_ptr<float>();
  conv.y = y.mutable_data_ptr<float>();

  const WinogradTiles compute = best_winograd();
  const int64_t tiles = conv.tiles(), strips = strips_of(conv);
  const int64_t room = winograd_room(conv, (tiles + strips - 1) / strips);
  for_each_task<float>(strips, y.numel() * conv.channels, room, [&](int64_t i, float* scratch) {
    compute(conv, i * tiles / strips, (i + 1) * tiles / strips, scratch);
  });
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("winograd_weight", TORCH_BOX(&transform_weight));
  m.impl("winograd", TORCH_BOX(&convolve));
}

}  // namespace rmpe
