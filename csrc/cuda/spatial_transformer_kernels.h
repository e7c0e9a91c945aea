// The spatial transformer's kernels.
#pragma once
#include "cuda/block.h"
#include "cuda/reach.h"
#include "spatial_transformer.h"

namespace rmpe {

// The warp of a batch, and how it is divided: a block computes a tile of positions of one image, for `together`
// channels. Positions are output cells, or, in image_gradient_ordered, pixels of the image.
constexpr int kTileHeight = 8, kTileWidth = kThreads / kTileHeight;

template <typename T>
struct BatchWarp {
  const T* theta;
  int64_t n, channels, h, w, out_h, out_w;
  uint32_t tiles_h, tiles_w, groups, blocks;  // more than 32 bits can count would need terabytes
  int32_t together;

  BatchWarp(const T* theta, int64_t n, int64_t channels, int64_t h, int64_t w, int64_t out_h, int64_t out_w,
            int64_t places_h, int64_t places_w, int32_t most_together)
      : theta(theta), n(n), channels(channels), h(h), w(w), out_h(out_h), out_w(out_w), together(most_together) {
    constexpr uint32_t kEnough = 2048;  // blocks that keep a large GPU busy
    tiles_h = static_cast<uint32_t>((places_h + kTileHeight - 1) / kTileHeight);
    tiles_w = static_cast<uint32_t>((places_w + kTileWidth - 1) / kTileWidth);
    const auto count = [&] {
      groups = static_cast<uint32_t>((channels + together - 1) / together);
      return static_cast<uint32_t>(n) * groups * tiles_h * tiles_w;
    };
    while (count() < kEnough && together > 1) together /= 2;
    blocks = count();
  }
};

// The part of a BatchWarp that one block computes.
template <typename T>
struct Tile {
  int64_t image, plane, top, left;  // plane: image and first channel as one number; then the tile's first place
  int32_t channels;

  __device__ Tile(const BatchWarp<T>& warp, uint32_t block) {
    left = int64_t{block % warp.tiles_w} * kTileWidth;
    block /= warp.tiles_w;
    top = int64_t{block % warp.tiles_h} * kTileHeight;
    block /= warp.tiles_h;
    const int64_t first = int64_t{block % warp.groups} * warp.together, left_over = warp.channels - first;
    channels = left_over < warp.together ? static_cast<int32_t>(left_over) : warp.together;
    image = block / warp.groups;
    plane = image * warp.channels + first;
  }
};

// The grid of a tile of cells, which a block's first threads compute for all of them.
struct TileGrid {
  double row[kTileHeight], column[kTileWidth];

  template <typename T>
  __device__ void fill(const BatchWarp<T>& warp, const Tile<T>& tile) {
    const int me = threadIdx.x;
    if (me < kTileWidth) column[me] = cell(tile.left + me, warp.out_w);
    if (me >= kTileWidth && me < kTileWidth + kTileHeight) {
      row[me - kTileWidth] = cell(tile.top + me - kTileWidth, warp.out_h);
    }
  }
};

template <bool kFused, typename T>
struct Point {
  Neighbours<T> row, column;

