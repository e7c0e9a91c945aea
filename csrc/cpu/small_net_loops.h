// The steps of small_net.h on vectors of Lanes::kCount channels. Include this only below what defines Lanes.
#pragma once
#include "cpu/small_net.h"
#include "numeric.h"

namespace rmpe {
namespace {

using Vector = Lanes::Vector;
constexpr int kVectors = kBlock / Lanes::kCount;  // of a block of channels

// The first `left` values, or a whole vector of them.
RMPE_INLINE Vector load(const float* from, int64_t left) {
  return left >= Lanes::kCount ? Lanes::load(from) : Lanes::load(from, left);
}
RMPE_INLINE void store(float* to, Vector x, int64_t left) {
  if (left >= Lanes::kCount) {
    Lanes::store(to, x);
  } else {
    Lanes::store(to, x, left);
  }
}

// parameters: of the network; channel: of the first lane.
RMPE_INLINE Vector activate(Vector x, int64_t activation, const float* parameters, int64_t channel) {
  if (activation == kNoActivation) return x;
  if (activation == kReluActivation) return Lanes::positive(x);
  return Lanes::if_positive(x, Lanes::times(x, Lanes::load(parameters + activation + channel)));
}

inline void copy(const CopyStep& step, const float* from, float* to, float* scratch) {
  for (int64_t i = 0; i < step.cleared; ++i) scratch[step.clear + i] = 0;
  const int64_t inner = step.from_stride[2], to_inner = step.to_stride[2], count = step.size[2];
  for (int64_t i = 0; i < step.size[0]; ++i) {
    for (int64_t j = 0; j < step.size[1]; ++j) {
      const float* x = from + step.from + i * step.from_stride[0] + j * step.from_stride[1];
      float* y = to + step.to + i * step.to_stride[0] + j * step.to_stride[1];
      if (inner == 1 && to_inner == 1) {
        for (int64_t k = 0; k < count; ++k) y[k] = x[k];
      } else {
        for (int64_t k = 0; k < count; ++k) y[k * to_inner] = x[k * inner];
      }
    }
  }
}

// Some pixels of a convolution's output, each with the first value that it reads.
struct Pixels {
  const float* from[Lanes::kPixels];
  float* to[Lanes::kPixels];
};

// kBlocks blocks of outputs, of which the first is output k, of kRows pixels.
template <int kRows, int kBlocks>
void convolve_block(const ConvolveStep& step, const float* parameters, const Pixels& pixels, int64_t k) {
  constexpr int kColumns = kBlocks * kVectors;
  const bool in_line = step.dilation_w == 1 && step.pixel == step.channels;  // a row's taps follow one another
  const int64_t parts = in_line ? 1 : step.kernel_w, length = in_line ? step.kernel_w * step.channels : step.channels;
  const int64_t block = step.kernel_h * step.kernel_w * step.channels * kBlock;
  const float* weight = parameters + step.weight + k / kBlock * block;
  Vector sums[kRows][kColumns];
  for (int c = 0; c < kColumns; ++c) {
    const Vector bias = Lanes::load(parameters + step.bias + k + c * Lanes::kCount);
    for (int r = 0; r < kRows; ++r) sums[r][c] = bias;
  }
  for (int64_t i = 0; i < step.kernel_h; ++i) {
    for (int64_t j = 0; j < parts; ++j) {
      const float* x[kRows];
      for (int r = 0; r < kRows; ++r) {
        x[r] = pixels.from[r] + i * step.dilation_h * step.row + j * step.dilation_w * step.pixel;
      }
      for (int64_t t = 0; t < length; ++t, weight += kBlock) {
        Vector weights[kColumns];
        for (int c = 0; c < kColumns; ++c) {
          weights[c] = Lanes::load(weight + c / kVectors * block + c % kVectors * Lanes::kCount);
        }
        for (int r = 0; r < kRows; ++r) {
          const Vector value = Lanes::broadcast(x[r][t]);
          for (int c = 0; c < kColumns; ++c) sums[r][c] = Lanes::madd(value, weights[c], sums[r][c]);
        }
      }
    }
  }
  for (int c = 0; c < kColumns; ++c) {
    const int64_t channel = k + c * Lanes::kCount;
    if (channel >= step.outputs) break;
    for (int r = 0; r < kRows; ++r) {
      store(pixels.to[r] + channel, activate(sums[r][c], step.activation, parameters, channel), step.outputs - channel);
    }
  }
}

// Calls convolve_block<rows, kBlocks> for a number of rows that is known only at run time.
template <int kBlocks, int kRows = Lanes::kPixels>
RMPE_INLINE void convolve_rows(int64_t rows, const ConvolveStep& step, const float* parameters, const Pixels& pixels,
                               int64_t k) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return convolve_block<kRows, kBlocks>(step, parameters, pixels, k);
    convolve_rows<kBlocks, kRows - 1>(rows, step, parameters, pixels, k);
  }
}

