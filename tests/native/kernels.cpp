// The loops of csrc/ without torch: every instruction set, and the CUDA kernels on the CPU, must give the same bits.
// Built by tests/ops/test_native.py, and by `make sanitize` under AddressSanitizer and UBSan.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/small_net.h"
#include "cpu/winograd.h"
#include "cuda_on_cpu.h"
// after it: what they use of CUDA
#include "cuda/eltwise_affine_kernels.h"
#include "cuda/prediction_heatmap_kernels.h"
#include "cuda/spatial_transformer_kernels.h"

using namespace rmpe;

namespace {

int failures = 0, comparisons = 0;

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool both_nan = a[i] != a[i] && b[i] != b[i];  // the kind of NaN depends on the processor
    if (!both_nan && std::memcmp(&a[i], &b[i], sizeof(T)) != 0) return false;
  }
  return true;
}

void report(const char* what, bool fine, const std::string& where) {
  ++comparisons;
  if (fine) return;
  ++failures;
  std::printf("%s differs: %s\n", what, where.c_str());
}

std::mt19937 generator(1701);

template <typename T>
std::vector<T> noise(int64_t count) {
  std::normal_distribution<double> normal;
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

struct Sizes {
  int64_t n, channels, h, w, out_h, out_w;
};

// A batch's warp as every implementation computes it.
template <typename T>
struct Results {
  std::vector<T> out, d_image, d_theta;
};

template <typename T>
struct Batch {
  Sizes z;
  std::vector<T> image, theta, grad;
  int64_t pixels() const { return z.h * z.w; }
  int64_t cells() const { return z.out_h * z.out_w; }
};

// together: of how many images, 1 or 2, the gradients are asked for; of two, both gradients at once.
template <typename T>
Results<T> on_cpu(const Batch<T>& batch, const Kernels<T>& kernels, bool fused, int together = 1) {
  const Sizes& z = batch.z;
  std::vector<double> rows(z.out_h), columns(z.out_w + kPad);
  for (int64_t s = 0; s < z.out_h; ++s) rows[s] = cell(s, z.out_h);
  for (int64_t t = 0; t < z.out_w; ++t) columns[t] = cell(t, z.out_w);
  const std::vector<T> columns_t(columns.begin(), columns.end());
  bool exact = true;
  for (double u : rows) exact = exact && static_cast<T>(u) == u;
  for (double v : columns) exact = exact && static_cast<T>(v) == v;
  Results<T> results = {std::vector<T>(z.n * z.channels * batch.cells()), std::vector<T>(batch.image.size()),
                        std::vector<T>(batch.theta.size())};
  std::vector<Warp<T>> warps;
  for (int64_t i = 0; i < z.n; ++i) {
    warps.push_back({z.channels, z.h, z.w, z.out_h, z.out_w, batch.theta.data() + 6 * i, rows.data(), columns.data(),
                     columns_t.data(), exact});
    // of exactly the size that is asked for, so that AddressSanitizer sees whoever needs more
    std::vector<T> scratch(kernels.sample_room(warps[i]));
    for (int64_t c = 0; c < z.channels; c += kGroup) {
      const int channels = static_cast<int>(std::min<int64_t>(kGroup, z.channels - c));
      const int64_t plane = i * z.channels + c;
      kernels.sample[fused](warps[i], channels, batch.image.data() + plane * batch.pixels(), 0, z.out_h,
                            results.out.data() + plane * batch.cells(), scratch.data());
    }
  }
  std::vector<T> scratch(kernels.gradient_room(warps[0]));
  for (int64_t i = 0, images; i < z.n; i += images) {
    images = std::min<int64_t>(together, z.n - i);
    const int64_t plane = i * z.channels;
    const auto gradient = [&](T* d_image, T* d_theta) {
      kernels.gradient[fused](&warps[i], static_cast<int>(images), batch.image.data() + plane * batch.pixels(),
                              batch.grad.data() + plane * batch.cells(), d_image, d_theta, scratch.data());
    };
    T* const d_image = results.d_image.data() + plane * batch.pixels();
    T* const d_theta = results.d_theta.data() + 6 * i;
    if (together == 2) {
      gradient(d_image, d_theta);
    } else {
      gradient(d_image, nullptr);
      gradient(nullptr, d_theta);
    }
  }
  return results;
}

template <typename T>
BatchWarp<T> shared_out(const Batch<T>& batch, int64_t places_h, int64_t places_w, int together) {
  const Sizes& z = batch.z;
  return BatchWarp<T>(batch.theta.data(), z.n, z.channels, z.h, z.w, z.out_h, z.out_w, places_h, places_w, together);
}

constexpr unsigned kBlocks = 3;  // fewer than there is work for, so that kernels must step over the rest

template <bool kFused, typename T>
Results<T> on_cuda(const Batch<T>& batch, bool deterministic) {
  const Sizes& z = batch.z;
  Results<T> results = {std::vector<T>(z.n * z.channels * batch.cells()), std::vector<T>(batch.image.size()),
                        std::vector<T>(batch.theta.size())};
  const T *image = batch.image.data(), *grad = batch.grad.data();
  const BatchWarp<T> warp = shared_out(batch, z.out_h, z.out_w, 8);
  Block::launch(kBlocks, kThreads, [&] { sample_kernel<kFused>(warp, image, results.out.data()); });
  if (!deterministic) {
    Block::launch(kBlocks, kThreads, [&] {
      gradient_kernel<kFused, true, true>(warp, image, grad, results.d_image.data(), results.d_theta.data());
    });
    return results;
  }
  Block::launch(kBlocks, kSummers + kThreads,
         [&] { theta_gradient_ordered_kernel<kFused>(warp, image, grad, results.d_theta.data()); });
  std::vector<double> rows(z.out_h), columns(z.out_w);
  const unsigned blocks = static_cast<unsigned>((z.out_h + z.out_w + kThreads - 1) / kThreads);
  Block::launch(blocks, kThreads, [&] { grid_kernel(z.out_h, z.out_w, rows.data(), columns.data()); });
  const BatchWarp<T> pixels = shared_out(batch, z.h, z.w, kMostTogether);
  Block::launch(kBlocks, kThreads, [&] {
    image_gradient_ordered_kernel<kFused>(pixels, rows.data(), columns.data(), grad, results.d_image.data());
  });
  return results;
}

template <typename T>
bool close(const std::vector<T>& a, const std::vector<T>& b, double tolerance) {
  double largest = 0;
  for (T value : a) largest = std::max(largest, std::fabs(static_cast<double>(value)));
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::fabs(static_cast<double>(a[i]) - b[i]) <= tolerance * (largest + 1))) return false;
  }
  return true;
}

