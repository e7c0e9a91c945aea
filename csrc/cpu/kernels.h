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

constexpr int kPad = 8;  // readable values behind a row of the grid

// One image's warp. Planes are contiguous, the channels one after the other.
template <typename T>
struct Warp {
  int64_t channels, h, w, out_h, out_w;
  const T* theta;         // six numbers
  const double* rows;     // cell(s, out_h)
  const double* columns;  // cell(t, out_w), and kPad more
  const T* columns_t;     // the same as T
  bool exact;             // whether T holds every number of the grid
};

// Each function is there twice: [fused].
template <typename T>
struct Kernels {
  static constexpr int kGroup = 32 / sizeof(T);  // channels that are worked on together, at most

  // Rows [begin, end) of the warped output of `channels` channels, at most kGroup. scratch: sample_room(warp) values;
  // where that is not 0, all rows.
  void (*sample[2])(const Warp<T>& warp, int channels, const T* image, int64_t begin, int64_t end, T* out, T* scratch);
  int64_t (*sample_room)(const Warp<T>& warp);
  // d image and d theta of `images` images, 1 or 2, whose warps differ in theta alone; null: not wanted. Only d theta
  // reads the image. scratch: gradient_room(warp) values.
  void (*gradient[2])(const Warp<T>* warps, int images, const T* image, const T* grad, T* d_image, T* d_theta,
                      T* scratch);
  int64_t (*gradient_room)(const Warp<T>& warp);
  // y = x slope + bias
  void (*affine[2])(const T* x, T slope, T bias, int64_t count, T* y);
};

// For any machine and any size: one value at a time.
template <typename T>
Kernels<T> baseline_kernels();
// For AVX2 and FMA, where avx2_fits.
template <typename T>
Kernels<T> avx2_kernels();

// Whether T counts an image's rows and columns, and an int32 its pixels.
template <typename T>
bool avx2_fits(int64_t h, int64_t w) {
  constexpr int64_t kCounts = sizeof(T) == 4 ? int64_t{1} << 24 : int64_t{1} << 30;
  return h <= kCounts && w <= kCounts && h * w <= INT32_MAX;
}

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
Kernels<T> best_kernels(bool fits = true) {
#if RMPE_HAVE_AVX2
  if (fits && use_avx2()) return avx2_kernels<T>();
#endif
  return baseline_kernels<T>();
}

}  // namespace rmpe
