// Checks of the detection operators' tensors, and how results are returned.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstring>
#include <vector>

namespace rmpe {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline const float* floats(const Tensor& t, const char* op, const char* name, int64_t dims) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float && t.is_contiguous() && t.dim() == dims, op, ": ", name,
                  " must be contiguous, of single precision and with ", dims, " axes; got ", t.dim(), " axes");
  return static_cast<const float*>(t.const_data_ptr());
}

inline const int64_t* integers(const Tensor& t, const char* op, const char* name, int64_t count) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Long && t.is_contiguous() && t.numel() == count, op, ": ", name,
                  " must be ", count, " contiguous integers (int64), got ", t.numel());
  return static_cast<const int64_t*>(t.const_data_ptr());
}

inline void check_size(const Tensor& t, const char* op, const char* name, int64_t axis, int64_t size) {
  STD_TORCH_CHECK(t.size(axis) == size, op, ": axis ", axis, " of ", name, " must be ", size, ", got ",
                  t.size(axis));
}

// How many images one thread should take, each of `work` boxes or pairs of boxes: waking another thread
// pays off only for at least a millisecond of work.
inline int64_t images_per_thread(int64_t work) { return 1 + (1 << 20) / (work + 1); }

// A new tensor with these values, with the type and device of `like`.
template <typename T>
Tensor tensor_of(const std::vector<T>& values, std::vector<int64_t> shape, ScalarType type, const Tensor& like) {
  Tensor out = torch::stable::new_empty(like, shape, type);
  if (!values.empty()) std::memcpy(out.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
  return out;
}

}  // namespace rmpe
