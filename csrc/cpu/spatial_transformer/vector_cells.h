// The vector loops with one output cell per lane: for few channels, and for images too large to rearrange in a cache.
// They work on a segment of an output row in steps: the positions of its points (row_segment.h), the pixels they read,
// the results. A step is a short loop over independent blocks, and leaves its results in small arrays in the L1 cache.
#pragma once
#include "cpu/spatial_transformer/row_segment.h"
#include "cpu/spatial_transformer/theta_sums.h"

namespace rmpe::vector {
namespace {

// The pixels at the four neighbours of each cell of a block that is kAll or kAllNear; [column].
struct Pixels {
  Floats low_row[2], high_row[2];

  RMPE_INLINE Pixels(const RowSegment& segment, int block, const float* plane, int64_t w,
                     const Prefetch<sizeof(float)>& prefetch) {
    const int32_t* offset = segment.offset + block * kLanes;
    const float* below = plane + w;
    prefetch(plane, offset, kLanes);
    if (segment.inside[block] == kAllNear) {
      simd::pick_pairs(plane, offset, low_row);
      simd::pick_pairs(below, offset, high_row);
    } else {
      simd::gather_squares(plane, below, offset, low_row, high_row);
    }
  }
};

// The warped output of `channels` channels of one image. The large arrays are not members of the class, so that
// the compiler keeps its members in registers.
template <bool kFused>
class CellSampler {
 public:
  struct Arrays {
    RowSegment segment;
    alignas(32) float weight[4][RowSegment::kCells];
  };

  RMPE_INLINE CellSampler(const Warp<float>& warp, int channels, const float* image, float* out, Arrays& arrays)
      : warp_(warp),
        channels_(channels),
        plane_(warp.h * warp.w),
        out_plane_(warp.out_h * warp.out_w),
        image_(image),
        out_(out),
        prefetch_(warp),
        segment_(arrays.segment),
        weight_(arrays.weight) {}

  RMPE_INLINE void row(int64_t s) {
    for (int64_t t = 0; t < warp_.out_w; t += RowSegment::kCells) {
      locate<kFused>(warp_, s, t, segment_);
      segment_.corner_weights(weight_);
      float* const to = out_ + s * warp_.out_w + t;
      // Planes are often a multiple of 4096 bytes apart, and a cache holds few such addresses at once, so whole blocks
      // are processed channel by channel.
      for (int k = 0; k < channels_; ++k) {
        for (int b = 0; b < segment_.blocks; ++b) {
          if (segment_.inside[b] < kAll) continue;
          simd::store(to + k * out_plane_ + b * kLanes, whole_block(b, image_ + k * plane_));
        }
      }
      for (int b = 0; b < segment_.blocks; ++b) {
        if (segment_.inside[b] == kSome) edge_block(b, to + b * kLanes);
        if (segment_.inside[b] == kNone) outside_block(b, to + b * kLanes);
      }
    }
  }

 private:
  RMPE_INLINE Floats whole_block(int b, const float* plane) const {
    const int i = b * kLanes;
    const Pixels pixels(segment_, b, plane, warp_.w, prefetch_);
    Floats sum = multiply_add<kFused>(simd::load(weight_[0] + i), pixels.low_row[0], Floats(0));
    sum = multiply_add<kFused>(simd::load(weight_[1] + i), pixels.high_row[0], sum);
    sum = multiply_add<kFused>(simd::load(weight_[2] + i), pixels.low_row[1], sum);
    return multiply_add<kFused>(simd::load(weight_[3] + i), pixels.high_row[1], sum);
  }
  RMPE_INLINE void edge_block(int b, float* to) const {
    const Places places(segment_, b, warp_);
    for (int k = 0; k < channels_; ++k) {
      Floats sum = 0;
      for (int c = 0; c < 2; ++c) {
        for (int r = 0; r < 2; ++r) {
          const Floats pixel = simd::gather(image_ + k * plane_, places.offset[c][r], places.inside[c][r]);
          const Floats corner = simd::load(weight_[2 * c + r] + b * kLanes);
          sum = simd::select(places.inside[c][r], multiply_add<kFused>(corner, pixel, sum), sum);
        }
      }
      segment_.store(to + k * out_plane_, sum, b);
    }
  }
  RMPE_INLINE void outside_block(int b, float* to) const {
    for (int k = 0; k < channels_; ++k) segment_.store(to + k * out_plane_, 0, b);
  }

