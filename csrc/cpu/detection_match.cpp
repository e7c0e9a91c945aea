// match_boxes: which prior is responsible for which true box. Source: MatchBBox, bbox_util.cpp:382-501 of RMPE@5188c23;
// boxes that leave the image (-2) are the ssd branch's ignore_cross_boundary_bbox.
#include "boxes.h"
#include "detection_checks.h"

#include <tuple>

namespace rmpe {
namespace {

constexpr int64_t kFree = -1, kOutside = -2;
constexpr float kLeast = 1e-6f;  // an overlap must be larger to count

// Corners and areas of many boxes, one array each, so that overlaps with one box are computed in parallel.
struct Columns {
  std::vector<float> x1, y1, x2, y2, area;
  Columns(const float* box, int64_t count) : x1(count), y1(count), x2(count), y2(count), area(count) {
    for (int64_t i = 0; i < count; ++i, box += 4) {
      x1[i] = box[0], y1[i] = box[1], x2[i] = box[2], y2[i] = box[3];
      area[i] = make_box(box).area;
    }
  }
  int64_t size() const { return static_cast<int64_t>(x1.size()); }
  bool leaves_image(int64_t i) const {
    const auto outside = [](float v) { return v < 0 || v > 1; };
    return outside(x1[i]) || outside(y1[i]) || outside(x2[i]) || outside(y2[i]);
  }
};

// overlap() of boxes.h for every box of `a`, without branches: if boxes are disjoint, width or height is negative.
void overlaps(const Columns& a, const Box& b, float* out) {
  const int64_t count = a.size();
  const float *x1 = a.x1.data(), *y1 = a.y1.data(), *x2 = a.x2.data(), *y2 = a.y2.data(), *area = a.area.data();
  for (int64_t i = 0; i < count; ++i) {
    const float width = std::min(x2[i], b.x2) - std::max(x1[i], b.x1);
    const float height = std::min(y2[i], b.y2) - std::max(y1[i], b.y1);
    const bool meet = (width > 0) & (height > 0);
    const float shared = width * height;
    const float whole = area[i] + b.area - shared;
    out[i] = (meet ? shared : 0.0f) / (meet ? whole : 1.0f);
  }
}

// One image, or one class of it: every box against its true boxes.
class Matcher {
 public:
  Matcher(const Columns& boxes, const float* truth, int64_t truths, bool inside_only, int64_t* match, float* best)
      : boxes_(boxes.size()), truths_(truths), match_(match), best_(best), shared_(boxes_ * truths) {
    std::fill(match_, match_ + boxes_, kFree);
    std::fill(best_, best_ + boxes_, 0.0f);
    for (int64_t j = 0; j < truths_; ++j) overlaps(boxes, make_box(truth + j * 4), shared_.data() + j * boxes_);
    if (!inside_only || truths_ == 0) return;
    for (int64_t i = 0; i < boxes_; ++i) {
      if (boxes.leaves_image(i)) match_[i] = kOutside;
    }
  }

  void run(float threshold, bool per_prediction) {
    for (int64_t j = 0; j < truths_; ++j) {
      const float* row = shared_.data() + j * boxes_;
      for (int64_t i = 0; i < boxes_; ++i) {
        if (row[i] > kLeast && row[i] > best_[i] && match_[i] == kFree) best_[i] = row[i];
      }
    }
    give_each_truth_its_best();
    if (per_prediction) give_the_rest(threshold);
  }

 private:
  struct Pair {
    float shared = -1;
    int64_t box = -1;
  };

  Pair best_free(int64_t j) const {
    const float* row = shared_.data() + j * boxes_;
    Pair best;
    for (int64_t i = 0; i < boxes_; ++i) {
      if (row[i] > kLeast && row[i] > best.shared && match_[i] == kFree) best = {row[i], i};
    }
    return best;
  }

  // Repeatedly takes the pair with the largest overlap; among equals, the first box, then the first true box.
  void give_each_truth_its_best() {
    std::vector<Pair> best(truths_);
    for (int64_t j = 0; j < truths_; ++j) best[j] = best_free(j);
    for (;;) {
      int64_t at = -1;
      for (int64_t j = 0; j < truths_; ++j) {
        if (best[j].box < 0) continue;
        const bool better = at < 0 || best[j].shared > best[at].shared ||
                            (best[j].shared == best[at].shared && best[j].box < best[at].box);
        if (better) at = j;
      }
      if (at < 0) return;
      const Pair taken = best[at];
      match_[taken.box] = at;
      best_[taken.box] = taken.shared;
      best[at] = {};
      for (int64_t j = 0; j < truths_; ++j) {
        if (best[j].box == taken.box) best[j] = best_free(j);
      }
    }
  }

  // Each remaining box takes the true box that it overlaps most, if by at least the threshold.
  void give_the_rest(float threshold) {
    for (int64_t i = 0; i < boxes_; ++i) {
      if (match_[i] != kFree || best_[i] <= kLeast || best_[i] < threshold) continue;
      for (int64_t j = 0; j < truths_ && match_[i] == kFree; ++j) {
        if (shared_[j * boxes_ + i] == best_[i]) match_[i] = j;
      }
    }
  }

  int64_t boxes_, truths_;
  int64_t* match_;
  float* best_;
  std::vector<float> shared_;  // (true box, box)
};

std::tuple<Tensor, Tensor> match_boxes(const Tensor& box, const Tensor& truth, const Tensor& first, double threshold,
                                       bool per_prediction, bool inside_only) {
  const char* op = "match_boxes";
  const float* boxes = floats(box, op, "box", 3);
  const float* truths = floats(truth, op, "truth", 2);
  check_size(box, op, "box", 2, 4);
  check_size(truth, op, "truth", 1, 4);
  const int64_t sets = first.numel() - 1, count = box.size(1), own = box.size(0);
  const int64_t* begin = integers(first, op, "first", sets + 1);
  STD_TORCH_CHECK(own == 1 || own == sets, op, ": box must hold 1 or ", sets, " sets of boxes, got ", own);
  for (int64_t s = 0; s < sets; ++s) {
    STD_TORCH_CHECK(begin[s] >= 0 && begin[s] <= begin[s + 1] && begin[s + 1] <= truth.size(0), op,
                    ": first must rise from 0 to ", truth.size(0));
  }
  Tensor match = torch::stable::new_empty(box, {sets, count}, ScalarType::Long);
  Tensor best = torch::stable::new_empty(box, {sets, count}, ScalarType::Float);
  auto* match_data = static_cast<int64_t*>(match.mutable_data_ptr());
  auto* best_data = static_cast<float*>(best.mutable_data_ptr());
  const std::vector<Columns> common(own == 1 ? 1 : 0, Columns(boxes, own == 1 ? count : 0));
  torch::stable::parallel_for(0, sets, images_per_thread(count * truth.size(0) / std::max<int64_t>(sets, 1)), [&](int64_t from, int64_t to) {
    for (int64_t s = from; s < to; ++s) {
      const auto run = [&](const Columns& columns) {
        Matcher(columns, truths + begin[s] * 4, begin[s + 1] - begin[s], inside_only, match_data + s * count,
                best_data + s * count).run(static_cast<float>(threshold), per_prediction);
      };
      own == 1 ? run(common[0]) : run(Columns(boxes + s * count * 4, count));
    }
  });
  return {match, best};
}

}  // namespace
}  // namespace rmpe

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) { m.impl("match_boxes", TORCH_BOX(&rmpe::match_boxes)); }