template <typename T>
void compare(const char* who, const Results<T>& want, const Results<T>& got, const std::string& where) {
  report("output", same_bits(want.out, got.out), who + where);
  report("d image", same_bits(want.d_image, got.d_image), who + where);
  report("d theta", same_bits(want.d_theta, got.d_theta), who + where);
}

struct Vectors {
  const char* name;
  Kernels<float> kernels;
};
// The loops on vectors that this processor runs.
std::vector<Vectors> vectors_here() {
  std::vector<Vectors> all;
  if (has_avx2()) all.push_back({"AVX2", avx2_kernels()});
  if (has_avx512()) all.push_back({"AVX-512", avx512_kernels()});
  return all;
}

// Returns what the baseline gives. The loops on vectors, which are for float, must give the same.
template <bool kFused, typename T>
Results<T> compare_on_cpu(const Batch<T>& batch, const std::string& where) {
  const Results<T> want = on_cpu(batch, baseline_kernels<T>(), kFused);
  if constexpr (sizeof(T) == 4) {
    for (const Vectors& vectors : vectors_here()) {
      compare(vectors.name, want, on_cpu(batch, vectors.kernels, kFused), where);
      compare(vectors.name, want, on_cpu(batch, vectors.kernels, kFused, 2), ", two images" + where);
    }
  }
  return want;
}

