// Which of the compiled instruction sets this machine can run.
#pragma once
#include <cstdlib>
#include <cstring>

// GCC compiles part of a file for another machine (#pragma GCC target).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RMPE_HAVE_AVX2 1
#else
#define RMPE_HAVE_AVX2 0
#endif

namespace rmpe {

// ATEN_CPU_CAPABILITY=default turns AVX2 off here as it does in torch.
inline bool has_avx2() {
#if RMPE_HAVE_AVX2
  static const bool has = [] {
    const char* wanted = std::getenv("ATEN_CPU_CAPABILITY");
    const bool off = wanted != nullptr && std::strcmp(wanted, "default") == 0;
    return !off && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }();
  return has;
#else
  return false;
#endif
}

}  // namespace rmpe
