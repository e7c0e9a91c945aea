// Work in parallel that need not be of one size: each thread takes the next task when it is done with one.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

namespace rmpe {

// Calls run(i) once for each i of [0, count). `values`: how many values all of it computes; few are not worth threads.
template <typename Run>
void for_each_task(int64_t count, int64_t values, const Run& run) {
  constexpr int64_t kWorthThreads = 1 << 14;
  if (values < kWorthThreads) {
    for (int64_t i = 0; i < count; ++i) run(i);
    return;
  }
  const int64_t threads = torch::stable::get_num_threads();
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads < count ? threads : count, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) run(i);
  });
}

}  // namespace rmpe
