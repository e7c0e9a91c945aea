// detection_output: turns the predictions for all priors into the boxes that survive, per image and class.
// Source: detection_output_layer.cpp:163-316 and bbox_util.cpp:946-997 of RMPE@5188c23; eta is the ssd branch's.
#include "boxes.h"
#include "detection_checks.h"

#include <utility>

namespace rmpe {
namespace {

using Scored = std::pair<float, int64_t>;  // score, prior

struct Options {
  int64_t background;
  Code code;
  bool in_target;
  float nms_threshold, eta;
  int64_t top_k, keep_top_k;  // negative: no limit
  float confidence_threshold;
};

struct Predictions {
  const float *offset, *score, *prior;  // (P, L, 4) and (P, C) of one image; (2, P, 4) of all
  int64_t priors, places, classes;
  Box box(int64_t p, int64_t c, const Options& options) const {
    const int64_t place = places == 1 ? 0 : c;
    return decode(prior + p * 4, prior + (priors + p) * 4, offset + (p * places + place) * 4, options.code,
                  options.in_target);
  }
};

// The priors of one class above the threshold, best first, at most top_k. Caffe's sort is stable: equal scores stay
// in the order of the priors. That makes the order total, so the rest need not be sorted.
std::vector<Scored> candidates(const Predictions& in, int64_t c, const Options& options) {
  std::vector<Scored> found;
  for (int64_t p = 0; p < in.priors; ++p) {
    const float score = in.score[p * in.classes + c];
    if (score > options.confidence_threshold) found.emplace_back(score, p);
  }
  const auto better = [](const Scored& a, const Scored& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  const auto size = static_cast<int64_t>(found.size());
  if (options.top_k >= 0 && options.top_k < size) {
    std::nth_element(found.begin(), found.begin() + options.top_k, found.end(), better);
    found.resize(options.top_k);
  }
  std::sort(found.begin(), found.end(), better);
  return found;
}

struct Kept {
  float score;
  int64_t label;
  Box box;
};

// Greedy: a box is kept if it overlaps no better one by more than the threshold, which eta < 1 lowers.
std::vector<Kept> suppress(const Predictions& in, int64_t c, const Options& options) {
  std::vector<Kept> kept;
  float threshold = options.nms_threshold;
  for (const auto& [score, p] : candidates(in, c, options)) {
    const Box box = in.box(p, c, options);
    const bool apart = std::all_of(kept.begin(), kept.end(),
                                   [&](const Kept& k) { return overlap(box, k.box) <= threshold; });
    if (!apart) continue;
    kept.push_back({score, c, box});
    if (options.eta < 1 && threshold > 0.5) threshold *= options.eta;
  }
  return kept;
}

// The keep_top_k best of one image, by label. Caffe's std::sort is not stable, so the order of equal scores depends on
// the input order, which is the same here.
void keep_best(std::vector<Kept>& kept, int64_t keep_top_k) {
  if (keep_top_k < 0 || static_cast<int64_t>(kept.size()) <= keep_top_k) return;
  std::sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) { return a.score > b.score; });
  kept.resize(keep_top_k);
  std::stable_sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) { return a.label < b.label; });
}

std::vector<float> rows_of(const std::vector<std::vector<Kept>>& images, bool clip) {
  const auto side = [&](float v) { return clip ? std::max(std::min(v, 1.0f), 0.0f) : v; };
  std::vector<float> rows;
  for (size_t i = 0; i < images.size(); ++i) {
    for (const Kept& k : images[i]) {
      rows.insert(rows.end(), {static_cast<float>(i), static_cast<float>(k.label), k.score, side(k.box.x1),
                               side(k.box.y1), side(k.box.x2), side(k.box.y2)});
    }
  }
  return rows;
}

Tensor detection_output(const Tensor& offset, const Tensor& score, const Tensor& prior, int64_t background,
                        int64_t code, bool in_target, double nms_threshold, double eta, int64_t top_k,
                        int64_t keep_top_k, double confidence_threshold, bool clip) {
  const char* op = "detection_output";
  const float* offsets = floats(offset, op, "offset", 4);
  const float* scores = floats(score, op, "score", 3);
  const float* boxes = floats(prior, op, "prior", 3);
  const int64_t images = score.size(0), priors = score.size(1), classes = score.size(2), places = offset.size(2);
  check_size(offset, op, "offset", 0, images);
  check_size(offset, op, "offset", 1, priors);
  check_size(offset, op, "offset", 3, 4);
  check_size(prior, op, "prior", 0, 2);
  check_size(prior, op, "prior", 1, priors);
  check_size(prior, op, "prior", 2, 4);
  STD_TORCH_CHECK(places == 1 || places == classes, op, ": offset must have 1 or ", classes, " places per prior, got ",
                  places);
  const Options options{background, static_cast<Code>(code), in_target, static_cast<float>(nms_threshold),
                        static_cast<float>(eta), top_k, keep_top_k, static_cast<float>(confidence_threshold)};
  std::vector<std::vector<Kept>> found(images * classes);
  // A class takes well under a millisecond: with few classes, one thread is done before another has woken up.
  torch::stable::parallel_for(0, images * classes, 4, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / classes, c = task % classes;
      if (c == options.background) continue;
      const Predictions in{offsets + i * priors * places * 4, scores + i * priors * classes, boxes,
                           priors, places, classes};
      found[task] = suppress(in, c, options);
    }
  });
  std::vector<std::vector<Kept>> kept(images);
  for (int64_t task = 0; task < images * classes; ++task) {
    auto& image = kept[task / classes];
    image.insert(image.end(), found[task].begin(), found[task].end());
  }
  for (auto& image : kept) keep_best(image, keep_top_k);
  const std::vector<float> rows = rows_of(kept, clip);
  return tensor_of(rows, {static_cast<int64_t>(rows.size()) / 7, 7}, ScalarType::Float, offset);
}

}  // namespace
}  // namespace rmpe

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) { m.impl("detection_output", TORCH_BOX(&rmpe::detection_output)); }
