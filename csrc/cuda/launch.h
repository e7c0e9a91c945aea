// Launches kernels on the tensor's device and torch's current stream, and reports every error.
#pragma once
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>

#include "checks.h"

namespace rmpe {

// Makes a tensor's device the current one during its lifetime.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// Throws if the last kernel could not be launched.
inline void check_launch() {
  const cudaError_t error = cudaGetLastError();
  check(error == cudaSuccess, "a CUDA kernel could not be launched: ", cudaGetErrorString(error));
}

// Limits the number of blocks to what a launch allows; kernels loop in steps of gridDim.x over the rest.
inline unsigned grid_for(int64_t blocks) {
  constexpr int64_t kMost = 2147483647;
  return static_cast<unsigned>(blocks < kMost ? blocks : kMost);
}

}  // namespace rmpe
