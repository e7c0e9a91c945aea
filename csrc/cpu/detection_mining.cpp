// confidence_scores, confidence_losses, pick_hardest: choose which unmatched boxes count as negatives.
// Source: GetMaxConfidenceScores (bbox_util.cpp:683-721) and multibox_loss_layer.cpp:244-277 of RMPE@5188c23;
// ComputeConfLoss, MineHardExamples, ApplyNMS (bbox_util.cpp:1456-1530, 877-1030, 1806-1868) of weiliu89/caffe@4817bf8.
#include "boxes.h"
#include "detection_checks.h"

#include <cfloat>
#include <optional>
#include <tuple>
#include <utility>

namespace rmpe {
namespace {

using Scored = std::pair<float, int32_t>;  // score, box

bool higher(const Scored& a, const Scored& b) { return comes_first(a.first, b.first); }

// Calls value(logits, row) for every row of (N, P, C); returns the results as (N, P).
template <typename F>
Tensor per_box(const Tensor& conf, const char* op, F value) {
  const float* logits = floats(conf, op, "conf", 3);
  const int64_t rows = conf.size(0) * conf.size(1), classes = conf.size(2);
  Tensor out = torch::stable::new_empty(conf, {conf.size(0), conf.size(1)}, ScalarType::Float);
  float* values = static_cast<float*>(out.mutable_data_ptr());
  // Row by row, never several at once: equal rows must give equal bits, or ties would break otherwise than in Caffe.
  torch::stable::parallel_for(0, rows, 1 << 19, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) values[r] = value(logits + r * classes, r);
  });
  return out;
}

float sum_of_exps(const float* logits, int64_t classes, float largest) {
  float sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(logits[c] - largest);
  return sum;
}

// The probability of the best class that is not the background.
Tensor confidence_scores(const Tensor& conf, int64_t background, bool softmax) {
  const int64_t classes = conf.size(2);
  return per_box(conf, "confidence_scores", [=](const float* logits, int64_t) {
    float largest = -FLT_MAX, positive = -FLT_MAX;
    for (int64_t c = 0; c < classes; ++c) {
      largest = std::max(logits[c], largest);
      if (c != background) positive = std::max(logits[c], positive);
    }
    if (softmax) return std::exp(positive - largest) / sum_of_exps(logits, classes, largest);
    return static_cast<float>(1.0 / (1.0 + std::exp(-positive)));
  });
}

float softmax_loss(const float* logits, int64_t classes, int64_t label) {
  float largest = logits[0];
  for (int64_t c = 1; c < classes; ++c) largest = std::max(logits[c], largest);
  const float probability = std::exp(logits[label] - largest) / sum_of_exps(logits, classes, largest);
  return -std::log(std::max(probability, FLT_MIN));
}

float logistic_loss(const float* logits, int64_t classes, int64_t label) {
  float loss = 0;
  for (int64_t c = 0; c < classes; ++c) {
    const float x = logits[c];
    const int positive = x >= 0;
    const int target = c == label;
    loss -= x * (target - positive) - std::log(1 + std::exp(x - 2 * x * positive));
  }
  return loss;
}

// The confidence loss of each box for its label.
Tensor confidence_losses(const Tensor& conf, const Tensor& label, bool softmax) {
  const int64_t classes = conf.size(2);
  const int64_t* labels = integers(label, "confidence_losses", "label", conf.size(0) * conf.size(1));
  return per_box(conf, "confidence_losses", [=](const float* logits, int64_t r) {
    return softmax ? softmax_loss(logits, classes, labels[r]) : logistic_loss(logits, classes, labels[r]);
  });
}

// Moves the `count` highest to the front, in the order that Caffe's std::sort of all values gives. If no two of the
// scores that matter are equal, there is only one order, and the rest need not be sorted.
void sort_highest(std::vector<Scored>& scored, int64_t count) {
  std::vector<Scored> highest(scored);
  const auto cut = highest.begin() + count;
  if (cut != highest.end()) std::nth_element(highest.begin(), cut, highest.end(), higher);
  std::sort(highest.begin(), cut, higher);
  const auto tie = [](const Scored& a, const Scored& b) { return !higher(a, b); };
  const bool unique = std::adjacent_find(highest.begin(), cut, tie) == cut &&
                      (cut == highest.end() || higher(*(cut - 1), *cut));
  if (unique) {
    std::copy(highest.begin(), cut, scored.begin());
  } else {
    std::sort(scored.begin(), scored.end(), higher);
  }
  scored.resize(count);
}

