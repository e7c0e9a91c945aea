// EltwiseAffine's loop over one channel of one image, for any lanes.
#pragma once
#include "cpu/kernels.h"
#include "cpu/lanes.h"
#include "eltwise_affine.h"

namespace rmpe {
namespace {

template <typename L, bool kFused, typename T = typename L::Type>
void affine(const T* x, T slope, T bias, int64_t count, T* y) {
  using V = typename L::Value;
  const V slopes = splat<V>(slope), biases = splat<V>(bias);
  int64_t i = 0;
  for (; i + L::kCount <= count; i += L::kCount) {
    L::store(y + i, affine_value<kFused>(L::load(x + i), slopes, biases));
  }
  for (; i < count; ++i) y[i] = affine_value<kFused>(x[i], slope, bias);
}

}  // namespace
}  // namespace rmpe
