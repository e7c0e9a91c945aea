// Parallel loops over tasks of unequal size: a thread takes the next task as soon as it has finished one.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <new>

namespace rmpe {

// Uninitialized memory for `count` values of T, aligned so that no vector load crosses a cache line.
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

constexpr int64_t kWorthThreads = 1 << 14;  // how many values a loop must compute before threads share it

// Calls run(i, scratch) once for each i in [0, count); scratch is a per-thread buffer of `room` values of T.
// `values`: how many values the whole loop computes; short loops run on one thread.
template <typename T, typename Run>
void for_each_task(int64_t count, int64_t values, int64_t room, const Run& run) {
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