template <bool kFused, typename T>
void compare_warps(const Batch<T>& batch, const std::string& where, bool finite) {
  const Results<T> want = compare_on_cpu<kFused>(batch, where);
  compare("CUDA", want, on_cuda<kFused>(batch, true), where);
  if (!finite) return;
  const Results<T> any_order = on_cuda<kFused>(batch, false);
  const double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-12;
  report("output", same_bits(want.out, any_order.out), "CUDA, atomics" + where);
  report("d image", close(want.d_image, any_order.d_image, tolerance), "CUDA, atomics" + where);
  report("d theta", close(want.d_theta, any_order.d_theta, tolerance), "CUDA, atomics" + where);
}

template <typename T>
void test_warps() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const struct {
    const char* name;
    std::vector<T> theta;
    bool finite;
  } maps[] = {
      {"identity", {1, 0, 0, 0, 1, 0}, true},
      {"turned", {T(.8), T(-.6), T(.1), T(.6), T(.8), T(-.2)}, true},
      {"flipped", {-1, 0, 0, 0, -1, 0}, true},
      {"exchanged", {0, 1, 0, 1, 0, 0}, true},
      {"zoomed in", {T(.05), 0, T(.3), 0, T(.04), T(-.7)}, true},
      {"zoomed out", {9, T(.3), 0, T(-.2), 7, T(.4)}, true},
      {"one point", {0, 0, T(.13), 0, 0, T(-.4)}, true},
      {"a line", {T(.5), T(.25), 0, 1, T(.5), T(.1)}, true},
      {"almost a line", {T(.5), T(.25), 0, 1, T(.5000001), T(.1)}, true},
      {"sheared", {1, 40, 0, T(.01), 1, 0}, true},
      {"far away", {1, 0, T(3e9), 0, 1, 0}, true},
      {"huge", {T(1e30), 0, T(1e30), 0, T(-1e30), 0}, true},
      {"half a pixel", {1, 0, T(.25), 0, 1, T(.5)}, true},
      {"NaN", {nan, 0, 0, 0, 1, 0}, false},
      {"NaN offset", {1, 0, 0, 0, 1, nan}, false},
      {"all NaN", {nan, nan, nan, nan, nan, nan}, false},
      {"infinite", {1, inf, 0, 0, 1, 0}, false},
      {"infinite offset", {1, 0, -inf, 0, 1, inf}, false},
  };
  const Sizes sizes[] = {{2, 5, 13, 11, 9, 37}, {1, 3, 6, 40, 16, 32}, {1, 11, 14, 10, 8, 16}, {3, 1, 1, 7, 5, 8},
                         {1, 2, 19, 1, 33, 2},  {2, 5, 9, 20, 6, 150}, {2, 9, 97, 93, 7, 11}, {1, 7, 8, 9, 95, 97}};
  for (const Sizes& z : sizes) {
    // For these, vectors have other loops. For CUDA's, played by a CPU, they are much work and nothing new.
    const bool large = z.h * z.w > 8192 || z.out_h * z.out_w > 8192 || z.out_w > 128;
    Batch<T> batch = {z, noise<T>(z.n * z.channels * z.h * z.w), {}, noise<T>(z.n * z.channels * z.out_h * z.out_w)};
    for (const auto& map : maps) {
      batch.theta.clear();
      for (int64_t i = 0; i < z.n; ++i) batch.theta.insert(batch.theta.end(), map.theta.begin(), map.theta.end());
      if (z.n > 1) batch.theta[6] += T(.01);
      const std::string where = std::string(", ") + map.name + ", image " + std::to_string(z.h) + " x " +
                                std::to_string(z.w) + ", " + std::to_string(8 * sizeof(T)) + " bits";
      if (large) {
        compare_on_cpu<true>(batch, where + ", fused");
        compare_on_cpu<false>(batch, where);
        continue;
      }
      compare_warps<true>(batch, where + ", fused", map.finite);
      compare_warps<false>(batch, where, map.finite);
    }
  }
}

template <typename T>
void test_random_warps(int rounds) {
  std::uniform_int_distribution<int64_t> side(1, 24), few(1, 5);
  for (int i = 0; i < rounds; ++i) {
    const Sizes z = {1, few(generator), side(generator), side(generator), side(generator), side(generator)};
    const std::vector<T> theta = noise<T>(6);
    Batch<T> batch = {z, noise<T>(z.channels * z.h * z.w), theta, noise<T>(z.channels * z.out_h * z.out_w)};
    compare_warps<true>(batch, ", random " + std::to_string(i), true);
  }
}

