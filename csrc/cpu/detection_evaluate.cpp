// detection_evaluate: which detections hit a true box. Source: detection_evaluate_layer.cpp:126-216 of RMPE@5188c23.
#include "boxes.h"
#include "detection_checks.h"

#include <map>
#include <utility>

namespace rmpe {
namespace {

struct Detection {
  float score;
  Box box;
};

struct Truth {
  bool difficult;
  Box box;
};

using Key = std::pair<float, float>;  // image, label; whole numbers

struct Rules {
  float threshold;
  bool difficult_counts;
  float pixel;
};

// (hit, miss) of one detection; both are 0 if the true box is difficult and does not count.
std::pair<float, float> judge(const Box& box, const std::vector<Truth>& truths, std::vector<bool>& taken,
                              const Rules& rules) {
  float best = -1;
  size_t at = 0;
  for (size_t j = 0; j < truths.size(); ++j) {
    const float shared = overlap(box, truths[j].box, rules.pixel);
    if (shared > best) {
      best = shared;
      at = j;
    }
  }
  if (truths.empty() || !(best >= rules.threshold)) return {0.0f, 1.0f};
  if (!rules.difficult_counts && truths[at].difficult) return {0.0f, 0.0f};
  const bool first = !taken[at];
  taken[at] = true;
  return {first ? 1.0f : 0.0f, first ? 0.0f : 1.0f};
}

Tensor detection_evaluate(const Tensor& detection, const Tensor& truth, double threshold, bool difficult_counts,
                          bool pixels) {
  const char* op = "detection_evaluate";
  const float* d = floats(detection, op, "detection", 2);
  const float* t = floats(truth, op, "truth", 2);
  check_size(detection, op, "detection", 1, 8);  // image, label, score, four corners, area
  check_size(truth, op, "truth", 1, 8);          // image, label, difficult, four corners, area
  std::map<Key, std::vector<Detection>> detections;
  for (int64_t i = 0; i < detection.size(0); ++i, d += 8) {
    detections[{d[0], d[1]}].push_back({d[2], {d[3], d[4], d[5], d[6], d[7]}});
  }
  std::map<Key, std::vector<Truth>> truths;
  for (int64_t i = 0; i < truth.size(0); ++i, t += 8) {
    truths[{t[0], t[1]}].push_back({t[2] != 0, {t[3], t[4], t[5], t[6], t[7]}});
  }
  const Rules rules{static_cast<float>(threshold), difficult_counts, pixels ? 1.0f : 0.0f};
  std::vector<float> rows;
  for (auto& [key, found] : detections) {
    const auto match = truths.find(key);
    const std::vector<Truth> here = match == truths.end() ? std::vector<Truth>() : match->second;
    // Without a true box, the detections keep their order. With one, they are sorted by Caffe's std::sort, not stable.
    if (!here.empty()) {
      std::sort(found.begin(), found.end(),
                [](const Detection& a, const Detection& b) { return comes_first(a.score, b.score); });
    }
    std::vector<bool> taken(here.size());
    for (const Detection& one : found) {
      const auto [hit, miss] = judge(one.box, here, taken, rules);
      rows.insert(rows.end(), {key.first, key.second, one.score, hit, miss});
    }
  }
  return tensor_of(rows, {static_cast<int64_t>(rows.size()) / 5, 5}, ScalarType::Float, detection);
}

}  // namespace
}  // namespace rmpe

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) { m.impl("detection_evaluate", TORCH_BOX(&rmpe::detection_evaluate)); }
