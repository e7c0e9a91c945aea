// Checks of EltwiseAffine's arguments, the same for every device.
#pragma once
#include "checks.h"

namespace rmpe {

struct AffineArguments {
  Tensor x, slope, bias;  // contiguous
  int64_t n, channels, positions;
  bool shared_slope, shared_bias;  // one for all channels

  AffineArguments(const char* op, const Tensor& given_x, const Tensor& given_slope, const Tensor& given_bias) {
    check(given_x.dim() >= 2, op, ": x must be (N, C, ...), got ", Shape{given_x});
    check_floating(op, "x", given_x);
    n = given_x.size(0);
    channels = given_x.size(1);
    positions = 1;
    for (int64_t i = 2; i < given_x.dim(); ++i) positions *= given_x.size(i);
    shared_slope = check_parameter(op, "slope", given_slope, given_x);
    shared_bias = check_parameter(op, "bias", given_bias, given_x);
    x = as_contiguous(given_x);
    slope = as_contiguous(given_slope);
    bias = as_contiguous(given_bias);
  }

 private:
  bool check_parameter(const char* op, const char* name, const Tensor& parameter, const Tensor& like) const {
    const bool fits = parameter.dim() == 0 || (parameter.dim() == 1 && parameter.size(0) == channels);
    check(fits, op, ": ", name, " must be (", channels, ",), or () for all channels, got ", Shape{parameter});
    check_alike(op, name, parameter, "x", like);
    return parameter.dim() == 0;
  }
};

inline Tensor check_gradient(const char* op, const Tensor& grad, const AffineArguments& affine) {
  const bool fits = grad.sizes().equals(affine.x.sizes());
  check(fits, op, ": grad must have x's shape ", Shape{affine.x}, ", got ", Shape{grad});
  check_alike(op, "grad", grad, "x", affine.x);
  return as_contiguous(grad);
}

}  // namespace rmpe
