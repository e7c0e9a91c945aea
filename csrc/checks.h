// Argument checks for all operators. Messages start with the operator's name and end with the given value.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace rmpe {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Words>
void check(bool fine, const Words&... words) {
  if (fine) return;
  std::ostringstream text;
  (text << ... << words);
  throw std::runtime_error(text.str());
}

// The shape of a result that was not requested.
inline const std::vector<int64_t> kNone = {0};

// A tensor's shape, for messages, as Python prints it: [2, 3, 5, 7].
struct Shape {
  const Tensor& tensor;

  friend std::ostream& operator<<(std::ostream& text, const Shape& shape) {
    text << "[";
    for (int64_t i = 0; i < shape.tensor.dim(); ++i) text << (i > 0 ? ", " : "") << shape.tensor.size(i);
    return text << "]";
  }
};

inline void check_floating(const char* op, const char* name, const Tensor& tensor) {
  const ScalarType type = tensor.scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Double, op, ": ", name, " must be float or double, got ",
        type, "; convert it, or use autocast");
}

// Checks that two tensors have the same type and device.
inline void check_alike(const char* op, const char* name, const Tensor& tensor, const char* like_name,
                        const Tensor& like) {
  check(tensor.scalar_type() == like.scalar_type(), op, ": ", name, " must be ", like.scalar_type(), " as ", like_name,
        " is, got ", tensor.scalar_type());
  check(tensor.device() == like.device(), op, ": ", name, " must be on the device of ", like_name,
        ", got another one; move it with .to(", like_name, ".device)");
}

// The tensor itself if it is contiguous, otherwise a copy. torch's own `contiguous` takes longer than computing a small
// result.
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// Calls run(T()), where T is the element type of a tensor that passed check_floating.
template <typename Run>
void with_type(const Tensor& tensor, const Run& run) {
  if (tensor.scalar_type() == ScalarType::Double) {
    run(double());
  } else {
    run(float());
  }
}

}  // namespace rmpe