struct Suppression {
  const float* boxes;  // (P, 4) of one image
  float threshold;
  int64_t top_k;  // negative: no limit
};

// Non-maximum suppression by score: at most top_k are considered; boxes with an area below 1e-5 are dropped.
void keep_apart(std::vector<Scored>& scored, const Suppression& options) {
  std::stable_sort(scored.begin(), scored.end(), higher);
  if (options.top_k >= 0 && options.top_k < static_cast<int64_t>(scored.size())) scored.resize(options.top_k);
  std::vector<Scored> kept;
  std::vector<Box> boxes;
  for (const Scored& one : scored) {
    const Box box = make_box(options.boxes + int64_t{one.second} * 4);
    if (box.area < 1e-5) continue;
    const bool apart = std::none_of(boxes.begin(), boxes.end(),
                                    [&](const Box& k) { return overlap(k, box) > options.threshold; });
    if (!apart) continue;
    kept.push_back(one);
    boxes.push_back(box);
  }
  scored = std::move(kept);
}

// Per image the `count` eligible boxes with the highest scores, best first: their indices, and where each
// image's begin. With `box`, non-maximum suppression is applied first.
std::tuple<Tensor, Tensor> pick_hardest(const Tensor& score, const Tensor& eligible, const Tensor& count,
                                        std::optional<Tensor> box, double nms_threshold, int64_t top_k) {
  const char* op = "pick_hardest";
  const float* scores = floats(score, op, "score", 2);
  const int64_t images = score.size(0), boxes = score.size(1);
  STD_TORCH_CHECK(eligible.scalar_type() == ScalarType::Bool && eligible.is_contiguous() &&
                      eligible.numel() == score.numel(),
                  op, ": eligible must be contiguous bool of score's size");
  const bool* allowed = static_cast<const bool*>(eligible.const_data_ptr());
  const int64_t* counts = integers(count, op, "count", images);
  const float* corners = nullptr;
  int64_t stride = 0;
  if (box) {
    corners = floats(*box, op, "box", 3);
    check_size(*box, op, "box", 1, boxes);
    check_size(*box, op, "box", 2, 4);
    STD_TORCH_CHECK(box->size(0) == 1 || box->size(0) == images, op, ": box must hold 1 or ", images,
                    " sets of boxes, got ", box->size(0));
    stride = box->size(0) == 1 ? 0 : boxes * 4;
  }
  std::vector<std::vector<Scored>> picked(images);
  torch::stable::parallel_for(0, images, images_per_thread(boxes), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::vector<Scored>& found = picked[i];
      if (counts[i] <= 0) continue;
      found.reserve(boxes);
      for (int64_t p = 0; p < boxes; ++p) {
        if (allowed[i * boxes + p]) found.emplace_back(scores[i * boxes + p], static_cast<int32_t>(p));
      }
      if (corners) keep_apart(found, {corners + i * stride, static_cast<float>(nms_threshold), top_k});
      const int64_t wanted = std::clamp<int64_t>(counts[i], 0, found.size());
      corners ? found.resize(wanted) : sort_highest(found, wanted);
    }
  });
  std::vector<int64_t> index, first(1, 0);
  for (const auto& image : picked) {
    for (const Scored& one : image) index.push_back(one.second);
    first.push_back(static_cast<int64_t>(index.size()));
  }
  return {tensor_of(index, {static_cast<int64_t>(index.size())}, ScalarType::Long, score),
          tensor_of(first, {images + 1}, ScalarType::Long, score)};
}

}  // namespace
}  // namespace rmpe

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("confidence_scores", TORCH_BOX(&rmpe::confidence_scores));
  m.impl("confidence_losses", TORCH_BOX(&rmpe::confidence_losses));
  m.impl("pick_hardest", TORCH_BOX(&rmpe::pick_hardest));
}
