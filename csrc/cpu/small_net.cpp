// A small network on the CPU: check, allocate, divide the work.
#include "cpu/small_net.h"

#include <torch/csrc/stable/library.h>

#include <vector>

#include "checks.h"
#include "parallel.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

// What lies before the steps, and the sizes of the outputs: for each the number of its axes after the batch, then those.
struct Head {
  int64_t steps, room, products, inputs, outputs;
};
constexpr int64_t kHeadWords = sizeof(Head) / sizeof(int64_t);

// As many products take as long as one value of the operators that parallel.h knows.
constexpr int64_t kProductsPerValue = 64;

int64_t products_of(const SmallNet& net, int64_t i) {
  const int64_t* words = net.steps + i * kStepWords;
  if (words[0] != kConvolveStep) return 0;
  const auto& step = *reinterpret_cast<const ConvolveStep*>(words);
  return step.out_h * step.out_w * step.kernel_h * step.kernel_w * step.channels * blocks(step.outputs) * kBlock;
}

// One image by all threads, which share each convolution that is large enough.
void share_steps(const SmallNet& net, const SmallNetImage& image, SmallNetSteps compute) {
  const int64_t threads = torch::stable::get_num_threads();
  for (int64_t i = 0; i < net.count; ++i) {
    const int64_t values = products_of(net, i) / kProductsPerValue, parts = values < kWorthThreads ? 1 : threads;
    for_each_task(parts, values, [&](int64_t part) { compute(net, image, {i, i + 1, part, parts}); });
  }
}

struct Outputs {
  std::vector<Tensor> tensors;
  std::vector<float*> to;
  std::vector<int64_t> values;  // of an image

  // shapes: what follows the head. Returns what follows them.
  const int64_t* allocate(const Tensor& like, int64_t n, int64_t count, const int64_t* shapes) {
    for (int64_t i = 0; i < count; ++i) {
      std::vector<int64_t> shape(shapes, shapes + 1 + *shapes);
      shapes += shape.size();
      shape[0] = n;
      tensors.push_back(uninitialized(like, shape));
      to.push_back(tensors.back().mutable_data_ptr<float>());
      values.push_back(n > 0 ? tensors.back().numel() / n : 0);
    }
    return shapes;
  }
  std::vector<float*> of_image(int64_t i) const {
    std::vector<float*> places(to);
    for (size_t k = 0; k < places.size(); ++k) places[k] += i * values[k];
    return places;
  }
};

std::vector<Tensor> compute_net(const Tensor& x, const Tensor& code, const Tensor& parameters) {
  constexpr const char* kOp = "small_net";
  const int64_t* words = code.const_data_ptr<int64_t>();
  const Head& head = *reinterpret_cast<const Head*>(words);
  const int64_t n = x.dim() > 0 ? x.size(0) : 0;
  check(x.scalar_type() == ScalarType::Float, kOp, ": x must be float, got ", x.scalar_type());
  check(x.numel() == n * head.inputs, kOp, ": x must have ", head.inputs, " values per image, got ", Shape{x});
  const Tensor input = as_contiguous(x);
  Outputs outputs;
  words = outputs.allocate(x, n, head.outputs, words + kHeadWords);

  const SmallNet net = {words, head.steps, parameters.const_data_ptr<float>()};
  const SmallNetSteps compute = best_small_net();
  const float* from = input.const_data_ptr<float>();
  const int64_t values = head.products / kProductsPerValue;
  if (values >= kWorthThreads && n < static_cast<int64_t>(torch::stable::get_num_threads())) {
    Scratch<float> scratch(head.room);
    for (int64_t i = 0; i < n; ++i) {
      share_steps(net, {from + i * head.inputs, outputs.of_image(i).data(), scratch.data()}, compute);
    }
  } else {
    for_each_task<float>(n, n * values, head.room, [&](int64_t i, float* scratch) {
      compute(net, {from + i * head.inputs, outputs.of_image(i).data(), scratch}, {0, net.count});
    });
  }
  return outputs.tensors;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("small_net", TORCH_BOX(&compute_net));
}

}  // namespace rmpe
