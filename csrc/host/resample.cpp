#include "resample.h"

#include <algorithm>
#include <vector>

namespace rmpe {
namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

// Single values instead of pixels: a loop over them needs no inner loop over channels.
struct FlatTaps {
  std::vector<size_t> offset;  // width x values
  std::vector<double> weight;  // width x values
};

FlatTaps flatten(const Taps& columns, size_t channels) {
  const size_t values = columns.count * channels;
  FlatTaps flat{std::vector<size_t>(columns.width * values), std::vector<double>(columns.width * values)};
  for (size_t tap = 0; tap < columns.width; ++tap)
    for (size_t i = 0; i < values; ++i) {
      const size_t from = i / channels * columns.width + tap;
      flat.offset[tap * values + i] = static_cast<size_t>(columns.index[from]) * channels + i % channels;
      flat.weight[tap * values + i] = columns.weight[from];
    }
  return flat;
}

// sum += weight x source; the first call assigns.
void accumulate(double* sum, const double* source, double weight, size_t values, bool first) {
  if (first)
    for (size_t i = 0; i < values; ++i) sum[i] = weight * source[i];
  else
    for (size_t i = 0; i < values; ++i) sum[i] += weight * source[i];
}

template <typename T>
class RowResampler {
 public:
  RowResampler(const T* image, size_t w, size_t channels, const Taps& columns, const Range<T>& range, size_t keep)
      : image_(image), length_(w * channels), values_(columns.count * channels), range_(range),
        taps_(flatten(columns, channels)), width_(columns.width), normalised_(length_), kept_(keep, kNone),
        rows_(keep * values_) {}

  // A source row, normalized and resampled to the result's columns. The last few are kept, because neighbouring rows of
  // the result reuse them.
  const double* row(size_t index) {
    const size_t slot = index % kept_.size();
    double* out = rows_.data() + slot * values_;
    if (kept_[slot] != index) {
      compute(index, out);
      kept_[slot] = index;
    }
    return out;
  }

 private:
  void compute(size_t index, double* out) {
    const T* source = image_ + index * length_;
    for (size_t i = 0; i < length_; ++i) normalised_[i] = (source[i] - range_.low) / range_.span;
    for (size_t tap = 0; tap < width_; ++tap) {
      const size_t* offset = taps_.offset.data() + tap * values_;
      const double* weight = taps_.weight.data() + tap * values_;
      if (tap == 0)
        for (size_t i = 0; i < values_; ++i) out[i] = weight[i] * normalised_[offset[i]];
      else
        for (size_t i = 0; i < values_; ++i) out[i] += weight[i] * normalised_[offset[i]];
    }
  }

  const T* image_;
  size_t length_;  // values in a source row
  size_t values_;  // values in a row of the result
  Range<T> range_;
  FlatTaps taps_;
  size_t width_;
  std::vector<T> normalised_;
  std::vector<size_t> kept_;
  std::vector<double> rows_;
};

}  // namespace

template <typename T>
void resample(const T* image, size_t w, size_t channels, const Taps& rows, const Taps& columns, const Range<T>& range,
              T* result) {
  const size_t values = columns.count * channels;
  RowResampler<T> source(image, w, channels, columns, range, rows.width);
  std::vector<double> sum(values);
  const double low = range.low, span = range.span;
  for (size_t y = 0; y < rows.count; ++y, result += values) {
    for (size_t tap = 0; tap < rows.width; ++tap) {
      const size_t at = y * rows.width + tap;
      accumulate(sum.data(), source.row(static_cast<size_t>(rows.index[at])), rows.weight[at], values, tap == 0);
    }
    if (range.clip)
      for (double& value : sum) value = std::min(std::max(value, 0.0), 1.0);
    for (size_t i = 0; i < values; ++i) result[i] = static_cast<T>(sum[i] * span + low);
  }
}

template void resample(const float*, size_t, size_t, const Taps&, const Taps&, const Range<float>&, float*);
template void resample(const double*, size_t, size_t, const Taps&, const Taps&, const Range<double>&, double*);

}  // namespace rmpe
