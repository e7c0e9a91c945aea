// The loops of winograd.h on vectors of Lanes::kCount floats. Include this only below what defines Lanes: a type Vector
// with load, store, broadcast and arithmetic; kRows and kBlocks say how many sums the registers hold.
#pragma once
#include "cpu/winograd.h"
#include "numeric.h"

namespace rmpe {
namespace {

using Vector = Lanes::Vector;
constexpr int kVectors = kBlock / Lanes::kCount;  // of a block of channels

// The points other than 0 and infinity, +-kA and +-kB, with their powers: all are floats.
constexpr float kA = 0.625f, kB = 1.5f;
constexpr float kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;

// x times y plus z, rounded once.
RMPE_INLINE Vector madd(float x, Vector y, Vector z) { return Lanes::madd(Lanes::broadcast(x), y, z); }

// Six inputs -> their transform.
RMPE_INLINE void transform_input(const Vector (&d)[kTile], Vector (&to)[kTile]) {
  const Vector even_a = madd(-kB2, d[2], d[4]), odd_a = Lanes::times(Lanes::broadcast(kA), madd(-kB2, d[1], d[3]));
  const Vector even_b = madd(-kA2, d[2], d[4]), odd_b = Lanes::times(Lanes::broadcast(kB), madd(-kA2, d[1], d[3]));
  to[0] = madd(kA2 * kB2, d[0], madd(-(kA2 + kB2), d[2], d[4]));
  to[1] = Lanes::plus(even_a, odd_a);
  to[2] = Lanes::minus(even_a, odd_a);
  to[3] = Lanes::plus(even_b, odd_b);
  to[4] = Lanes::minus(even_b, odd_b);
  to[5] = madd(kA2 * kB2, d[1], madd(-(kA2 + kB2), d[3], d[5]));
}

// Six sums -> four outputs.
RMPE_INLINE void transform_output(const Vector (&m)[kTile], Vector (&to)[kOut]) {
  const Vector sum_a = Lanes::plus(m[1], m[2]), difference_a = Lanes::minus(m[1], m[2]);
  const Vector sum_b = Lanes::plus(m[3], m[4]), difference_b = Lanes::minus(m[3], m[4]);
  to[0] = Lanes::plus(m[0], Lanes::plus(sum_a, sum_b));
  to[1] = madd(kA, difference_a, Lanes::times(Lanes::broadcast(kB), difference_b));
  to[2] = madd(kA2, sum_a, Lanes::times(Lanes::broadcast(kB2), sum_b));
  to[3] = madd(kA3, difference_a, madd(kB3, difference_b, m[5]));
}

struct Position {
  int64_t image, row, column;  // of a tile's first output

  Position(const Winograd& conv, int64_t tile) {
    const int64_t columns = conv.tile_columns(), rows = conv.tile_rows();
    column = tile_begin(tile % columns, conv.dilation_w);
    row = tile_begin(tile / columns % rows, conv.dilation_h);
    image = tile / columns / rows;
  }
};

// Transforms the channels of one vector: `count` of them, or a whole vector if that is 0.
template <bool kWhole>
RMPE_INLINE void input_vector(const float* const (&pixel)[kTile][kTile], int64_t channel, int64_t count, int64_t point,
                              float* to) {
  Vector half[kTile][kTile];  // transformed along the columns
  for (int j = 0; j < kTile; ++j) {
    Vector d[kTile], made[kTile];
    for (int i = 0; i < kTile; ++i) {
      const float* from = pixel[i][j] + channel;
      d[i] = kWhole ? Lanes::load(from) : Lanes::load(from, count);
    }
    transform_input(d, made);
    for (int i = 0; i < kTile; ++i) half[i][j] = made[i];
  }
  for (int i = 0; i < kTile; ++i) {
    Vector made[kTile];
    transform_input(half[i], made);
    for (int j = 0; j < kTile; ++j) Lanes::store(to + (i * kTile + j) * point, made[j]);
  }
}

// Transforms one tile: block b of point p lies at to[p * point + b * block], kBlock values each.
inline void input_tile(const Winograd& conv, const Position& at, const float* zeros, int64_t point, int64_t block,
                       float* to) {
  const float* pixel[kTile][kTile];
  for (int i = 0; i < kTile; ++i) {
    const int64_t row = at.row + i * conv.dilation_h - conv.pad_h;
    for (int j = 0; j < kTile; ++j) {
      const int64_t column = at.column + j * conv.dilation_w - conv.pad_w;
      const bool inside = row >= 0 && row < conv.h && column >= 0 && column < conv.w;
      pixel[i][j] = inside ? conv.x + ((at.image * conv.h + row) * conv.w + column) * conv.channels : zeros;
    }
  }
  for (int64_t c = 0; c < conv.channels; c += kBlock, to += block) {
    for (int v = 0; v < kBlock; v += Lanes::kCount) {
      const int64_t count = conv.channels - c - v;
      if (count >= Lanes::kCount) {
        input_vector<true>(pixel, c + v, 0, point, to + v);
      } else {
        input_vector<false>(pixel, c + v, count, point, to + v);
      }
    }
  }
}

// Sums of products for kRows tiles and kBlocks blocks of outputs: sum[row][output] += x[row][channel] weight[output].
// x: [block of channels][tile][channel], weight: [block of outputs][channel][output], sum: [block of outputs][tile][output].
template <int kRows, int kBlocks>
void multiply(const float* x, int64_t tiles, const float* weight, int64_t channels, float* sum) {
  constexpr int kColumns = kBlocks * kVectors;
  Vector sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < kColumns; ++k) sums[r][k] = Lanes::broadcast(0);
  }
  for (int64_t first = 0; first < channels; first += kBlock, x += tiles * kBlock) {
    const int64_t count = channels - first < kBlock ? channels - first : kBlock;
    for (int64_t c = 0; c < count; ++c, weight += kBlock) {
      Vector weights[kColumns];
      for (int k = 0; k < kColumns; ++k) {
        weights[k] = Lanes::load(weight + k / kVectors * channels * kBlock + k % kVectors * Lanes::kCount);
      }
      for (int r = 0; r < kRows; ++r) {
        const Vector value = Lanes::broadcast(x[r * kBlock + c]);
        for (int k = 0; k < kColumns; ++k) sums[r][k] = Lanes::madd(value, weights[k], sums[r][k]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < kColumns; ++k) {
      Lanes::store(sum + (k / kVectors * tiles + r) * kBlock + k % kVectors * Lanes::kCount, sums[r][k]);
    }
  }
}

// Calls multiply<rows, kBlocks> for a number of rows that is known only at run time.
template <int kBlocks, int kRows = Lanes::kRows>
RMPE_INLINE void multiply_rows(int64_t rows, const float* x, int64_t tiles, const float* weight, int64_t channels,
                               float* sum) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return multiply<kRows, kBlocks>(x, tiles, weight, channels, sum);
    multiply_rows<kBlocks, kRows - 1>(rows, x, tiles, weight, channels, sum);
  }
}

