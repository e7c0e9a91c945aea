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

std::vector<Tensor> compute(const Tensor& x, const Tensor& code, const Tensor& parameters) {
  constexpr const char* kOp = "small_net";
  const int64_t* words = code.const_data_ptr<int64_t>();
  const Head& head = *reinterpret_cast<const Head*>(words);
  const int64_t n = x.dim() > 0 ? x.size(0) : 0;
  check(x.scalar_type() == ScalarType::Float, kOp, ": x must be float, got ", x.scalar_type());
  check(x.numel() == n * head.inputs, kOp, ": x must have ", head.inputs, " values per image, got ", Shape{x});
  const Tensor input = as_contiguous(x);

  words += kHeadWords;
  std::vector<Tensor> outputs;
  std::vector<float*> to;
  std::vector<int64_t> values;
  for (int64_t i = 0; i < head.outputs; ++i) {
    std::vector<int64_t> shape(words, words + 1 + *words);
    words += shape.size();
    shape[0] = n;
    outputs.push_back(uninitialized(x, shape));
    to.push_back(outputs.back().mutable_data_ptr<float>());
    values.push_back(n > 0 ? outputs.back().numel() / n : 0);
  }
  const SmallNet net = {words, head.steps, parameters.const_data_ptr<float>()};
  const SmallNetImage run = best_small_net();
  const float* from = input.const_data_ptr<float>();
  for_each_task<float>(n, n * head.products / 64, head.room, [&](int64_t i, float* scratch) {
    std::vector<float*> of_image(to);
    for (size_t k = 0; k < of_image.size(); ++k) of_image[k] += i * values[k];
    run(net, from + i * head.inputs, of_image.data(), scratch);
  });
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("small_net", TORCH_BOX(&compute));
}

}  // namespace rmpe
