// Work in parallel that need not be of one size: each thread takes the next task when it is done with one.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace rmpe {

// Calls run(i, scratch) once for each i of [0, count). scratch: `room` values of T, a thread's own, to begin with
// anything. `values`: how many values all of it computes; few are not worth threads.
template <typename T, typename Run>
void for_each_task(int64_t count, int64_t values, int64_t room, const Run& run) {
  constexpr int64_t kWorthThreads = 1 << 14;
  const int64_t threads = values < kWorthThreads ? 1 : torch::stable::get_num_threads();
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {
    std::vector<T> scratch(room);
    for (int64_t i = next++; i < count; i = next++) run(i, scratch.data());
  };
  if (threads == 1) return work(0, 1);
  torch::stable::parallel_for(0, threads < count ? threads : count, 1, work);
}
template <typename Run>
void for_each_task(int64_t count, int64_t values, const Run& run) {
  for_each_task<char>(count, values, 0, [&](int64_t i, char*) { run(i); });
}

}  // namespace rmpe
