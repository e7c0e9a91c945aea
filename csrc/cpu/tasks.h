// Work in parallel that need not be of one size: each thread takes the next task when it is done with one.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <new>

namespace rmpe {

// Memory for `count` values of T, to begin with anything. No register's load crosses two lines of the cache.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : at_(static_cast<T*>(::operator new(count * sizeof(T), kLine))) {}
  ~Scratch() { ::operator delete(at_, kLine); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return at_; }

 private:
  static constexpr std::align_val_t kLine{64};
  T* at_;
};

// Calls run(i, scratch) once for each i of [0, count). scratch: `room` values of T, a thread's own.
// `values`: how many values all of it computes; few are not worth threads.
template <typename T, typename Run>
void for_each_task(int64_t count, int64_t values, int64_t room, const Run& run) {
  constexpr int64_t kWorthThreads = 1 << 14;
  const int64_t threads = values < kWorthThreads ? 1 : torch::stable::get_num_threads();
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {
    Scratch<T> scratch(room);
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