// The same for a number of blocks, too.
template <int kBlocks = Lanes::kWide>
RMPE_INLINE void convolve_blocks(int64_t blocks, int64_t rows, const ConvolveStep& step, const float* parameters,
                                 const Pixels& pixels, int64_t k) {
  if constexpr (kBlocks > 0) {
    if (blocks == kBlocks) return convolve_rows<kBlocks>(rows, step, parameters, pixels, k);
    convolve_blocks<kBlocks - 1>(blocks, rows, step, parameters, pixels, k);
  }
}

// Pixels and blocks of outputs in groups of nearly equal size.
inline void convolve(const ConvolveStep& step, const float* parameters, float* scratch, const StepRange& range) {
  const int64_t count = step.out_h * step.out_w, groups = (count + Lanes::kPixels - 1) / Lanes::kPixels;
  const int64_t outputs = blocks(step.outputs), wide = (outputs + Lanes::kWide - 1) / Lanes::kWide;
  const int64_t first = range.part * groups / range.parts, last = (range.part + 1) * groups / range.parts;
  int64_t pixel = first * count / groups, row = pixel / step.out_w, column = pixel % step.out_w;
  for (int64_t g = first; g < last; ++g) {
    Pixels pixels;
    const int64_t end = (g + 1) * count / groups, rows = end - pixel;
    for (int64_t r = 0; r < rows; ++r, ++pixel) {
      pixels.from[r] = scratch + step.from + row * step.stride_h * step.row + column * step.stride_w * step.pixel;
      pixels.to[r] = scratch + step.to + pixel * step.to_pixel;
      if (++column == step.out_w) column = 0, ++row;
    }
    for (int64_t i = 0, k = 0; i < wide; ++i) {
      const int64_t next = (i + 1) * outputs / wide;
      convolve_blocks(next - k, rows, step, parameters, pixels, k * kBlock);
      k = next;
    }
  }
}

// The part [begin, end) of an axis of `size` values that a window covers, and how long it is with its padding.
struct Span {
  int64_t begin, end, length;

  Span(int64_t window, int64_t kernel, int64_t stride, int64_t pad, int64_t size) {
    const int64_t first = window * stride - pad, last = first + kernel;
    length = (last < size + pad ? last : size + pad) - first;
    begin = first > 0 ? first : 0;
    end = last < size ? last : size;
  }
};

template <bool kMean>
void pool_window(const PoolStep& step, const Span& rows, const Span& columns, const float* x, float* y) {
  const Vector share = Lanes::broadcast(1 / static_cast<float>(rows.length * columns.length));
  for (int64_t c = 0; c < step.channels; c += Lanes::kCount) {
    const int64_t left = step.channels - c;
    Vector all = kMean ? Lanes::broadcast(0) : load(x + (rows.begin * step.w + columns.begin) * step.channels + c, left);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const Vector value = load(x + (i * step.w + j) * step.channels + c, left);
        all = kMean ? Lanes::plus(all, value) : Lanes::larger(all, value);
      }
    }
    store(y + c, kMean ? Lanes::times(all, share) : all, left);
  }
}

