// Every loop that is compiled once per instruction set, for lanes L. Included by kernels_*.cpp alone.
#pragma once
#include "cpu/eltwise_affine_loops.h"
#include "cpu/spatial_transformer_loops.h"

namespace rmpe {
namespace {

template <typename L>
constexpr Kernels<typename L::Type> kernels_for() {
  return {{sample<L, false>, sample<L, true>},
          {theta_gradient<L, false>, theta_gradient<L, true>},
          {image_gradient<L, false>, image_gradient<L, true>},
          {affine<L, false>, affine<L, true>}};
}

}  // namespace
}  // namespace rmpe
