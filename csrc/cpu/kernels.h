// The loops compiled for more than one instruction set, and the choice between them at run time.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>

// Only GCC can compile a single file for another processor (#pragma GCC target); other compilers build the baseline.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RMPE_HAVE_VECTORS 1
#else
#define RMPE_HAVE_VECTORS 0
#endif

namespace rmpe {

constexpr int kGroup = 8;  // maximum number of channels processed together
constexpr int kPad = 8;    // readable values after a row of the grid

// One image's warp. Planes are contiguous, one channel after the other.
template <typename T>
struct Warp {
  int64_t channels, h, w, out_h, out_w;
  const T* theta;         // six numbers
  const double* rows;     // cell(s, out_h)
  const double* columns;  // cell(t, out_w), and kPad more
  const T* columns_t;     // the same, as T
  bool exact;             // whether T holds every number of the grid
};

// The loops for one instruction set. A pair of functions is indexed by `fused`.
template <typename T>
struct Kernels {
  // Rows [begin, end) of the warped output of `channels` channels, at most kGroup. scratch: sample_room(warp) values;
  // unless that is 0, all rows must be requested.
  void (*sample[2])(const Warp<T>& warp, int channels, const T* image, int64_t begin, int64_t end, T* out, T* scratch);
  int64_t (*sample_room)(const Warp<T>& warp);
  // d image and d theta of `images` images, 1 or 2, whose warps differ only in theta. A null result is not computed; the
  // image is read only for d theta. scratch: gradient_room(warp) values.
  void (*gradient[2])(const Warp<T>* warps, int images, const T* image, const T* grad, T* d_image, T* d_theta,
                      T* scratch);
  int64_t (*gradient_room)(const Warp<T>& warp);
  // y = x slope + bias
  void (*affine[2])(const T* x, T slope, T bias, int64_t count, T* y);
};

// For any processor, one value at a time.
template <typename T>
Kernels<T> baseline_kernels();
template <>
Kernels<float> baseline_kernels();
template <>
Kernels<double> baseline_kernels();
// For x86 with AVX2 and FMA, and with AVX-512 too, if vectors_fit.
Kernels<float> avx2_kernels();
Kernels<float> avx512_kernels();

// Whether a float can hold any row and column number of an image, and an int32 the number of its pixels.
inline bool vectors_fit(int64_t h, int64_t w) {
  constexpr int64_t kCounts = int64_t{1} << 24;
  return h <= kCounts && w <= kCounts && h * w <= INT32_MAX;
}

// ATEN_CPU_CAPABILITY: "default" turns the vector loops off, "avx2" those for AVX-512, here as in torch.
inline bool capability_is(const char* name) {
  const char* capability = std::getenv("ATEN_CPU_CAPABILITY");
  return capability != nullptr && std::strcmp(capability, name) == 0;
}
// Whether this processor runs the AVX2 loops.
inline bool has_avx2() {
#if RMPE_HAVE_VECTORS
  static const bool has =
      !capability_is("default") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
#else
  return false;
#endif
}
// Whether it runs the AVX-512 loops.
inline bool has_avx512() {
#if RMPE_HAVE_VECTORS
  static const bool has = has_avx2() && !capability_is("avx2") && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw");
  return has;
#else
  return false;
#endif
}

// The fastest loops this processor has for T. Double precision, which gradcheck and verify use, has only the baseline.
template <typename T>
Kernels<T> best_kernels(bool /*fits*/ = true) {
  return baseline_kernels<T>();
}
#if RMPE_HAVE_VECTORS
template <>
inline Kernels<float> best_kernels(bool fits) {
  if (!fits || !has_avx2()) return baseline_kernels<float>();
  return has_avx512() ? avx512_kernels() : avx2_kernels();
}
#endif

}  // namespace rmpe
