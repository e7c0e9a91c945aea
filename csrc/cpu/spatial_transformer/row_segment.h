// Step 1 of both vector loops: where the points of a segment of an output row lie in the image.
// Include this only below a #pragma GCC target.
#pragma once
#include "cpu/kernels.h"
#include "simd.h"
#include "spatial_transformer.h"

namespace rmpe::vector {
namespace {

// How many of a block's neighbours lie inside the image. A block that does not fill a register is never kAll; the
// neighbours of a kAllNear block fit into one register for each image row.
enum Inside : uint8_t { kNone, kSome, kAll, kAllNear };

// Up to kCells cells (s, t), (s, t + 1), ... of the output, in blocks of one register.
struct RowSegment {
  static constexpr int kCells = 128, kBlocks = kCells / kLanes;

  int cells, blocks;
  Inside inside[kBlocks];
  alignas(32) int32_t offset[kCells];                   // of neighbour (low, low)
  alignas(32) float row_low[kCells], column_low[kCells];  // whole numbers; set for kSome only
  alignas(32) float row_weight[2][kCells] = {}, column_weight[2][kCells] = {};  // of the low and the high neighbour

  RMPE_INLINE Neighbours<Floats> row(int block) const { return neighbours(row_low, row_weight, block); }
  RMPE_INLINE Neighbours<Floats> column(int block) const { return neighbours(column_low, column_weight, block); }
  // The weights of the four neighbours, in the order of the output's sum.
  RMPE_INLINE void corner_weights(float (&weight)[4][kCells]) const {
    for (int i = 0; i < blocks * kLanes; i += kLanes) {
      for (int k = 0; k < 4; ++k) {
        simd::store(weight[k] + i, simd::load(row_weight[k % 2] + i) * simd::load(column_weight[k / 2] + i));
      }
    }
  }
  // The lanes that hold a cell: all, except in the last block.
  RMPE_INLINE Floats valid(int block) const { return simd::first_lanes(cells - block * kLanes); }
  // Stores the block's cells. A full register is stored without a mask: masked stores are slow on AMD processors.
  RMPE_INLINE void store(float* to, Floats values, int block) const {
    if ((block + 1) * kLanes <= cells) return simd::store(to, values);
    simd::store(to, values, valid(block));
  }

 private:
  static RMPE_INLINE Neighbours<Floats> neighbours(const float* low, const float (&weight)[2][kCells], int block) {
    const int i = block * kLanes;
    const Floats at = simd::load(low + i);
    return {at, at + 1, simd::load(weight[0] + i), simd::load(weight[1] + i)};
  }
};

// Which neighbours of a block are inside the image, and their positions: [column][row], each low or high.
struct Places {
  Floats inside[2][2];
  Indices offset[2][2];

  RMPE_INLINE Places(const RowSegment& segment, int block, const Warp<float>& warp) {
    const Neighbours<Floats> row = segment.row(block), column = segment.column(block);
    const Floats rows[2] = {simd::zero_for_nan(row.low), simd::zero_for_nan(row.high)};
    const Floats columns[2] = {simd::zero_for_nan(column.low), simd::zero_for_nan(column.high)};
    const Floats zero = 0, valid = segment.valid(block);
    const Floats h = static_cast<float>(warp.h), w = static_cast<float>(warp.w);
    for (int c = 0; c < 2; ++c) {
      const Floats inside_column = simd::both(valid, simd::within(columns[c], zero, w));
      for (int r = 0; r < 2; ++r) {
        inside[c][r] = simd::both(inside_column, simd::within(rows[r], zero, h));
        offset[c][r] =
            simd::offsets(simd::to_indices(rows[r]), simd::to_indices(columns[c]), static_cast<int32_t>(warp.w));
      }
    }
  }
};

// Computes the points of one output row.
template <bool kFused>
class Locator {
 public:
  RMPE_INLINE Locator(const Warp<float>& warp, int64_t s)
      : warp_(warp),
        h_(static_cast<float>(warp.h)),
        w_(static_cast<float>(warp.w)),
        u_(static_cast<float>(warp.rows[s])),
        last_row_(static_cast<int32_t>(warp.h) - 2),
        last_column_(static_cast<int32_t>(warp.w) - 2),
        level_((kLanes - 1) * (warp.theta[1] < 0 ? -warp.theta[1] : warp.theta[1]) * warp.h < warp.out_w) {
    for (int k = 0; k < 6; ++k) theta_[k] = warp.theta[k];
  }

  RMPE_INLINE void block(const float* v, RowSegment& segment, int b) const {
    const int i = b * kLanes;
    const Floats vs = simd::load(v + i);
    const Floats row = source<kFused>(theta_, u_, vs, h_), column = source<kFused>(theta_ + 3, u_, vs, w_);
    const Floats low_row = round_down(row), low_column = round_down(column);
    const Indices rows = simd::to_indices(low_row), columns = simd::to_indices(low_column);
    simd::store(segment.offset + i, simd::offsets(rows, columns, static_cast<int32_t>(warp_.w)));
    const bool large = last_row_ >= 0 && last_column_ >= 0, full = i + kLanes <= segment.cells;
    if (large && full && simd::all_within(rows, last_row_, columns, last_column_)) {
      store_weights(row - low_row, column - low_column, segment, i);
      segment.inside[b] = is_near(rows, columns, segment.offset[i]) ? kAllNear : kAll;
    } else if (any_within(low_row, low_column)) {
      store_neighbours(neighbours(row), neighbours(column), segment, i);
      segment.inside[b] = kSome;
    } else {
      segment.inside[b] = kNone;
    }
  }

