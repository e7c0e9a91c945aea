// The loops that are compiled for more than one instruction set, and the choice among them at run time.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>

// GCC can compile one file for another machine (#pragma GCC target); where that is not so, the baseline serves.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RMPE_HAVE_AVX2 1
#else
#define RMPE_HAVE_AVX2 0
#endif

namespace rmpe {

// One image's warp. Planes are contiguous, the channels one after the other.
template <typename T>
struct Warp {
  int64_t channels, h, w, out_h, out_w;
  const T* theta;         // six numbers
  const double* rows;     // cell(s, out_h)
  const double* columns;  // cell(t, out_w)
  const T* columns_t;     // the same as T
  bool small;             // whether T counts the image's rows and columns, and an int32 its pixels
};

constexpr int kPlanes = 4;  // channels that are worked on together, at most

// Each function is there twice: [fused].
template <typename T>
struct Kernels {
  // Rows [begin, end) of the warped output of so many channels.
  void (*sample[2])(const Warp<T>& warp, int planes, const T* image, int64_t begin, int64_t end, T* out);
  // d theta, from all channels.
  void (*theta_gradient[2])(const Warp<T>& warp, const T* image, const T* grad, T* d_theta);
  // Adds to d image of so many channels.
  void (*image_gradient[2])(const Warp<T>& warp, int planes, const T* grad, T* d_image);
  // y = x slope + bias
  void (*affine[2])(const T* x, T slope, T bias, int64_t count, T* y);
};

template <typename T>
Kernels<T> baseline_kernels();
template <typename T>
Kernels<T> avx2_kernels();

// Whether to run what is compiled for AVX2. ATEN_CPU_CAPABILITY=default turns it off, here as in torch.
inline bool use_avx2() {
#if RMPE_HAVE_AVX2
  static const bool use = [] {
    const char* wanted = std::getenv("ATEN_CPU_CAPABILITY");
    const bool off = wanted != nullptr && std::strcmp(wanted, "default") == 0;
    return !off && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }();
  return use;
#else
  return false;
#endif
}

template <typename T>
Kernels<T> best_kernels() {
#if RMPE_HAVE_AVX2
  if (use_avx2()) return avx2_kernels<T>();
#endif
  return baseline_kernels<T>();
}

}  // namespace rmpe
