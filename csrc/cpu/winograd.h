// A 3 x 3 convolution of stride 1 with a quarter of the products: Winograd's F(4 x 4, 3 x 3), after Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks" (2016).
//
// A tile of 6 x 6 inputs gives 4 x 4 outputs. Both are polynomials' values at five points and infinity: inputs and
// weights are transformed, multiplied point by point with a sum over the channels (36 matrix products), and transformed
// back. The points are 0, +-5/8, +-3/2: with 0, +-1, +-2, as in the paper, the rounding errors are twice as large.
//
// Images lie with the channels of a pixel together (channels-last). All instruction sets give the same bits: each sum
// over the channels is in their order, by fused multiply-adds.
#pragma once
#include <cstdint>

#include "cpu/blocks.h"
#include "cpu/kernels.h"

namespace rmpe {

constexpr int kTile = 6;           // rows and columns of a tile of the input
constexpr int kOut = 4;            // and of the output
constexpr int kPoints = kTile * kTile;

// How many tiles cover `size` outputs in a row. With a dilation, as many tiles as its size lie within one another.
constexpr int64_t tiles_along(int64_t size, int64_t dilation) {
  return (size + kOut * dilation - 1) / (kOut * dilation) * dilation;
}
// The first output of one of them.
constexpr int64_t tile_begin(int64_t tile, int64_t dilation) {
  return tile / dilation * kOut * dilation + tile % dilation;
}

// One convolution. Weights: [point][block of outputs][channel][output of the block], zero beyond the last output.
struct Winograd {
  int64_t n, channels, h, w;
  int64_t outputs, out_h, out_w;
  int64_t pad_h, pad_w;  // rows above and columns left of the image that the first output reads
  int64_t dilation_h, dilation_w;  // distance of the rows and columns that an output reads, and of those of a tile
  bool relu;
  const float *x, *weight;
  const float* bias;  // null for none
  const float* term;  // in the output's layout, added to it; null for none
  float* y;

  int64_t tile_rows() const { return tiles_along(out_h, dilation_h); }
  int64_t tile_columns() const { return tiles_along(out_w, dilation_w); }
  int64_t tiles() const { return n * tile_rows() * tile_columns(); }
};

// Distance between the values of two points of `count` blocks of `tiles` tiles. A multiple of 4096 bytes, which it could
// be without the last term, would put all points of a tile into the same few lines of the first cache.
constexpr int64_t point_stride(int64_t count, int64_t tiles) { return (count * tiles + 1) * kBlock; }

// How many floats of scratch memory the computation of `tiles` tiles needs.
inline int64_t winograd_room(const Winograd& conv, int64_t tiles) {
  const int64_t in = blocks(conv.channels), out = blocks(conv.outputs);
  return kPoints * (point_stride(in, tiles) + point_stride(out, tiles)) + in * kBlock;
}

// Computes tiles [begin, end), which are counted along rows, then columns, then images.
using WinogradTiles = void (*)(const Winograd& conv, int64_t begin, int64_t end, float* scratch);

void winograd_baseline(const Winograd& conv, int64_t begin, int64_t end, float* scratch);
void winograd_avx2(const Winograd& conv, int64_t begin, int64_t end, float* scratch);
void winograd_avx512(const Winograd& conv, int64_t begin, int64_t end, float* scratch);

// weight: (outputs, channels, 3, 3) -> transformed, in the layout of Winograd::weight.
void winograd_weight(const float* weight, int64_t outputs, int64_t channels, float* transformed);

inline WinogradTiles best_winograd() {
#if RMPE_HAVE_VECTORS
  if (has_avx512()) return winograd_avx512;
  if (has_avx2()) return winograd_avx2;
#endif
  return winograd_baseline;
}

}  // namespace rmpe
