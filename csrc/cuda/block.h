// Code that the kernels share. Like them, it uses only CUDA's language, __syncthreads and atomicAdd, so that
// tests/native/kernels.cpp can run it on a CPU.
#pragma once
#include "numeric.h"

namespace rmpe {

constexpr int kThreads = 256;

// Sums each thread's values over the block, always in the same order; thread 0 receives the sums.
template <int kSums, typename T>
__device__ void block_sum(T (&value)[kSums]) {
  __shared__ T buffer[kSums][kThreads];
  const int me = threadIdx.x;
  for (int k = 0; k < kSums; ++k) buffer[k][me] = value[k];
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (me < half) {
      for (int k = 0; k < kSums; ++k) buffer[k][me] += buffer[k][me + half];
    }
  }
  for (int k = 0; k < kSums; ++k) value[k] = buffer[k][me];
  __syncthreads();
}

// Sums terms 0 to `count` - 1 in the CPU's order, one after another. `terms(i, term)` computes the kSums terms at i.
// To be called by kSummers + kThreads threads: the latter compute a chunk of terms while the first kSums of the former
// add up the previous chunk, one sum each. Returns its sum to each of those.
constexpr int kSummers = 32;

template <int kSums, typename T, typename Terms>
__device__ T ordered_sum(int64_t count, const Terms& terms) {
  __shared__ T buffer[2][kThreads][kSums];
  const int me = threadIdx.x;
  const int64_t chunks = (count + kThreads - 1) / kThreads;
  T sum = 0;
  for (int64_t chunk = 0; chunk <= chunks; ++chunk) {
    if (me >= kSummers && chunk < chunks) {
      const int64_t i = chunk * kThreads + me - kSummers;
      if (i < count) terms(i, buffer[chunk % 2][me - kSummers]);
    } else if (me < kSums && chunk > 0) {
      const int64_t left = count - (chunk - 1) * kThreads;
      const int filled = left < kThreads ? static_cast<int>(left) : kThreads;
#pragma unroll 8
      for (int i = 0; i < filled; ++i) sum += buffer[(chunk - 1) % 2][i][me];
    }
    __syncthreads();
  }
  return sum;
}

}  // namespace rmpe
