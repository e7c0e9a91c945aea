// Memory for an operator's results.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <vector>

namespace rmpe {

using torch::stable::Tensor;

// A tensor of this shape, of the type and on the device of another, contiguous, to begin with anything. Not through
// torch's dispatcher, whose way to the same memory is 20 microseconds longer where other work has had the caches.
inline Tensor uninitialized(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t k = strides.size(); k-- > 1;) strides[k - 1] = strides[k] * (shape[k] > 0 ? shape[k] : 1);
  int32_t type, device_type, device_index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle tensor;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(),
                                                  type, device_type, device_index, &tensor));
  return Tensor(tensor);
}

}  // namespace rmpe
