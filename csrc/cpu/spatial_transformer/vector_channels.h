// The vector loops with one channel per lane: a point is computed once for all channels, and each neighbour is one load.
// To this end, the image is first rearranged in scratch memory, pixel by pixel, each with all channels of the group.
#pragma once
#include "cpu/spatial_transformer/row_segment.h"
#include "cpu/spatial_transformer/theta_sums.h"
#include "cpu/spatial_transformer/transpose.h"

namespace rmpe::vector {
namespace {

// The four neighbours of a cell, in the order of the output's sum: their positions, and whether they are inside the
// image. One class for blocks with all neighbours inside, one for the others.
class AllInside {
 public:
  RMPE_INLINE AllInside(const RowSegment& segment, int /*block*/, const Warp<float>& warp)
      : segment_(segment), w_(static_cast<int32_t>(warp.w)) {}
  RMPE_INLINE int32_t offset(int i, int k) const { return segment_.offset[i] + (k % 2 ? w_ : 0) + k / 2; }
  RMPE_INLINE bool inside(int /*i*/, int /*k*/) const { return true; }

 private:
  const RowSegment& segment_;
  int32_t w_;
};
class SomeInside {
 public:
  RMPE_INLINE SomeInside(const RowSegment& segment, int block, const Warp<float>& warp) : first_(block * kLanes) {
    const Places places(segment, block, warp);
    for (int k = 0; k < 4; ++k) {
      simd::store(offset_[k], places.offset[k / 2][k % 2]);
      inside_[k] = simd::bits(places.inside[k / 2][k % 2]);
    }
  }
  RMPE_INLINE int32_t offset(int i, int k) const { return offset_[k][i - first_]; }
  RMPE_INLINE bool inside(int i, int k) const { return inside_[k] >> (i - first_) & 1; }

 private:
  int first_, inside_[4];
  int32_t offset_[4][kLanes];
};

// The warped output of up to kLanes channels of one image, whose pixels are in scratch memory.
template <bool kFused>
class ChannelSampler {
 public:
  RMPE_INLINE ChannelSampler(const Warp<float>& warp, int channels, const float* pixels, float* out)
      : warp_(warp), channels_(channels), pixels_(pixels), out_(out) {}

  RMPE_INLINE void row(int64_t s) {
    for (int64_t t = 0; t < warp_.out_w; t += RowSegment::kCells) {
      locate<kFused>(warp_, s, t, segment_);
      segment_.corner_weights(weight_);
      for (int b = 0; b < segment_.blocks; ++b) {
        if (segment_.inside[b] >= kAll) {
          block(b, AllInside(segment_, b, warp_));
        } else if (segment_.inside[b] == kSome) {
          block(b, SomeInside(segment_, b, warp_));
        } else {
          std::memset(values_[b * kLanes], 0, kLanes * sizeof *values_);
        }
      }
      pixels_to_planes<kLanes>(values_[0], segment_.cells, channels_, out_ + s * warp_.out_w + t,
                               warp_.out_h * warp_.out_w);
    }
  }

 private:
  template <typename Inside>
  RMPE_INLINE void block(int b, const Inside& neighbours) {
    for (int i = b * kLanes; i < (b + 1) * kLanes; ++i) {
      Floats sum = 0;
      for (int k = 0; k < 4; ++k) {
        if (!neighbours.inside(i, k)) continue;
        const Floats pixel = simd::load(pixels_ + neighbours.offset(i, k) * int64_t{kLanes});
        sum = multiply_add<kFused>(Floats(weight_[k][i]), pixel, sum);
      }
      simd::store(values_[i], sum);
    }
  }

  const Warp<float>& warp_;
  const int channels_;
  const float* const pixels_;
  float* const out_;
  RowSegment segment_;
  alignas(32) float weight_[4][RowSegment::kCells], values_[RowSegment::kCells][kLanes];
};

template <bool kFused>
void sample_by_channels(const Warp<float>& warp, int channels, const float* image, float* out, float* scratch) {
  planes_to_pixels<kLanes>(image, warp.h * warp.w, channels, warp.h * warp.w, scratch);
  ChannelSampler<kFused> sampler(warp, channels, scratch, out);
  for (int64_t s = 0; s < warp.out_h; ++s) sampler.row(s);
}

// [d row, d column] of all output cells, for kLanes channels. A row has room for whole blocks.
struct SlopePlanes {
  float (*first)[2];
  int64_t row, channel;  // distances, in pairs