inline void pool(const PoolStep& step, float* scratch) {
  float* y = scratch + step.to;
  for (int64_t i = 0; i < step.out_h; ++i) {
    const Span rows(i, step.kernel_h, step.stride_h, step.pad_h, step.h);
    for (int64_t j = 0; j < step.out_w; ++j, y += step.channels) {
      const Span columns(j, step.kernel_w, step.stride_w, step.pad_w, step.w);
      if (step.mean) {
        pool_window<true>(step, rows, columns, scratch + step.from, y);
      } else {
        pool_window<false>(step, rows, columns, scratch + step.from, y);
      }
    }
  }
}

inline void affine(const AffineStep& step, const float* parameters, float* scratch) {
  const float* x = scratch + step.from;
  float* y = scratch + step.to;
  for (int64_t i = 0; i < step.pixels; ++i, x += step.channels, y += step.channels) {
    for (int64_t c = 0; c < step.channels; c += Lanes::kCount) {
      const int64_t left = step.channels - c;
      Vector value = load(x + c, left);
      if (step.scale >= 0) {
        value = Lanes::madd(value, Lanes::load(parameters + step.scale + c), Lanes::load(parameters + step.shift + c));
      }
      store(y + c, activate(value, step.activation, parameters, c), left);
    }
  }
}

inline void combine(const CombineStep& step, const float* parameters, float* scratch) {
  const float *x = scratch + step.from, *other = scratch + step.other;
  float* y = scratch + step.to;
  for (int64_t i = 0; i < step.count; i += Lanes::kCount) {
    const int64_t left = step.count - i;
    const Vector a = load(x + i, left), b = load(other + i, left);
    Vector made;
    if (step.combination == kSum) {
      const Vector scaled = Lanes::times(b, Lanes::broadcast(parameters[step.scale + 1]));
      made = Lanes::madd(a, Lanes::broadcast(parameters[step.scale]), scaled);
    } else {
      made = step.combination == kProduct ? Lanes::times(a, b) : Lanes::larger(a, b);
    }
    store(y + i, made, left);
  }
}

inline void softmax(const SoftmaxStep& step, float* scratch) {
  const float* x = scratch + step.from;
  float* y = scratch + step.to;
  for (int64_t i = 0; i < step.pixels; ++i, x += step.channels, y += step.channels) {
    float largest = x[0], sum = 0;
    for (int64_t c = 1; c < step.channels; ++c) largest = x[c] > largest ? x[c] : largest;
    for (int64_t c = 0; c < step.channels; ++c) sum += y[c] = __builtin_expf(x[c] - largest);
    for (int64_t c = 0; c < step.channels; ++c) y[c] /= sum;
  }
}

template <typename Step>
RMPE_INLINE const Step& step_at(const SmallNet& net, int64_t i) {
  static_assert(sizeof(Step) <= kStepWords * sizeof(int64_t));
  return *reinterpret_cast<const Step*>(net.steps + i * kStepWords);
}

inline void compute_steps(const SmallNet& net, const SmallNetImage& image, const StepRange& range) {
  float* const scratch = image.scratch;
  for (int64_t i = range.begin; i < range.end; ++i) {
    switch (net.steps[i * kStepWords]) {
      case kCopyStep: {
        const auto& step = step_at<CopyStep>(net, i);
        copy(step, step.from_space == kInputSpace ? image.x : scratch,
             step.to_space == kScratchSpace ? scratch : image.outputs[step.to_space - kOutputSpace], scratch);
        break;
      }
      case kConvolveStep: convolve(step_at<ConvolveStep>(net, i), net.parameters, scratch, range); break;
      case kPoolStep: pool(step_at<PoolStep>(net, i), scratch); break;
      case kAffineStep: affine(step_at<AffineStep>(net, i), net.parameters, scratch); break;
      case kCombineStep: combine(step_at<CombineStep>(net, i), net.parameters, scratch); break;
      case kSoftmaxStep: softmax(step_at<SoftmaxStep>(net, i), scratch); break;
      default: break;
    }
  }
}

}  // namespace
}  // namespace rmpe