template <typename T>
void test_affine() {
  const int64_t n = 2, channels = 5, positions = 613, count = n * channels * positions;
  const std::vector<T> x = noise<T>(count), grad = noise<T>(count);
  const std::vector<T> slope = noise<T>(channels), bias = noise<T>(channels);
  const ChannelParameters<T> parameters = {slope.data(), bias.data(), false, false};
  for (int fused = 0; fused < 2; ++fused) {
    std::vector<T> want(count), got(count);
    const auto on_cpu = [&](const Kernels<T>& kernels, std::vector<T>& y) {
      for (int64_t p = 0; p < n * channels; ++p) {
        kernels.affine[fused](x.data() + p * positions, slope[p % channels], bias[p % channels], positions,
                              y.data() + p * positions);
      }
    };
    on_cpu(baseline_kernels<T>(), want);
    if constexpr (sizeof(T) == 4) {
      for (const Vectors& vectors : vectors_here()) {
        on_cpu(vectors.kernels, got);
        report("affine", same_bits(want, got), vectors.name);
      }
    }
    const auto kernel = fused ? affine_kernel<true, uint32_t, T> : affine_kernel<false, uint32_t, T>;
    Block::launch(kBlocks, kThreads, [&] { kernel(parameters, count, channels, positions, x.data(), got.data()); });
    report("affine", same_bits(want, got), "CUDA");
  }
  std::vector<T> slopes(channels), biases(channels), d_slope(channels), d_bias(channels), d_x(count), want_x(count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t c = i / positions % channels;
    slopes[c] = add_slope_term(slopes[c], grad[i], x[i]);
    biases[c] += grad[i];
    want_x[i] = slope[c] * grad[i];
  }
  Block::launch(kBlocks, kThreads, [&] {
    affine_gradient_kernel<uint64_t>(parameters, count, channels, positions, grad.data(), d_x.data());
  });
  report("affine d x", same_bits(want_x, d_x), "CUDA");
  const ChannelSums sums = {n, channels, positions, channels * positions, 2};
  Block::launch(kBlocks, kSummers + kThreads, [&] {
    channel_sums_ordered_kernel(sums, grad.data(), x.data(), d_slope.data(), d_bias.data());
  });
  report("affine d slope", same_bits(slopes, d_slope), "CUDA");
  report("affine d bias", same_bits(biases, d_bias), "CUDA");
  std::vector<T> any_slope(channels), any_bias(channels);
  Block::launch(kBlocks, kThreads,
         [&] { channel_sums_kernel(sums, grad.data(), x.data(), any_slope.data(), any_bias.data()); });
  report("affine d slope", close(slopes, any_slope, 1e-5), "CUDA, atomics");
  report("affine d bias", close(biases, any_bias, 1e-5), "CUDA, atomics");
}

// The published code, word for word in another language: a matrix of h rows, written with its indices exchanged.
template <typename T>
void published_peak(const T* map, int64_t h, int64_t w, T* peak) {
  std::vector<float> matrix(h * w);
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) matrix[x * std::min(h, w) + y] = static_cast<float>(map[y * w + x]);
  }
  int64_t best = 0;
  for (int64_t i = 1; i < h * w; ++i) {
    if (matrix[i] > matrix[best]) best = i;
  }
  peak[0] = static_cast<T>(best / std::min(h, w));
  peak[1] = static_cast<T>(best % std::min(h, w));
  peak[2] = static_cast<T>(matrix[best]);
}

