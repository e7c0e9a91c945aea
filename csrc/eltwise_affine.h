// EltwiseAffine's arithmetic, for host and device: eltwise_affine_layer.{cpp,cu} of RMPE@5188c23.
//
// y = x slope + bias, with one slope and one bias per channel, or one for all. kFused: rounded once, as in a GPU
// build of the fork; otherwise twice, as in its CPU code.
//
// The order of sums is the same on every device: for d slope and d bias of a channel, images, then positions,
// ascending; for a parameter that all channels share, the order of the values in memory.
#pragma once
#include "numeric.h"

namespace rmpe {

template <bool kFused, typename V>
RMPE_INLINE V affine_value(V x, V slope, V bias) {
  return multiply_add<kFused>(x, slope, bias);
}

template <typename V>
RMPE_INLINE V affine_gradient(V grad, V slope) {
  return slope * grad;
}

// Each term of d slope is rounded before it is added, on the CPU (eltwise_affine_layer.cpp:145) and on the GPU, which
// stores it first (eltwise_affine_layer.cu:96).
template <typename V>
RMPE_INLINE V add_slope_term(V sum, V grad, V x) {
  return sum + grad * x;
}

}  // namespace rmpe