 private:
  // For points at least 0, the header's high - x equals 1 - (x - low) to the last bit: one of x - low and 1 - (x - low)
  // is exact.
  static RMPE_INLINE void store_weights(Floats row_fraction, Floats column_fraction, RowSegment& segment, int i) {
    const Floats one = 1, low_row = one - row_fraction, low_column = one - column_fraction;
    simd::store(segment.row_weight[0] + i, low_row);
    simd::store(segment.row_weight[1] + i, one - low_row);
    simd::store(segment.column_weight[0] + i, low_column);
    simd::store(segment.column_weight[1] + i, one - low_column);
  }
  static RMPE_INLINE void store_neighbours(const Neighbours<Floats>& row, const Neighbours<Floats>& column,
                                           RowSegment& segment, int i) {
    simd::store(segment.row_low + i, row.low);
    simd::store(segment.column_low + i, column.low);
    simd::store(segment.row_weight[0] + i, row.low_weight);
    simd::store(segment.row_weight[1] + i, row.high_weight);
    simd::store(segment.column_weight[0] + i, column.low_weight);
    simd::store(segment.column_weight[1] + i, column.high_weight);
  }
  // Whether pick_pairs may read the block's neighbours. Under a strong rotation a block's rows differ, and checking
  // is not worthwhile.
  RMPE_INLINE bool is_near(Indices rows, Indices columns, int32_t first) const {
    const int64_t end = first + warp_.w + 2 * kLanes;  // pick_pairs reads up to here
    return level_ && end <= warp_.h * warp_.w && simd::in_one_register(rows, columns);
  }
  // NaN counts: it reads pixel 0.
  RMPE_INLINE bool any_within(Floats low_row, Floats low_column) const {
    const Floats near_row = simd::within_or_nan(low_row, -1, h_);
    return simd::bits(simd::both(near_row, simd::within_or_nan(low_column, -1, w_))) != 0;
  }

  const Warp<float>& warp_;
  Floats theta_[6], h_, w_, u_;
  int32_t last_row_, last_column_;
  bool level_;
};

// Computes the points of the segment's cells, from (s, t) on.
template <bool kFused>
RMPE_INLINE void locate(const Warp<float>& warp, int64_t s, int64_t t, RowSegment& segment) {
  segment.cells = static_cast<int>(warp.out_w - t < segment.kCells ? warp.out_w - t : segment.kCells);
  segment.blocks = (segment.cells + kLanes - 1) / kLanes;
  const Locator<kFused> locator(warp, s);
  for (int b = 0; b < segment.blocks; ++b) locator.block(warp.columns_t + t, segment, b);
}

// Calls run(row, column) for each neighbour, with constants 0 for low and 1 for high, in the order in which d row
// and d column are summed.
template <typename Run>
RMPE_INLINE void for_each_neighbour(const Run& run) {
  constexpr std::integral_constant<int, 0> kLow;
  constexpr std::integral_constant<int, 1> kHigh;
  run(kLow, kLow);
  run(kLow, kHigh);
  run(kHigh, kLow);
  run(kHigh, kHigh);
}

// Prefetches the pixels that the output row reads a few cells later. A rotated map reads a few pixels of many rows,
// which hardware prefetching does not follow.
template <int kPixelBytes>
class Prefetch {
 public:
  explicit Prefetch(const Warp<float>& warp) {
    // From one cell to the one below, and to the one beside it, in image rows and columns.
    const double below[2] = {warp.theta[0] * warp.h / warp.out_h, warp.theta[3] * warp.w / warp.out_h};
    const double beside[2] = {warp.theta[1] * warp.h / warp.out_w, warp.theta[4] * warp.w / warp.out_w};
    const double rows = std::ceil(kPixels / std::fmax(std::fabs(below[0]), std::fabs(below[1])));
    distance_ = whole(rows * below[0]) * warp.w + whole(rows * below[1]);
    const double lines_per_cell = std::fmax(std::fabs(beside[0]), std::fabs(beside[1]) * kPixelBytes / 64);
    while (step_ > 1 && !(step_ * lines_per_cell <= 1.5)) step_ /= 2;
  }
  // For cells that read the pixels at these offsets.
  RMPE_INLINE void operator()(const void* pixels, const int32_t* offset, int cells) const {
    for (int i = 0; i < cells; i += step_) {
      const int64_t at = (offset[i] + distance_) * kPixelBytes;  // an integer, because it may be outside the image
      _mm_prefetch(reinterpret_cast<const void*>(reinterpret_cast<intptr_t>(pixels) + at), _MM_HINT_T0);
    }
  }

 private:
  static constexpr double kPixels = 4;
  static int64_t whole(double x) { return std::fabs(x) < 1e6 ? std::lrint(x) : 0; }  // 0 for NaN

  int64_t distance_;
  int step_ = 8;  // cells per prefetch; the others share its cache line, or other rows fetch theirs
};

}  // namespace
}  // namespace rmpe::vector