template <typename T>
void test_peaks() {
  const int64_t sides[][2] = {{16, 16}, {9, 5}, {5, 9}, {1, 7}, {7, 1}, {40, 3}, {1, 1}};
  std::uniform_int_distribution<int> level(-3, 2);
  for (const auto& [h, w] : sides) {
    const int64_t maps = 7;
    std::vector<T> heatmap(maps * h * w), want(3 * maps), got(3 * maps);
    for (T& value : heatmap) value = static_cast<T>(level(generator));  // many are equal
    for (int64_t i = 0; i < maps; ++i) published_peak(heatmap.data() + i * h * w, h, w, want.data() + 3 * i);
    Block::launch(kBlocks, kThreads,
           [&] { prediction_heatmap_kernel(HeatmapPlaces(h, w), maps, heatmap.data(), got.data()); });
    report("peak", same_bits(want, got), "CUDA, " + std::to_string(h) + " x " + std::to_string(w));
  }
}

template <typename T>
void test_inverse() {
  const int64_t n = 300;
  std::vector<T> theta = noise<T>(6 * n), d_gamma = noise<T>(6 * n), want(6 * n), got(6 * n);
  for (int k = 0; k < 6; ++k) theta[6 * 5 + k] = static_cast<T>(k < 3 ? k + 1 : 2 * (k - 2));  // singular
  for (int64_t i = 0; i < n; ++i) invert(theta.data() + 6 * i, want.data() + 6 * i);
  Block::launch(2, kThreads, [&] { invert_theta_kernel(n, theta.data(), got.data()); });
  report("gamma", same_bits(want, got), "CUDA");
  for (int64_t i = 0; i < n; ++i) invert_gradient(theta.data() + 6 * i, d_gamma.data() + 6 * i, want.data() + 6 * i);
  Block::launch(2, kThreads, [&] { invert_theta_backward_kernel(n, theta.data(), d_gamma.data(), got.data()); });
  report("d gamma", same_bits(want, got), "CUDA");
}

struct Convolution {
  int64_t n, channels, h, w, outputs, pad_h, pad_w, dilation_h, dilation_w;
};

// The sums of products of one output, in double precision.
double direct(const Convolution& z, const std::vector<float>& x, const std::vector<float>& weight, int64_t image,
              int64_t output, int64_t row, int64_t column) {
  double sum = 0;
  for (int64_t i = 0; i < 9; ++i) {
    const int64_t y = row + i / 3 * z.dilation_h - z.pad_h, at = column + i % 3 * z.dilation_w - z.pad_w;
    if (y < 0 || y >= z.h || at < 0 || at >= z.w) continue;
    for (int64_t c = 0; c < z.channels; ++c) {
      sum += static_cast<double>(x[((image * z.h + y) * z.w + at) * z.channels + c]) *
             weight[(output * z.channels + c) * 9 + i];
    }
  }
  return sum;
}