  const Warp<float>& warp_;
  const int channels_;
  const int64_t plane_, out_plane_;
  const float* const image_;
  float* const out_;
  const Prefetch<sizeof(float)> prefetch_;
  RowSegment& segment_;
  float (&weight_)[4][RowSegment::kCells];
};

template <bool kFused>
void sample_by_cells(const Warp<float>& warp, int channels, const float* image, int64_t begin, int64_t end, float* out) {
  typename CellSampler<kFused>::Arrays arrays;
  CellSampler<kFused> sampler(warp, channels, image, out, arrays);
  for (int64_t s = begin; s < end; ++s) sampler.row(s);
}

// Stores d row and d column of each lane next to each other.
RMPE_INLINE void store_slope(const Slope<Floats>& slope, float (*at)[2]) {
  const __m256 low = _mm256_unpacklo_ps(slope.row.v, slope.column.v);
  const __m256 high = _mm256_unpackhi_ps(slope.row.v, slope.column.v);
  _mm256_storeu_ps(at[0], _mm256_permute2f128_ps(low, high, 0x20));
  _mm256_storeu_ps(at[4], _mm256_permute2f128_ps(low, high, 0x31));
}

// d theta of 1 or 2 images, whose warps differ only in theta. Each addition to the sums waits for the previous one,
// so a segment is added up while the slopes of the next one are computed.
template <bool kFused>
class CellThetaGradient {
 public:
  struct Slopes {
    int64_t s, t;
    int blocks = 0;
    bool any[RowSegment::kBlocks];  // whether a block has a slope other than 0
    alignas(32) float of_image[2][RowSegment::kCells][2];
  };

  // slopes: of this segment, and of the previous one.
  RMPE_INLINE CellThetaGradient(const Warp<float>* warps, int images, const Prefetch<sizeof(float)> (&prefetch)[2],
                                RowSegment& segment, Slopes (&slopes)[2])
      : warps_(warps),
        images_(images),
        height_(static_cast<float>(warps[0].h)),
        width_(static_cast<float>(warps[0].w)),
        prefetch_(prefetch),
        segment_(segment),
        slopes_(slopes) {}

  // One channel; `image` and `grad` are the first image's planes.
  RMPE_INLINE void channel(const float* image, const float* grad) {
    const Warp<float>& warp = warps_[0];
    const int64_t image_size = warp.channels * warp.h * warp.w, grad_size = warp.channels * warp.out_h * warp.out_w;
    for (int64_t s = 0; s < warp.out_h; ++s) {
      for (int64_t t = 0; t < warp.out_w; t += RowSegment::kCells, now_ = 1 - now_) {
        const float* g = grad + s * warp.out_w + t;
        for (int j = 0; j < images_; ++j) {
          locate<kFused>(warps_[j], s, t, segment_);
          slopes_of(j, image + j * image_size, g + j * grad_size);
        }
        add_previous(segment_.blocks, RowSegment::kBlocks);
        Slopes& slopes = slopes_[now_];
        slopes.s = s;
        slopes.t = t;
        slopes.blocks = segment_.blocks;
      }
    }
  }
  RMPE_INLINE void finish(float* d_theta) {
    add_previous(0, RowSegment::kBlocks);
    sums_.store(images_, d_theta);
  }

