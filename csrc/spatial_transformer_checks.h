// Checks of the spatial transformer's arguments, the same for every device.
#pragma once
#include "checks.h"

namespace rmpe {

struct WarpArguments {
  Tensor image, theta;  // contiguous
  int64_t n, channels, h, w, out_h, out_w;

  WarpArguments(const char* op, const Tensor& given_image, const Tensor& given_theta, int64_t out_h, int64_t out_w)
      : out_h(out_h), out_w(out_w) {
    check(given_image.dim() == 4, op, ": image must be (N, C, H, W), got ", Shape{given_image});
    check_floating(op, "image", given_image);
    n = given_image.size(0);
    channels = given_image.size(1);
    h = given_image.size(2);
    w = given_image.size(3);
    check(given_theta.dim() == 2 && given_theta.size(0) == n && given_theta.size(1) == 6, op, ": theta must be (", n,
          ", 6), got ", Shape{given_theta});
    check_alike(op, "theta", given_theta, "image", given_image);
    check(out_h >= 0 && out_w >= 0, op, ": the output's size must not be negative, got ", out_h, " x ", out_w);
    check(h <= kLongestSide && w <= kLongestSide, op, ": an image's side must be at most ", kLongestSide, ", got ", h,
          " x ", w);
    image = as_contiguous(given_image);
    theta = as_contiguous(given_theta);
  }

  static constexpr int64_t kLongestSide = 2147483520;  // where to_index saturates
};

// Checks the output's gradient, returns it contiguous, and sets the output size in the arguments.
inline Tensor check_gradient(const char* op, const Tensor& grad, const WarpArguments& warp) {
  check(grad.dim() == 4 && grad.size(0) == warp.n && grad.size(1) == warp.channels, op, ": grad must be (", warp.n,
        ", ", warp.channels, ", out_h, out_w), got ", Shape{grad});
  check_alike(op, "grad", grad, "image", warp.image);
  return as_contiguous(grad);
}

inline Tensor check_theta(const char* op, const char* name, const Tensor& theta) {
  check(theta.dim() == 2 && theta.size(1) == 6, op, ": ", name, " must be (N, 6), got ", Shape{theta});
  check_floating(op, name, theta);
  return as_contiguous(theta);
}

struct InverseArguments {
  Tensor grad, theta;  // contiguous

  InverseArguments(const Tensor& given_grad, const Tensor& given_theta) {
    const char* op = "invert_theta_backward";
    theta = check_theta(op, "theta", given_theta);
    grad = check_theta(op, "grad", given_grad);
    check(grad.size(0) == theta.size(0), op, ": grad must be (", theta.size(0), ", 6), got ", Shape{grad});
    check_alike(op, "grad", grad, "theta", theta);
  }
};

}  // namespace rmpe
