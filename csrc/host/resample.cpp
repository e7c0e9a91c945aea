#include "resample.h"

#include <algorithm>
#include <vector>

namespace rmpe {
namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

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
      : image_(image), w_(w), channels_(channels), columns_(columns), values_(columns.count * channels), range_(range),
        normalised_(w * channels), kept_(keep, kNone), rows_(keep * values_) {}

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
    const T* source = image_ + index * w_ * channels_;
    for (size_t i = 0; i < normalised_.size(); ++i) normalised_[i] = (source[i] - range_.low) / range_.span;
    switch (channels_) {  // known when it is compiled, so that the loop over them is unrolled
      case 1: return sum_columns<1>(out);
      case 3: return sum_columns<3>(out);
      default: return sum_columns<0>(out);
    }
  }

  template <size_t kChannels>
  void sum_columns(double* out) const {
    const size_t channels = kChannels ? kChannels : channels_, width = columns_.width;
    const int32_t* index = columns_.index;
    const double* weight = columns_.weight;
    for (size_t x = 0; x < columns_.count; ++x, index += width, weight += width, out += channels) {
      const T* pixel = normalised_.data() + static_cast<size_t>(index[0]) * channels;
      for (size_t c = 0; c < channels; ++c) out[c] = weight[0] * pixel[c];
      for (size_t tap = 1; tap < width; ++tap) {
        pixel = normalised_.data() + static_cast<size_t>(index[tap]) * channels;
        for (size_t c = 0; c < channels; ++c) out[c] += weight[tap] * pixel[c];
      }
    }
  }

  const T* image_;
  size_t w_, channels_;
  Taps columns_;
  size_t values_;  // in a row of the result
  Range<T> range_;
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