  SlopePlanes(const Warp<float>& warp, float* scratch)
      : first(reinterpret_cast<float(*)[2]>(scratch)), row(row_of(warp)), channel(channel_of(warp)) {}
  // Its size in floats.
  static int64_t room(const Warp<float>& warp) { return 2 * kLanes * channel_of(warp); }

 private:
  static int64_t row_of(const Warp<float>& warp) { return (warp.out_w + kLanes - 1) / kLanes * kLanes; }
  // One cache line more, so that the channels do not compete for the same cache sets.
  static int64_t channel_of(const Warp<float>& warp) { return warp.out_h * row_of(warp) + 32 / sizeof(float); }
};

// to[channel][i] = d row and d column of cell i of four; `stride`: the distance between channels, in pairs.
RMPE_INLINE void store_slopes(const Slope<Floats> (&cells)[4], float (*to)[2], int64_t stride) {
  __m256d low[4], high[4];
  for (int i = 0; i < 4; ++i) {
    low[i] = _mm256_castps_pd(_mm256_unpacklo_ps(cells[i].row.v, cells[i].column.v));   // channels 0, 1, 4, 5
    high[i] = _mm256_castps_pd(_mm256_unpackhi_ps(cells[i].row.v, cells[i].column.v));  // channels 2, 3, 6, 7
  }
  const auto store = [&](int channel, __m256d pairs) RMPE_LAMBDA {
    _mm256_storeu_ps(to[channel * stride], _mm256_castpd_ps(pairs));
  };
  const auto store_four = [&](int channel, const __m256d(&from)[4]) RMPE_LAMBDA {
    const __m256d a = _mm256_unpacklo_pd(from[0], from[1]), b = _mm256_unpackhi_pd(from[0], from[1]);
    const __m256d c = _mm256_unpacklo_pd(from[2], from[3]), d = _mm256_unpackhi_pd(from[2], from[3]);
    store(channel, _mm256_permute2f128_pd(a, c, 0x20));
    store(channel + 1, _mm256_permute2f128_pd(b, d, 0x20));
    store(channel + 4, _mm256_permute2f128_pd(a, c, 0x31));
    store(channel + 5, _mm256_permute2f128_pd(b, d, 0x31));
  };
  store_four(0, low);
  store_four(2, high);
}

// Gradients of a group of channels: d image if kImage, and the slopes that d theta is summed from if kTheta.
template <bool kFused, bool kImage, bool kTheta, int kChannels>
class ChannelGradient {
 public:
  typedef float P __attribute__((vector_size(kChannels * sizeof(float)), aligned(sizeof(float)), may_alias));
  static_assert(!kTheta || kChannels == kLanes);

  // pixels: the rearranged image, if kTheta. d_pixels: zeros, if kImage. Both have kChannels values for each pixel.
  RMPE_INLINE ChannelGradient(const Warp<float>& warp, int channels, const float* pixels, P* d_pixels,
                              const SlopePlanes& slopes)
      : warp_(warp),
        channels_(channels),
        pixels_(pixels),
        d_pixels_(d_pixels),
        slopes_(slopes),
        height_(static_cast<float>(warp.h)),
        width_(static_cast<float>(warp.w)),
        prefetch_(warp) {}

  RMPE_INLINE void row(const float* grad, int64_t s) {
    const int64_t out_plane = warp_.out_h * warp_.out_w;
    for (int64_t t = 0; t < warp_.out_w; t += RowSegment::kCells) {
      locate<kFused>(warp_, s, t, segment_);
      if (kImage) segment_.corner_weights(weight_);
      planes_to_pixels<kChannels>(grad + s * warp_.out_w + t, out_plane, channels_, segment_.cells, cell_grad_[0]);
      float(*const to)[2] = kTheta ? slopes_.first + s * slopes_.row + t : nullptr;
      for (int b = 0; b < segment_.blocks; ++b) {
        if (segment_.inside[b] >= kAll) {
          block(b, to, AllInside(segment_, b, warp_));
        } else if (segment_.inside[b] == kSome) {
          block(b, to, SomeInside(segment_, b, warp_));
        } else if (kTheta) {
          outside_block(to + b * kLanes);
        }
      }
    }
  }

