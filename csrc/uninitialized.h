// Memory for an operator's results.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <vector>

namespace rmpe {

using torch::stable::Tensor;

// An uninitialized tensor of this shape and these strides, with the type and device of another. Bypasses torch's
// dispatcher, which takes 20 microseconds longer when its code is no longer in the caches.
inline Tensor uninitialized(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef shape,
                            torch::headeronly::IntHeaderOnlyArrayRef strides) {
  int32_t type, device_type, device_index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle tensor;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(),
                                                  type, device_type, device_index, &tensor));
  return Tensor(tensor);
}
// A contiguous one.
inline Tensor uninitialized(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t k = strides.size(); k-- > 1;) strides[k - 1] = strides[k] * (shape[k] > 0 ? shape[k] : 1);
  return uninitialized(like, shape, strides);
}

}  // namespace rmpe
