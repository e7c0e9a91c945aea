// The spatial transformer's loops with AVX2, and when which of them is used. Included by kernels_avx.h alone.
//
// What differs from the baseline is where values are kept, never what is done to one, nor in which order a sum takes
// its terms.
#pragma once
#include "cpu/by_cells.h"
#include "cpu/by_channels.h"

namespace rmpe {
namespace {

// Whether most lanes would have a channel, and a second level cache the pixels of all.
template <typename T>
bool worth_rearranging(const Warp<T>& warp) {
  constexpr int64_t kFew = 8192;
  return 2 * warp.channels > Kernels<T>::kGroup && warp.h * warp.w <= kFew && warp.out_h * warp.out_w <= kFew;
}

template <typename T>
int64_t sample_room(const Warp<T>& warp) {
  return worth_rearranging(warp) ? Kernels<T>::kGroup * warp.h * warp.w : 0;
}

template <bool kFused, typename T>
void sample(const Warp<T>& warp, int channels, const T* image, int64_t begin, int64_t end, T* out, T* scratch) {
  if (worth_rearranging(warp)) {
    sample_by_channels<kFused>(warp, channels, image, out, scratch);
  } else {
    sample_by_cells<kFused>(warp, channels, image, begin, end, out);
  }
}

template <typename T>
int64_t gradient_room(const Warp<T>& warp) {
  const int64_t pixels = Kernels<T>::kGroup * warp.h * warp.w;
  return worth_rearranging(warp) ? 2 * pixels + 2 * SlopePlanes<T>::room(warp) : pixels;
}

// Both gradients, or d theta alone, of `images` images with the channels side by side.
template <bool kFused, bool kImage, typename T>
void gradients_by_channels(const Warp<T>* warps, int images, const T* image, const T* grad, T* d_image, T* d_theta,
                           T* scratch) {
  constexpr int kGroup = Kernels<T>::kGroup;
  const Warp<T>& warp = warps[0];
  const int64_t plane = warp.h * warp.w, out_plane = warp.out_h * warp.out_w;
  T* const pixels = scratch;
  T* const d_pixels = pixels + kGroup * plane;
  T* const slopes_at = d_pixels + kGroup * plane;
  const SlopePlanes<T> slopes[2] = {{warp, slopes_at}, {warp, slopes_at + SlopePlanes<T>::room(warp)}};
  ThetaSums<T> sums;
  for (int64_t first = 0; first < warp.channels; first += kGroup) {
    const int channels = static_cast<int>(warp.channels - first < kGroup ? warp.channels - first : kGroup);
    for (int j = 0; j < images; ++j) {
      const int64_t k = j * warp.channels + first;
      T* const to = kImage ? d_image + k * plane : nullptr;
      gradient_by_channels<kFused, kImage, true, kGroup>(warps[j], channels, image + k * plane, grad + k * out_plane,
                                                         to, pixels, d_pixels, slopes[j]);
    }
    for (int k = 0; k < channels; ++k) {
      for (int64_t s = 0; s < warp.out_h; ++s) {
        const int64_t at = k * slopes[0].channel + s * slopes[0].row;
        const T(*const of_two[2])[2] = {slopes[0].first + at, slopes[images - 1].first + at};
        sums.add(warp, s, 0, slopes[0].row / kGroup, of_two);
      }
    }
  }
  sums.store(images, d_theta);
}

// d image of one image, kChannels channels at a time.
template <bool kFused, int kChannels, typename T>
void image_gradient(const Warp<T>& warp, const T* grad, T* d_image, T* scratch) {
  const SlopePlanes<T> none(warp, nullptr);
  for (int64_t k = 0; k < warp.channels; k += kChannels) {
    const int channels = static_cast<int>(warp.channels - k < kChannels ? warp.channels - k : kChannels);
    const T* from = grad + k * warp.out_h * warp.out_w;
    T* const to = d_image + k * warp.h * warp.w;
    gradient_by_channels<kFused, true, false, kChannels, T>(warp, channels, nullptr, from, to, nullptr, scratch, none);
  }
}

template <bool kFused, typename T>
void gradient(const Warp<T>* warps, int images, const T* image, const T* grad, T* d_image, T* d_theta, T* scratch) {
  const Warp<T>& warp = warps[0];
  if (d_theta && worth_rearranging(warp)) {
    if (d_image) {
      return gradients_by_channels<kFused, true>(warps, images, image, grad, d_image, d_theta, scratch);
    }
    return gradients_by_channels<kFused, false>(warps, images, image, grad, d_image, d_theta, scratch);
  }
  if (d_theta) theta_gradient_by_cells<kFused>(warps, images, image, grad, d_theta);
  if (!d_image) return;
  for (int j = 0; j < images; ++j) {
    const T* from = grad + j * warp.channels * warp.out_h * warp.out_w;
    T* to = d_image + j * warp.channels * warp.h * warp.w;
    if (warp.channels > 4) {
      image_gradient<kFused, Kernels<T>::kGroup>(warps[j], from, to, scratch);
    } else {
      image_gradient<kFused, 4>(warps[j], from, to, scratch);
    }
  }
}

}  // namespace
}  // namespace rmpe
