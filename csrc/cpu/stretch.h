// Where the points of a stretch of an output row lie, with AVX2: what loops over cells and over channels begin with.
// Included below a #pragma GCC target, and nowhere else.
#pragma once
#include "cpu/kernels.h"
#include "cpu/lanes.h"
#include "spatial_transformer.h"

namespace rmpe {
namespace {

// How many of a block's neighbours lie inside the image: none, perhaps some, or all. A block that does not fill a
// register never has all; one that has may have them side by side.
enum Inside : uint8_t { kNone, kSome, kAll, kAllNear };

// The points of up to kCells cells (s, t), (s, t + 1), ... of the output.
template <typename T>
struct Stretch {
  using L = Lanes<T>;
  using V = typename L::V;
  static constexpr int kCells = 128, kBlocks = kCells / L::kCount;

  int cells, blocks;
  Inside inside[kBlocks];
  alignas(32) int32_t offset[kCells];                                       // of neighbour (low, low)
  alignas(32) T row_low[kCells], column_low[kCells];                        // whole numbers; of blocks with some
  alignas(32) T row_weight[2][kCells] = {}, column_weight[2][kCells] = {};  // of the low and the high neighbour

  RMPE_INLINE Neighbours<V> row(int block) const { return neighbours(row_low, row_weight, block); }
  RMPE_INLINE Neighbours<V> column(int block) const { return neighbours(column_low, column_weight, block); }
  // What each of the four neighbours weighs, in the order of the output's sum.
  RMPE_INLINE void corner_weights(T (&weight)[4][kCells]) const {
    for (int i = 0; i < blocks * L::kCount; i += L::kCount) {
      for (int k = 0; k < 4; ++k) {
        L::store(weight[k] + i, L::load(row_weight[k % 2] + i) * L::load(column_weight[k / 2] + i));
      }
    }
  }
  // Lanes that hold a cell: all, but in the last block.
  RMPE_INLINE V valid(int block) const { return L::first(cells - block * L::kCount); }
  // Stores what the block's cells have; all lanes at once where it can, for AMD's processors are slow to store some.
  RMPE_INLINE void store(T* to, V value, int block) const {
    if ((block + 1) * L::kCount <= cells) return L::store(to, value);
    L::store(to, value, valid(block));
  }

 private:
  static RMPE_INLINE Neighbours<V> neighbours(const T* low, const T (&weight)[2][kCells], int block) {
    const V at = L::load(low + block * L::kCount);
    return {at, at + 1, L::load(weight[0] + block * L::kCount), L::load(weight[1] + block * L::kCount)};
  }
};

// Which neighbours of a block lie inside the image, and where; [column][row], each low or high.
template <typename T>
struct Places {
  using L = Lanes<T>;
  using V = typename L::V;

  V inside[2][2];
  typename L::Indices offset[2][2];