// All sums of one point: of `tiles` tiles, in groups of nearly equal size, and `count` blocks of outputs.
inline void multiply_point(const float* x, int64_t tiles, const float* weight, int64_t channels, int64_t count,
                           float* sum) {
  const int64_t groups = (tiles + Lanes::kRows - 1) / Lanes::kRows;
  for (int64_t k = 0; k < count; k += Lanes::kBlocks) {
    const float* of_block = weight + k * channels * kBlock;
    float* to = sum + k * tiles * kBlock;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * tiles / groups, rows = (g + 1) * tiles / groups - begin;
      const float* from = x + begin * kBlock;
      if (count - k >= Lanes::kBlocks) {
        multiply_rows<Lanes::kBlocks>(rows, from, tiles, of_block, channels, to + begin * kBlock);
      } else {
        multiply_rows<1>(rows, from, tiles, of_block, channels, to + begin * kBlock);
      }
    }
  }
}

// Transforms one tile's sums back, and adds bias and term. Block b of point p lies at from[p * point + b * block].
inline void output_tile(const Winograd& conv, const Position& at, int64_t point, int64_t block, const float* from) {
  const int64_t image = at.image * conv.out_h * conv.out_w;
  for (int64_t b = 0; b < conv.outputs; b += kBlock, from += block) {
    for (int v = 0; v < kBlock && b + v < conv.outputs; v += Lanes::kCount) {
      const int64_t k = b + v, count = conv.outputs - k < Lanes::kCount ? conv.outputs - k : Lanes::kCount;
      const bool whole = count == Lanes::kCount;
      Vector half[kOut][kTile];
      for (int j = 0; j < kTile; ++j) {
        Vector m[kTile], made[kOut];
        for (int i = 0; i < kTile; ++i) m[i] = Lanes::load(from + (i * kTile + j) * point + v);
        transform_output(m, made);
        for (int i = 0; i < kOut; ++i) half[i][j] = made[i];
      }
      const Vector zero = Lanes::broadcast(0);
      const Vector bias = conv.bias == nullptr ? zero
                          : whole              ? Lanes::load(conv.bias + k)
                                               : Lanes::load(conv.bias + k, count);
      for (int64_t i = 0; i < kOut; ++i) {
        const int64_t row = at.row + i * conv.dilation_h;
        if (row >= conv.out_h) break;
        Vector made[kOut];
        transform_output(half[i], made);
        for (int64_t j = 0; j < kOut; ++j) {
          const int64_t column = at.column + j * conv.dilation_w;
          if (column >= conv.out_w) break;
          const int64_t offset = (image + row * conv.out_w + column) * conv.outputs + k;
          Vector value = Lanes::plus(made[j], bias);
          if (conv.term != nullptr) {
            const float* term = conv.term + offset;
            value = Lanes::plus(value, whole ? Lanes::load(term) : Lanes::load(term, count));
          }
          if (conv.relu) value = Lanes::positive(value);
          if (whole) {
            Lanes::store(conv.y + offset, value);
          } else {
            Lanes::store(conv.y + offset, value, count);
          }
        }
      }
    }
  }
}

inline void compute_tiles(const Winograd& conv, int64_t begin, int64_t end, float* scratch) {
  const int64_t tiles = end - begin, in = blocks(conv.channels), out = blocks(conv.outputs), block = tiles * kBlock;
  const int64_t in_point = point_stride(in, tiles), out_point = point_stride(out, tiles);
  float *zeros = scratch, *x = zeros + in * kBlock, *sum = x + kPoints * in_point;
  for (int64_t i = 0; i < in * kBlock; ++i) zeros[i] = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    input_tile(conv, Position(conv, begin + t), zeros, in_point, block, x + t * kBlock);
  }
  for (int64_t p = 0; p < kPoints; ++p) {
    multiply_point(x + p * in_point, tiles, conv.weight + p * out * conv.channels * kBlock, conv.channels, out,
                   sum + p * out_point);
  }
  for (int64_t t = 0; t < tiles; ++t) {
    output_tile(conv, Position(conv, begin + t), out_point, block, sum + t * kBlock);
  }
}

}  // namespace
}  // namespace rmpe