 private:
  template <typename Inside>
  RMPE_INLINE void block(int b, float (*to)[2], const Inside& neighbours) {
    for (int first = b * kLanes; first < (b + 1) * kLanes; first += 4) {
      if constexpr (kTheta) {
        Slope<Floats> four[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          if (kImage) add_to_image(first + i, neighbours);
          four[i] = slope_of(first + i, neighbours);
        }
        store_slopes(four, to + first, slopes_.channel);
      } else {
        prefetch_(d_pixels_, segment_.offset + first, 4);
        for (int i = first; i < first + 4; ++i) add_to_image(i, neighbours);
      }
    }
  }
  RMPE_INLINE void outside_block(float (*to)[2]) const {
    for (int k = 0; k < kChannels; ++k) std::memset(to[k * slopes_.channel], 0, kLanes * sizeof *to);
  }
  template <typename Inside>
  RMPE_INLINE void add_to_image(int i, const Inside& neighbours) const {
    const P g = *reinterpret_cast<const P*>(cell_grad_[i]);
    for (int k = 0; k < 4; ++k) {
      if (neighbours.inside(i, k)) d_pixels_[neighbours.offset(i, k)] += weight_[k][i] * g;
    }
  }
  template <typename Inside>
  RMPE_INLINE Slope<Floats> slope_of(int i, const Inside& neighbours) const {
    const Neighbours<Floats> row = {{}, {}, segment_.row_weight[0][i], segment_.row_weight[1][i]};
    const Neighbours<Floats> column = {{}, {}, segment_.column_weight[0][i], segment_.column_weight[1][i]};
    const Floats g = simd::load(cell_grad_[i]);
    Slope<Floats> slope = {0, 0};
    for_each_neighbour([&](auto r, auto c) RMPE_LAMBDA {
      const int k = 2 * c + r;
      if (!neighbours.inside(i, k)) return;
      const Floats pixel = simd::load(pixels_ + neighbours.offset(i, k) * int64_t{kChannels});
      add_neighbour<kFused, r, c>(slope, row, column, pixel, g, height_, width_);
    });
    return slope;
  }

  const Warp<float>& warp_;
  const int channels_;
  const float* const pixels_;
  P* const d_pixels_;
  const SlopePlanes& slopes_;
  const Floats height_, width_;
  const Prefetch<kChannels * sizeof(float)> prefetch_;
  RowSegment segment_;
  alignas(32) float weight_[4][RowSegment::kCells], cell_grad_[RowSegment::kCells][kChannels] = {};
};

// pixels, d_pixels: scratch memory, kChannels values for each pixel; null for a gradient that is not computed.
template <bool kFused, bool kImage, bool kTheta, int kChannels>
void gradient_by_channels(const Warp<float>& warp, int given, const float* image, const float* grad, float* d_image,
                          float* pixels, float* d_pixels, const SlopePlanes& slopes) {
  using Gradient = ChannelGradient<kFused, kImage, kTheta, kChannels>;
  const int channels = given < kChannels ? given : kChannels;  // never more; this is for the compiler
  const int64_t plane = warp.h * warp.w;
  if (kTheta) planes_to_pixels<kChannels>(image, plane, channels, plane, pixels);
  if (kImage) std::memset(d_pixels, 0, plane * kChannels * sizeof(float));
  Gradient gradient(warp, channels, pixels, reinterpret_cast<typename Gradient::P*>(d_pixels), slopes);
  for (int64_t s = 0; s < warp.out_h; ++s) gradient.row(grad, s);
  if (kImage) pixels_to_planes<kChannels>(d_pixels, plane, channels, d_image, plane);
}

}  // namespace
}  // namespace rmpe::vector