  RMPE_INLINE Places(const Neighbours<V>& row, const Neighbours<V>& column, V valid, int64_t h, int64_t w) {
    const V rows[2] = {L::zero_for_nan(row.low), L::zero_for_nan(row.high)};
    const V columns[2] = {L::zero_for_nan(column.low), L::zero_for_nan(column.high)};
    const V zero = splat<V>(0);
    for (int c = 0; c < 2; ++c) {
      const V inside_column = L::both(valid, L::within(columns[c], zero, splat<V>(w)));
      for (int r = 0; r < 2; ++r) {
        inside[c][r] = L::both(inside_column, L::within(rows[r], zero, splat<V>(h)));
        offset[c][r] = L::offsets(L::to_indices(rows[r]), L::to_indices(columns[c]), static_cast<int32_t>(w));
      }
    }
  }
};

template <typename T>
RMPE_INLINE Places<T> places_of(const Stretch<T>& stretch, int block, const Warp<T>& warp) {
  return Places<T>(stretch.row(block), stretch.column(block), stretch.valid(block), warp.h, warp.w);
}

// Where the points of the cells from (s, t) on lie.
template <bool kFused, typename T>
RMPE_INLINE void locate(const Warp<T>& warp, int64_t s, int64_t t, Stretch<T>& stretch) {
  using L = Lanes<T>;
  using V = typename L::V;
  const V h = splat<V>(warp.h), w = splat<V>(warp.w), u = splat<V>(warp.rows[s]);
  const int32_t last_row = static_cast<int32_t>(warp.h) - 2, last_column = static_cast<int32_t>(warp.w) - 2;
  const bool wide = last_row >= 0 && last_column >= 0;
  V theta[6];
  for (int k = 0; k < 6; ++k) theta[k] = splat<V>(warp.theta[k]);
  stretch.cells = static_cast<int>(warp.out_w - t < stretch.kCells ? warp.out_w - t : stretch.kCells);
  stretch.blocks = (stretch.cells + L::kCount - 1) / L::kCount;
  const V one = splat<V>(1);
  // In a map that is turned much, a block's rows differ: not worth asking.
  const bool level = (L::kCount - 1) * (warp.theta[1] < 0 ? -warp.theta[1] : warp.theta[1]) * warp.h < warp.out_w;
  for (int b = 0; b < stretch.blocks; ++b) {
    const int i = b * L::kCount;
    const V v = L::load(warp.columns_t + t + i);
    const V row = source<kFused>(theta, u, v, h), column = source<kFused>(theta + 3, u, v, w);
    const V low_row = round_down(row), low_column = round_down(column);
    const auto row_index = L::to_indices(low_row), column_index = L::to_indices(low_column);
    L::store(stretch.offset + i, L::offsets(row_index, column_index, static_cast<int32_t>(warp.w)));
    if (wide && i + L::kCount <= stretch.cells && L::all_within(row_index, last_row, column_index, last_column)) {
      // From 0 on, high - x is what 1 - (x - low) is, to the last bit: one of x - low and 1 - (x - low) is exact.
      const V low_row_weight = one - (row - low_row), low_column_weight = one - (column - low_column);
      L::store(stretch.row_weight[0] + i, low_row_weight);
      L::store(stretch.row_weight[1] + i, one - low_row_weight);
      L::store(stretch.column_weight[0] + i, low_column_weight);
      L::store(stretch.column_weight[1] + i, one - low_column_weight);
      const int64_t behind = stretch.offset[i] + warp.w + 2 * L::kCount;  // what pick_pairs reads, at most
      const bool near = level && behind <= warp.h * warp.w && L::side_by_side(row_index, column_index);
      stretch.inside[b] = near ? kAllNear : kAll;
      continue;
    }
    // NaN reads pixel 0.
    const V near_row = L::perhaps_within(low_row, splat<V>(-1), h);
    if (L::bits(L::both(near_row, L::perhaps_within(low_column, splat<V>(-1), w))) == 0) {
      stretch.inside[b] = kNone;
      continue;
    }
    const Neighbours<V> rows = neighbours(row), columns = neighbours(column);
    L::store(stretch.row_low + i, rows.low);
    L::store(stretch.column_low + i, columns.low);
    L::store(stretch.row_weight[0] + i, rows.low_weight);
    L::store(stretch.row_weight[1] + i, rows.high_weight);
    L::store(stretch.column_weight[0] + i, columns.low_weight);
    L::store(stretch.column_weight[1] + i, columns.high_weight);
    stretch.inside[b] = kSome;
  }
}

// Calls run(row, column) for each neighbour, 0 for low and 1 for high as constants, in the order in which d row and d
// column take their terms.
template <typename Run>
RMPE_INLINE void for_each_neighbour(const Run& run) {
  constexpr std::integral_constant<int, 0> kLow;
  constexpr std::integral_constant<int, 1> kHigh;
  run(kLow, kLow);
  run(kLow, kHigh);
  run(kHigh, kLow);
  run(kHigh, kHigh);
}

// Asks the caches for what a later row of the output touches, a few pixels further on, while this one is worked on. A
// turned map touches a little of many rows, which no processor foresees.
template <int kPixelBytes>
class Ahead {
 public:
  template <typename T>
  explicit Ahead(const Warp<T>& warp) {
    // From one cell to the one below, and to the next: in rows and in columns of the image.
    const double below[2] = {warp.theta[0] * warp.h / warp.out_h, warp.theta[3] * warp.w / warp.out_h};
    const double beside[2] = {warp.theta[1] * warp.h / warp.out_w, warp.theta[4] * warp.w / warp.out_w};
    const double rows = std::ceil(kPixels / std::fmax(std::fabs(below[0]), std::fabs(below[1])));
    distance_ = whole(rows * below[0]) * warp.w + whole(rows * below[1]);
    const double lines_a_cell = std::fmax(std::fabs(beside[0]), std::fabs(beside[1]) * kPixelBytes / 64);
    while (step_ > 1 && !(step_ * lines_a_cell <= 1.5)) step_ /= 2;
  }
  // For cells that touch the pixels from these offsets on.
  RMPE_INLINE void ask(const void* pixels, const int32_t* offset, int cells) const {
    for (int i = 0; i < cells; i += step_) {
      const int64_t at = (offset[i] + distance_) * kPixelBytes;  // may lie outside: no pointer
      _mm_prefetch(reinterpret_cast<const void*>(reinterpret_cast<intptr_t>(pixels) + at), _MM_HINT_T0);
    }
  }

 private:
  static constexpr double kPixels = 4;
  static int64_t whole(double x) { return std::fabs(x) < 1e6 ? std::lrint(x) : 0; }  // not NaN

  int64_t distance_;
  int step_ = 8;  // a cell of so many is asked for; the others' lines are the same, or another row's cells ask for them
};

}  // namespace
}  // namespace rmpe
