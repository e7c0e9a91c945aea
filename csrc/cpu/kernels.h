// The loops that are compiled for more than one instruction set, and the choice among them at run time.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>

// GCC can compile one file for another machine (#pragma GCC target); where that is not so, the baseline serves.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RMPE_HAVE_AVX 1
#else
#define RMPE_HAVE_AVX 0
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
// For AVX2 and FMA, where avx_fits.
template <typename T>
Kernels<T> avx2_kernels();
// The same loops with AVX-512's further registers and masks, where avx_fits.
template <typename T>
Kernels<T> avx512_kernels();

// Whether T counts an image's rows and columns, and an int32 its pixels.
template <typename T>
bool avx_fits(int64_t h, int64_t w) {
  constexpr int64_t kCounts = sizeof(T) == 4 ? int64_t{1} << 24 : int64_t{1} << 30;
  return h <= kCounts && w <= kCounts && h * w <= INT32_MAX;
}

enum class Machine { kAny, kAvx2, kAvx512 };  // each runs what those before it run

// The machine at hand. ATEN_CPU_CAPABILITY=default or avx2 keeps to what that one runs, here as in torch.
inline Machine this_machine() {
#if RMPE_HAVE_AVX
  static const Machine machine = [] {
    const char* wanted = std::getenv("ATEN_CPU_CAPABILITY");
    const auto wants = [&](const char* name) { return wanted != nullptr && std::strcmp(wanted, name) == 0; };
    if (wants("default") || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Machine::kAny;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    return avx512 && !wants("avx2") ? Machine::kAvx512 : Machine::kAvx2;
  }();
  return machine;
#else
  return Machine::kAny;
#endif
}

template <typename T>
Kernels<T> kernels_of(Machine machine) {
#if RMPE_HAVE_AVX
  if (machine == Machine::kAvx512) return avx512_kernels<T>();
  if (machine == Machine::kAvx2) return avx2_kernels<T>();
#endif
  return baseline_kernels<T>();
}

template <typename T>
Kernels<T> best_kernels(bool fits = true) {
  return kernels_of<T>(fits ? this_machine() : Machine::kAny);
}

}  // namespace rmpe