  __device__ Point(const BatchWarp<T>& warp, int64_t image, double at_row, double at_column) {
    const T* theta = warp.theta + 6 * image;
    const T u = static_cast<T>(at_row), v = static_cast<T>(at_column);
    row = neighbours(source<kFused>(theta, u, v, static_cast<T>(warp.h)));
    column = neighbours(source<kFused>(theta + 3, u, v, static_cast<T>(warp.w)));
  }
};

// Number of channels loaded before the first is used, to hide memory latency.
constexpr int kInFlight = 4;

template <bool kFused, typename T>
__global__ void __launch_bounds__(kThreads) sample_kernel(BatchWarp<T> warp, const T* __restrict__ image,
                                                          T* __restrict__ out) {
  __shared__ TileGrid grid;
  const int down = threadIdx.x / kTileWidth, right = threadIdx.x % kTileWidth;
  const int64_t cells = warp.out_h * warp.out_w, pixels = warp.h * warp.w;
  for (uint32_t block = blockIdx.x; block < warp.blocks; block += gridDim.x) {
    const Tile<T> tile(warp, block);
    grid.fill(warp, tile);
    __syncthreads();
    const int64_t s = tile.top + down, t = tile.left + right;
    if (s < warp.out_h && t < warp.out_w) {
      const Point<kFused, T> point(warp, tile.image, grid.row[down], grid.column[right]);
      const Corners<T> corners(point.row, point.column, warp.h, warp.w);
      const T* from = image + tile.plane * pixels;
      T* to = out + tile.plane * cells + s * warp.out_w + t;
      for (int c = 0; c < tile.channels; c += kInFlight) {
        T pixel[kInFlight][4];
        for (int k = 0; k < kInFlight; ++k) {
          if (c + k < tile.channels) corners.read(from + (c + k) * pixels, pixel[k]);
        }
        for (int k = 0; k < kInFlight; ++k) {
          if (c + k < tile.channels) to[(c + k) * cells] = blend<kFused>(corners, pixel[k]);
        }
      }
    }
    __syncthreads();
  }
}

// Both gradients, in the fastest order. d_image and d_theta must be initialized to zero.
template <bool kFused, bool kImage, bool kTheta, typename T>
__global__ void __launch_bounds__(kThreads) gradient_kernel(BatchWarp<T> warp, const T* __restrict__ image,
                                                            const T* __restrict__ grad, T* d_image, T* d_theta) {
  __shared__ TileGrid grid;
  const int down = threadIdx.x / kTileWidth, right = threadIdx.x % kTileWidth;
  const int64_t cells = warp.out_h * warp.out_w, pixels = warp.h * warp.w;
  for (uint32_t block = blockIdx.x; block < warp.blocks; block += gridDim.x) {
    const Tile<T> tile(warp, block);
    grid.fill(warp, tile);
    __syncthreads();
    const int64_t s = tile.top + down, t = tile.left + right;
    T sum[6] = {0, 0, 0, 0, 0, 0};
    if (s < warp.out_h && t < warp.out_w) {
      const double u = grid.row[down], v = grid.column[right];
      const Point<kFused, T> point(warp, tile.image, u, v);
      const Corners<T> corners(point.row, point.column, warp.h, warp.w);
      for (int c = 0; c < tile.channels; ++c) {
        const int64_t plane = tile.plane + c;
        const T g = grad[plane * cells + s * warp.out_w + t];
        if (kImage) {
          for (int k = 0; k < 4; ++k) {
            if (corners.inside[k]) atomicAdd(d_image + plane * pixels + corners.offset[k], corners.weight[k] * g);
          }
        }
        if (kTheta) {
          T term[6];
          theta_terms(slope_at<kFused>(point.row, point.column, corners, image + plane * pixels, static_cast<T>(warp.h),
                                       static_cast<T>(warp.w), g),
                      u, v, term);
          for (int k = 0; k < 6; ++k) sum[k] += term[k];
        }
      }
    }
    __syncthreads();
    if (kTheta) {
      block_sum(sum);
      if (threadIdx.x == 0) {
        for (int k = 0; k < 6; ++k) atomicAdd(d_theta + 6 * tile.image + k, sum[k]);
      }
    }
  }
}

// d theta in the CPU's order: one block of kSummers + kThreads threads per image.
template <bool kFused, typename T>
__global__ void __launch_bounds__(kSummers + kThreads) theta_gradient_ordered_kernel(BatchWarp<T> warp,
                                                                                     const T* __restrict__ image,
                                                                                     const T* __restrict__ grad,
                                                                                     T* __restrict__ d_theta) {
  const int64_t cells = warp.out_h * warp.out_w, pixels = warp.h * warp.w;
  for (int64_t i = blockIdx.x; i < warp.n; i += gridDim.x) {
    const auto terms = [&](int64_t k, T* term) {
      const int64_t plane = i * warp.channels + k / cells, at = k % cells;
      const double u = cell(at / warp.out_w, warp.out_h), v = cell(at % warp.out_w, warp.out_w);
      const Point<kFused, T> point(warp, i, u, v);
      const Corners<T> corners(point.row, point.column, warp.h, warp.w);
      theta_terms(slope_at<kFused>(point.row, point.column, corners, image + plane * pixels, static_cast<T>(warp.h),
                                   static_cast<T>(warp.w), grad[plane * cells + at]),
                  u, v, term);
    };
    const T sum = ordered_sum<6, T>(warp.channels * cells, terms);
    if (threadIdx.x < 6) d_theta[6 * i + threadIdx.x] = sum;
  }
}

// d image in the CPU's order: each thread looks up the cells that read its pixel. The tiles are of pixels.
// rows, columns: the output's grid.
constexpr int kMostTogether = 4;  // channels

template <bool kFused, typename T>
__global__ void __launch_bounds__(kThreads) image_gradient_ordered_kernel(BatchWarp<T> warp,
                                                                          const double* __restrict__ rows,
                                                                          const double* __restrict__ columns,
                                                                          const T* __restrict__ grad,
                                                                          T* __restrict__ d_image) {
  const int64_t cells = warp.out_h * warp.out_w, pixels = warp.h * warp.w;
  for (uint32_t block = blockIdx.x; block < warp.blocks; block += gridDim.x) {
    const Tile<T> tile(warp, block);
    const int64_t i = tile.top + threadIdx.x / kTileWidth, j = tile.left + threadIdx.x % kTileWidth;
    if (i >= warp.h || j >= warp.w) continue;
    const Reach reach(warp.theta + 6 * tile.image, warp.h, warp.w, warp.out_h, warp.out_w);
    T sum[kMostTogether] = {};
    int64_t s, s_end;
    for (reach.rows(i, j, s, s_end); s < s_end; ++s) {
      int64_t t, t_end;
      for (reach.columns(i, j, s, t, t_end); t < t_end; ++t) {
        const Point<kFused, T> point(warp, tile.image, rows[s], columns[t]);
        const Corners<T> corners(point.row, point.column, warp.h, warp.w);
        for (int k = 0; k < 4; ++k) {
          if (!corners.inside[k] || corners.offset[k] != i * warp.w + j) continue;
          const T* from = grad + tile.plane * cells + s * warp.out_w + t;
          for (int c = 0; c < kMostTogether; ++c) {
            if (c < tile.channels) sum[c] += corners.weight[k] * from[c * cells];
          }
        }
      }
    }
    for (int c = 0; c < kMostTogether; ++c) {
      if (c < tile.channels) d_image[(tile.plane + c) * pixels + i * warp.w + j] = sum[c];
    }
  }
}

// cell(i, n) of rows, then of columns.
template <typename Double>
__global__ void grid_kernel(int64_t out_h, int64_t out_w, Double* rows, Double* columns) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i < out_h) rows[i] = cell(i, out_h);
  if (i >= out_h && i < out_h + out_w) columns[i - out_h] = cell(i - out_h, out_w);
}

template <typename T>
__global__ void invert_theta_kernel(int64_t n, const T* __restrict__ theta, T* __restrict__ gamma) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i < n) invert(theta + 6 * i, gamma + 6 * i);
}

template <typename T>
__global__ void invert_theta_backward_kernel(int64_t n, const T* __restrict__ theta, const T* __restrict__ grad,
                                             T* __restrict__ d_theta) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i < n) invert_gradient(theta + 6 * i, grad + 6 * i, d_theta + 6 * i);
}

}  // namespace rmpe