 private:
  // Slopes of image j. With the first image, the previous segment is added up at the same time.
  RMPE_INLINE void slopes_of(int j, const float* plane, const float* g) {
    constexpr int64_t kPage = 4096 / sizeof(float);
    Slopes& slopes = slopes_[now_];
    for (int b = 0; b < segment_.blocks; ++b, g += kLanes) {
      float(*const to)[2] = slopes.of_image[j] + b * kLanes;
      // Hardware prefetch stops at page boundaries, which we cross often: prefetch the next page by hand.
      if (b % 2 == 0) _mm_prefetch(g + kPage, _MM_HINT_T0);
      slopes.any[b] = segment_.inside[b] != kNone || (j > 0 && slopes.any[b]);
      if (segment_.inside[b] >= kAll) {
        store_slope(whole_block(j, b, plane, simd::load(g)), to);
      } else if (segment_.inside[b] == kSome) {
        store_slope(edge_block(b, plane, simd::load(g, segment_.valid(b))), to);
      } else {
        std::memset(to, 0, kLanes * sizeof *to);
      }
      if (j == 0) add_previous(b, b + 1);
    }
  }
  RMPE_INLINE Slope<Floats> whole_block(int j, int b, const float* plane, Floats g) const {
    const Neighbours<Floats> row = segment_.row(b), column = segment_.column(b);
    const Pixels pixels(segment_, b, plane, warps_[0].w, prefetch_[j]);
    Slope<Floats> slope = {0, 0};
    for_each_neighbour([&](auto r, auto c) RMPE_LAMBDA {
      const Floats pixel = r ? pixels.high_row[c] : pixels.low_row[c];
      add_neighbour<kFused, r, c>(slope, row, column, pixel, g, height_, width_);
    });
    return slope;
  }
  RMPE_INLINE Slope<Floats> edge_block(int b, const float* plane, Floats g) const {
    const Neighbours<Floats> row = segment_.row(b), column = segment_.column(b);
    const Places places(segment_, b, warps_[0]);
    Slope<Floats> slope = {0, 0};
    for_each_neighbour([&](auto r, auto c) RMPE_LAMBDA {
      const Floats inside = places.inside[c][r], pixel = simd::gather(plane, places.offset[c][r], inside);
      Slope<Floats> more = slope;
      add_neighbour<kFused, r, c>(more, row, column, pixel, g, height_, width_);
      slope.row = simd::select(inside, more.row, slope.row);
      slope.column = simd::select(inside, more.column, slope.column);
    });
    return slope;
  }
  // Adds blocks [begin, end) of the previous segment.
  RMPE_INLINE void add_previous(int begin, int end) {
    const Slopes& previous = slopes_[1 - now_];
    for (int b = begin; b < end && b < previous.blocks; ++b) {
      if (!previous.any[b]) continue;
      const int i = b * kLanes;
      const float(*const of_two[2])[2] = {previous.of_image[0] + i, previous.of_image[images_ - 1] + i};
      sums_.add(warps_[0], previous.s, previous.t + i, 1, of_two);
    }
  }

  const Warp<float>* const warps_;
  const int images_;
  const Floats height_, width_;
  const Prefetch<sizeof(float)> (&prefetch_)[2];
  RowSegment& segment_;
  Slopes (&slopes_)[2];
  int now_ = 0;
  ThetaSums sums_;
};

template <bool kFused>
void theta_gradient_by_cells(const Warp<float>* warps, int images, const float* image, const float* grad,
                             float* d_theta) {
  const Warp<float>& warp = warps[0];
  using Gradient = CellThetaGradient<kFused>;
  const Prefetch<sizeof(float)> prefetch[2] = {Prefetch<sizeof(float)>(warp), Prefetch<sizeof(float)>(warps[images - 1])};
  RowSegment segment;
  typename Gradient::Slopes slopes[2];
  Gradient gradient(warps, images, prefetch, segment, slopes);
  for (int64_t k = 0; k < warp.channels; ++k) {
    gradient.channel(image + k * warp.h * warp.w, grad + k * warp.out_h * warp.out_w);
  }
  gradient.finish(d_theta);
}

}  // namespace
}  // namespace rmpe::vector
