// EltwiseAffine's arithmetic, once for host and device: eltwise_affine_layer.{cpp,cu} of RMPE@5188c23.
//
// y = x slope + bias, with one slope and one bias a channel, or one for all. kFused: one rounding, as a GPU build of the
// fork has it; two, as its CPU code.
//
// Sums have one order on every device: d slope and d bias of a channel over images, then positions, ascending; those of
// a parameter that all channels share over the values as they lie in memory.
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

// The term of d slope is rounded before it is added, on the CPU (eltwise_affine_layer.cpp:145) and on the GPU, which
// stores it in between (eltwise_affine_layer.cu:96).
template <typename V>
RMPE_INLINE V add_slope_term(V sum, V grad, V x) {
  return sum + grad * x;
}

}  // namespace rmpe
