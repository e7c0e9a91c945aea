// PredictionHeatmap's kernel.
#pragma once
#include "cuda/block.h"
#include "prediction_heatmap.h"

namespace rmpe {

// One block per map. Which of two peaks wins does not depend on the order, so the peaks are the same as on the CPU.
template <typename T>
__global__ void __launch_bounds__(kThreads) prediction_heatmap_kernel(HeatmapPlaces places, int64_t maps,
                                                                      const T* __restrict__ heatmap,
                                                                      T* __restrict__ peaks) {
  __shared__ float score[kThreads];
  __shared__ int64_t place[kThreads];
  const int me = threadIdx.x;
  for (int64_t map = blockIdx.x; map < maps; map += gridDim.x) {
    const T* values = heatmap + map * places.h * places.w;
    Peak peak = no_peak(places);
    for (int64_t i = me; i < places.h * places.w; i += kThreads) {
      const int64_t y = i / places.w, x = i % places.w;
      const Peak here = {static_cast<float>(values[i]), places.place(x, y)};
      if (x < places.kept(y) && beats(here, peak)) peak = here;
    }
    score[me] = peak.score;
    place[me] = peak.place;
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (me < half && beats({score[me + half], place[me + half]}, {score[me], place[me]})) {
        score[me] = score[me + half];
        place[me] = place[me + half];
      }
    }
    if (me == 0) {
      peaks[3 * map] = static_cast<T>(places.x_of(place[0]));
      peaks[3 * map + 1] = static_cast<T>(places.y_of(place[0]));
      peaks[3 * map + 2] = static_cast<T>(score[0]);
    }
    __syncthreads();
  }
}

}  // namespace rmpe
