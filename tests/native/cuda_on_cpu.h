// Runs CUDA kernels on a CPU: the threads of a block take turns, each as far as the next __syncthreads.
//
// It knows what our kernels use of CUDA: threadIdx.x, blockIdx.x, gridDim.x, __shared__, __syncthreads, atomicAdd. A
// sanitizer then sees what it would see on a GPU. Turns are taken in ascending order in one launch and in descending in
// the next, so that a missing __syncthreads changes a result.
#pragma once
#include <ucontext.h>

#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct Index3 {
  unsigned x;
};
inline Index3 threadIdx, blockIdx, gridDim;

class Block {
 public:
  // Runs the kernel in every thread of every block.
  static void launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
    static bool descending = false;
    descending = !descending;
    Block block(threads, kernel);
    current_ = &block;
    gridDim.x = blocks;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) block.run(descending);
  }

  // Ends a thread's turn.
  static void synchronize() {
    Block& block = *current_;
    swapcontext(&block.threads_[threadIdx.x].context, &block.scheduler_);
  }

 private:
  static constexpr size_t kStack = 1 << 17;
  struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStack]};
    bool done = false;
  };

  Block(unsigned threads, const std::function<void()>& kernel) : threads_(threads), kernel_(kernel) {}

  static void begin() {
    current_->kernel_();
    current_->threads_[threadIdx.x].done = true;
  }

  void run(bool descending) {
    for (Thread& thread : threads_) {
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.get();
      thread.context.uc_stack.ss_size = kStack;
      thread.context.uc_link = &scheduler_;
      thread.done = false;
      makecontext(&thread.context, begin, 0);
    }
    for (bool all_done = false; !all_done;) {
      all_done = true;
      for (unsigned i = 0; i < threads_.size(); ++i) {
        threadIdx.x = descending ? static_cast<unsigned>(threads_.size()) - 1 - i : i;
        if (threads_[threadIdx.x].done) continue;
        swapcontext(&scheduler_, &threads_[threadIdx.x].context);
        all_done = all_done && threads_[threadIdx.x].done;
      }
    }
  }

  static inline Block* current_ = nullptr;
  std::vector<Thread> threads_;
  const std::function<void()>& kernel_;
  ucontext_t scheduler_;
};

inline void __syncthreads() { Block::synchronize(); }

template <typename T>
void atomicAdd(T* at, T value) {
  *at += value;
}