// The baseline gives what the sums give, and the loops on vectors give its bits, however the tiles are divided.
void test_winograd() {
  const Convolution sizes[] = {{1, 1, 3, 3, 1, 0, 0, 1, 1},   {2, 3, 9, 14, 5, 1, 1, 1, 1},    {1, 17, 11, 6, 33, 2, 0, 1, 1},
                               {3, 16, 8, 8, 32, 0, 2, 1, 1}, {1, 40, 13, 22, 48, 1, 1, 1, 1}, {1, 9, 1, 1, 20, 1, 1, 1, 1},
                               {2, 5, 13, 15, 6, 2, 3, 2, 3}, {1, 3, 5, 4, 2, 6, 6, 6, 6}};
  for (const Convolution& z : sizes) {
    const std::vector<float> x = noise<float>(z.n * z.channels * z.h * z.w);
    const std::vector<float> weight = noise<float>(z.outputs * z.channels * 9), bias = noise<float>(z.outputs);
    std::vector<float> transformed(kPoints * blocks(z.outputs) * kBlock * z.channels);
    winograd_weight(weight.data(), z.outputs, z.channels, transformed.data());
    Winograd conv = {};
    conv.n = z.n, conv.channels = z.channels, conv.h = z.h, conv.w = z.w, conv.outputs = z.outputs;
    conv.pad_h = z.pad_h, conv.pad_w = z.pad_w, conv.dilation_h = z.dilation_h, conv.dilation_w = z.dilation_w;
    conv.out_h = z.h + 2 * (z.pad_h - z.dilation_h), conv.out_w = z.w + 2 * (z.pad_w - z.dilation_w);
    conv.x = x.data(), conv.weight = transformed.data(), conv.bias = bias.data();
    const int64_t count = z.n * z.outputs * conv.out_h * conv.out_w, tiles = conv.tiles();
    const std::vector<float> term = noise<float>(count);
    const auto results = [&](WinogradTiles compute, int64_t strips) {
      std::vector<float> y(count);
      conv.y = y.data();
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t begin = i * tiles / strips, end = (i + 1) * tiles / strips;
        std::vector<float> scratch(winograd_room(conv, end - begin));
        compute(conv, begin, end, scratch.data());
      }
      return y;
    };
    const std::string where = std::to_string(z.channels) + " channels, image " + std::to_string(z.h) + " x " +
                              std::to_string(z.w);
    const std::vector<float> plain = results(winograd_baseline, 1);
    std::vector<double> want(count);
    std::vector<float> nearest(count);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t k = i % z.outputs, column = i / z.outputs % conv.out_w, row = i / z.outputs / conv.out_w;
      want[i] = direct(z, x, weight, row / conv.out_h, k, row % conv.out_h, column) + bias[k];
      nearest[i] = static_cast<float>(want[i]);
    }
    report("Winograd", close(nearest, plain, 3e-6), where);
    conv.term = term.data();
    conv.relu = true;
    const std::vector<float> fused = results(winograd_baseline, 1);
    for (int64_t i = 0; i < count; ++i) nearest[i] = std::max(0.0f, static_cast<float>(want[i] + term[i]));
    report("Winograd", close(nearest, fused, 3e-6), where + ", with a term and ReLU");
    std::vector<std::pair<const char*, WinogradTiles>> vectors;
#if RMPE_HAVE_VECTORS
    if (has_avx2()) vectors.emplace_back("AVX2", winograd_avx2);
    if (has_avx512()) vectors.emplace_back("AVX-512", winograd_avx512);
#endif
    for (const auto& [name, compute] : vectors) {
      for (const int64_t strips : {int64_t{1}, std::min<int64_t>(3, tiles), tiles}) {
        report("Winograd", same_bits(fused, results(compute, strips)), name + (", " + where));
      }
    }
  }
}

