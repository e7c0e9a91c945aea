// PredictionHeatmap on the CPU.
#include "prediction_heatmap.h"

#include <torch/csrc/stable/library.h>

#include "parallel.h"
#include "prediction_heatmap_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

// The greatest of `count` values, or `least`. NaN is never greater.
template <typename T>
float greatest(const T* values, int64_t count, float least) {
  constexpr int kLanes = 8;  // independent, so that none waits for another
  float best[kLanes];
  for (float& b : best) b = least;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float value = static_cast<float>(values[i + k]);
      best[k] = value > best[k] ? value : best[k];
    }
  }
  for (; i < count; ++i) {
    const float value = static_cast<float>(values[i]);
    best[0] = value > best[0] ? value : best[0];
  }
  for (int k = 1; k < kLanes; ++k) best[0] = best[k] > best[0] ? best[k] : best[0];
  return best[0];
}

// First the score, then the first place that has it.
template <typename T>
Peak peak_of(const T* map, const HeatmapPlaces& places) {
  Peak peak = no_peak(places);
  float score = peak.score;
  for (int64_t y = 0; y < places.h; ++y) score = greatest(map + y * places.w, places.kept(y), score);
  for (int64_t y = 0; y < places.h; ++y) {
    const int64_t kept = places.kept(y);
    for (int64_t x = 0; x < kept; ++x) {
      const Peak here = {static_cast<float>(map[y * places.w + x]), places.place(x, y)};
      if (here.score == score) {
        if (beats(here, peak)) peak = here;
        break;  // the rest of this row lies further right
      }
    }
  }
  return peak;
}

template <typename T>
void find_peaks(const Tensor& heatmap, Tensor& peaks) {
  const HeatmapPlaces places(heatmap.size(2), heatmap.size(3));
  const T* maps = heatmap.const_data_ptr<T>();
  T* to = peaks.mutable_data_ptr<T>();
  for_each_task(heatmap.size(0) * heatmap.size(1), heatmap.numel(), [&](int64_t i) {
    const Peak peak = peak_of(maps + i * places.h * places.w, places);
    to[3 * i] = static_cast<T>(places.x_of(peak.place));
    to[3 * i + 1] = static_cast<T>(places.y_of(peak.place));
    to[3 * i + 2] = static_cast<T>(peak.score);
  });
}

Tensor prediction_heatmap(const Tensor& heatmap) {
  const Tensor maps = check_heatmap(heatmap);
  Tensor peaks = uninitialized(heatmap, {heatmap.size(0), heatmap.size(1), 3});
  if (maps.numel() > 0) with_type(maps, [&](auto type) { find_peaks<decltype(type)>(maps, peaks); });
  return peaks;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) { m.impl("prediction_heatmap", TORCH_BOX(&prediction_heatmap)); }

}  // namespace rmpe
