// The vector loops of the spatial transformer, and the rule that chooses between them. README.md has the overview.
//
// They differ from the baseline in where values are stored, but not in what is computed or in the order of sums.
#pragma once
#include "cpu/spatial_transformer/vector_cells.h"
#include "cpu/spatial_transformer/vector_channels.h"

namespace rmpe::vector {
namespace {

// Whether to use one channel per lane: if most lanes have a channel, and all their pixels fit in the L2 cache.
bool channels_are_lanes(const Warp<float>& warp) {
  constexpr int64_t kFew = 8192;
  return 2 * warp.channels > kGroup && warp.h * warp.w <= kFew && warp.out_h * warp.out_w <= kFew;
}

int64_t sample_room(const Warp<float>& warp) { return channels_are_lanes(warp) ? kGroup * warp.h * warp.w : 0; }

template <bool kFused>
void sample(const Warp<float>& warp, int channels, const float* image, int64_t begin, int64_t end, float* out,
            float* scratch) {
  if (channels_are_lanes(warp)) {
    sample_by_channels<kFused>(warp, channels, image, out, scratch);
  } else {
    sample_by_cells<kFused>(warp, channels, image, begin, end, out);
  }
}

int64_t gradient_room(const Warp<float>& warp) {
  const int64_t pixels = kGroup * warp.h * warp.w;
  return channels_are_lanes(warp) ? 2 * pixels + 2 * SlopePlanes::room(warp) : pixels;
}

// d theta of `images` images, and d image if kImage, with one channel per lane.
template <bool kFused, bool kImage>
void gradients_by_channels(const Warp<float>* warps, int images, const float* image, const float* grad, float* d_image,
                           float* d_theta, float* scratch) {
  const Warp<float>& warp = warps[0];
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  float* const pixels = scratch;
  float* const d_pixels = pixels + kGroup * plane;
  float* const slopes_at = d_pixels + kGroup * plane;
  const SlopePlanes slopes[2] = {{warp, slopes_at}, {warp, slopes_at + SlopePlanes::room(warp)}};
  ThetaSums sums;
  for (int64_t first = 0; first < warp.channels; first += kGroup) {
    const int channels = static_cast<int>(warp.channels - first < kGroup ? warp.channels - first : kGroup);
    for (int j = 0; j < images; ++j) {
      const int64_t k = j * warp.channels + first;
      float* const to = kImage ? d_image + k * plane : nullptr;
      gradient_by_channels<kFused, kImage, true, kGroup>(warps[j], channels, image + k * plane, grad + k * out_plane,
                                                         to, pixels, d_pixels, slopes[j]);
    }
    for (int k = 0; k < channels; ++k) {
      for (int64_t s = 0; s < warp.out_h; ++s) {
        const int64_t at = k * slopes[0].channel + s * slopes[0].row;
        const float(*const of_two[2])[2] = {slopes[0].first + at, slopes[images - 1].first + at};
        sums.add(warp, s, 0, slopes[0].row / kGroup, of_two);
      }
    }
  }
  sums.store(images, d_theta);
}

// d image of one image, kChannels channels at a time.
template <bool kFused, int kChannels>
void image_gradient(const Warp<float>& warp, const float* grad, float* d_image, float* scratch) {
  const SlopePlanes none(warp, nullptr);
  for (int64_t k = 0; k < warp.channels; k += kChannels) {
    const int channels = static_cast<int>(warp.channels - k < kChannels ? warp.channels - k : kChannels);
    gradient_by_channels<kFused, true, false, kChannels>(warp, channels, nullptr, grad + k * warp.out_h * warp.out_w,
                                                         d_image + k * warp.h * warp.w, nullptr, scratch, none);
  }
}

template <bool kFused>
void gradient(const Warp<float>* warps, int images, const float* image, const float* grad, float* d_image,
              float* d_theta, float* scratch) {
  const Warp<float>& warp = warps[0];
  if (d_theta && channels_are_lanes(warp)) {
    const auto both = d_image ? gradients_by_channels<kFused, true> : gradients_by_channels<kFused, false>;
    return both(warps, images, image, grad, d_image, d_theta, scratch);
  }
  if (d_theta) theta_gradient_by_cells<kFused>(warps, images, image, grad, d_theta);
  if (!d_image) return;
  const auto of_image = warp.channels > 4 ? image_gradient<kFused, kGroup> : image_gradient<kFused, 4>;
  for (int j = 0; j < images; ++j) {
    of_image(warps[j], grad + j * warp.channels * warp.out_h * warp.out_w, d_image + j * warp.channels * warp.h * warp.w,
             scratch);
  }
}

}  // namespace
}  // namespace rmpe::vector