// A network of every kind of step: padded, convolution, PReLU, pooling, sum, ReLU, softmax. Memory is of exactly the size
// that is asked for, so that AddressSanitizer sees whoever needs more.
void test_small_net() {
  const int64_t sizes[][4] = {{1, 3, 3, 1}, {3, 12, 11, 10}, {16, 7, 9, 33}, {17, 5, 5, 50}};  // channels, h, w, outputs
  for (const auto& [channels, h, w, outputs] : sizes) {
    const int64_t padded_h = h + 2, padded_w = w + 2, pooled_h = (h + 1) / 2, pooled_w = (w + 1) / 2;
    const int64_t pooled = pooled_h * pooled_w * outputs, whole = blocks(outputs) * kBlock;
    const int64_t at_conv = padded_h * padded_w * channels, at_max = at_conv + h * w * outputs, at_mean = at_max + pooled;
    const int64_t at_sum = at_mean + pooled, at_bias = 9 * channels * whole, at_slope = at_bias + whole;
    const int64_t at_scale = at_slope + whole, row = padded_w * channels;
    const std::vector<std::vector<int64_t>> steps = {
        {kCopyStep, kInputSpace, 0, kScratchSpace, row + channels, channels, h, w, h * w, w, 1, 1, row, channels, 0, at_conv},
        {kConvolveStep, 0, at_conv, channels, row, channels, outputs, outputs, h, w, 3, 3, 1, 1, 1, 1, 0, at_bias, at_slope},
        {kPoolStep, at_conv, at_max, outputs, h, w, pooled_h, pooled_w, 2, 2, 2, 2, 0, 0, 0},
        {kPoolStep, at_conv, at_mean, outputs, h, w, pooled_h, pooled_w, 3, 3, 2, 2, 1, 1, 1},
        {kCombineStep, at_max, at_mean, at_sum, pooled, kSum, at_scale},
        {kCombineStep, at_sum, at_mean, at_max, pooled, kProduct, 0},
        {kCombineStep, at_max, at_mean, at_sum, pooled, kMaximum, 0},
        {kAffineStep, at_sum, at_sum, pooled_h * pooled_w, outputs, at_bias, at_slope, kReluActivation},
        {kSoftmaxStep, at_sum, at_max, pooled_h * pooled_w, outputs},
        {kCopyStep, kScratchSpace, at_max, kOutputSpace, 0, outputs, pooled_h, pooled_w, 1, pooled_w * outputs, outputs,
         pooled_h * pooled_w, pooled_w, 1, 0, 0},
        {kCopyStep, kScratchSpace, at_conv, kOutputSpace + 1, 0, outputs, h, w, 1, w * outputs, outputs, h * w, w, 1, 0, 0}};
    std::vector<int64_t> words;
    for (std::vector<int64_t> step : steps) {
      step.resize(kStepWords);
      words.insert(words.end(), step.begin(), step.end());
    }
    const Convolution z = {1, channels, h, w, outputs, 1, 1, 1, 1};
    const std::vector<float> x = noise<float>(channels * h * w), weight = noise<float>(outputs * channels * 9);
    std::vector<float> parameters(at_scale + 2, 0.5f);
    for (int64_t i = 0; i < at_scale; ++i) parameters[i] = 0;
    for (int64_t k = 0; k < outputs; ++k) {
      for (int64_t tap = 0; tap < 9; ++tap) {
        for (int64_t c = 0; c < channels; ++c) {
          parameters[((k / kBlock * 9 + tap) * channels + c) * kBlock + k % kBlock] = weight[(k * channels + c) * 9 + tap];
        }
      }
      parameters[at_bias + k] = 0.01f * k, parameters[at_slope + k] = 0.25f;
    }
    std::vector<float> scratch(at_sum + pooled);
    const SmallNet net = {words.data(), static_cast<int64_t>(steps.size()), parameters.data()};
    const auto results = [&](SmallNetSteps compute) {
      std::vector<float> y(pooled + h * w * outputs);
      float* const to[] = {y.data(), y.data() + pooled};
      const SmallNetImage image = {x.data(), to, scratch.data()};
      compute(net, image, {0, 1});
      for (int64_t part = 3; part-- > 0;) compute(net, image, {1, 2, part, 3});
      compute(net, image, {2, net.count});
      return y;
    };
    const std::string where = std::to_string(channels) + " channels, image " + std::to_string(h) + " x " + std::to_string(w);
    const std::vector<float> plain = results(small_net_baseline);
    std::vector<float> nearest, made(plain.begin() + pooled, plain.end());
    // `direct` reads images and weights in the order that Winograd's test has
    std::vector<float> last(x.size());
    for (int64_t i = 0; i < channels * h * w; ++i) last[i % (h * w) * channels + i / (h * w)] = x[i];
    for (int64_t k = 0; k < outputs; ++k) {
      for (int64_t p = 0; p < h * w; ++p) {
        const double sum = direct(z, last, weight, 0, k, p / w, p % w) + parameters[at_bias + k];
        nearest.push_back(static_cast<float>(sum > 0 ? sum : sum / 4));
      }
    }
    report("Small network", close(nearest, made, 3e-6), where);
#if RMPE_HAVE_VECTORS
    if (has_avx2()) report("Small network", same_bits(plain, results(small_net_avx2)), "AVX2, " + where);
    if (has_avx512()) report("Small network", same_bits(plain, results(small_net_avx512)), "AVX-512, " + where);
#endif
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 40;
  test_warps<float>();
  test_warps<double>();
  test_random_warps<float>(rounds);
  test_random_warps<double>(rounds);
  test_affine<float>();
  test_affine<double>();
  test_peaks<float>();
  test_peaks<double>();
  test_inverse<float>();
  test_inverse<double>();
  test_winograd();
  test_small_net();
  for (const Vectors& vectors : vectors_here()) std::printf("%s runs here\n", vectors.name);
  std::printf("%d comparisons, %d failures\n", comparisons, failures);
  return failures == 0 ? 0 : 1;
}
