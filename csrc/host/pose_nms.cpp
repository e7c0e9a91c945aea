// Parametric pose NMS as batch_nms.py:89-160 of multi-human-pose@094e29b and demo_pose_NMS.py:24-113 of RMPE@5188c23.
#include "pose_nms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>

namespace rmpe {
namespace {

// Sums in numpy's order for contiguous arrays: eight running sums from 8 values on, halves above 128.
template <typename T>
T numpy_sum(const T* a, size_t n) {
  if (n < 8) {
    T sum = 0;
    for (size_t i = 0; i < n; ++i) sum += a[i];
    return sum;
  }
  if (n <= 128) {
    std::array<T, 8> r;
    std::copy_n(a, 8, r.begin());
    size_t i = 8;
    for (; i + 8 <= n; i += 8)
      for (size_t k = 0; k < 8; ++k) r[k] += a[i + k];
    T sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; ++i) sum += a[i];
    return sum;
  }
  const size_t half = n / 2 - n / 2 % 8;
  return numpy_sum(a, half) + numpy_sum(a + half, n - half);
}

double distance(const double* p, const double* q) {
  const double dx = p[0] - q[0], dy = p[1] - q[1];
  return std::sqrt(dx * dx + dy * dy);
}

// The mean score that decides whether a person is kept. Reproduces a bug of the published code: ankles below .1 are
// meant to be left out, but once the right ankle (0) is removed, index 5 is the pelvis (6), which is removed instead of
// the left ankle.
template <typename T>
T person_mean(const T* scores) {
  std::array<T, kJoints> counted;
  const bool no_right = scores[0] < 0.1, no_left = scores[5] < 0.1;
  const int out = no_left ? (no_right ? 6 : 5) : -1;
  size_t n = 0;
  for (int j = no_right; j < kJoints; ++j)
    if (j != out) counted[n++] = scores[j];
  return numpy_sum(counted.data(), n) / static_cast<T>(n);
}

// Recognizes distant poses by the squared distances of their joints, without a square root or an exponential. A joint
// further away than `reach` reference distances adds at most mu exp(-reach / delta2) to the similarity, a nearer one at
// most 1 + mu; so with too few near joints, the sum cannot exceed gamma.
class Apart {
 public:
  explicit Apart(const PoseNmsRules& rules) : reach_(std::max(1.0, 2 * rules.delta2)) {
    if (!(rules.mu >= 0 && rules.delta2 > 0)) return;
    const double far = rules.mu * std::exp(-reach_ / rules.delta2);
    while (least_ <= kJoints && least_ * (1 + rules.mu) + (kJoints - least_) * far < rules.gamma - kMargin) ++least_;
  }

  bool surely(const double* p, const double* q, double ref) const {
    if (!(ref >= 0)) return false;
    const double limit = reach_ * ref * reach_ * ref * (1 + kMargin);
    int near = 0;
    for (int j = 0; j < kJoints; ++j) {
      const double dx = p[2 * j] - q[2 * j], dy = p[2 * j + 1] - q[2 * j + 1];
      near += !(dx * dx + dy * dy > limit);
    }
    return near < least_;
  }

 private:
  static constexpr double kMargin = 1e-6;  // far above the rounding error of the sums
  double reach_;
  int least_ = 0;  // joints that must be near for poses to be similar
};

// One image: the remaining proposals, and their arrays.
template <typename Score>
class Image {
 public:
  Image(const double* joints, const Score* scores, const double* ref, int64_t count, const PoseNmsRules& rules)
      : joints_(joints), scores_(scores), ref_(ref), rules_(rules), apart_(rules), left_(count), mean_(count), sure_(count * kJoints) {
    const Score delta1 = static_cast<Score>(rules.delta1);
    for (int64_t i = 0; i < count; ++i) {
      left_[i] = i;
      mean_[i] = numpy_sum(scores + i * kJoints, kJoints) / static_cast<Score>(kJoints);
    }
    for (int64_t i = 0; i < count * kJoints; ++i) sure_[i] = std::tanh(scores[i] / delta1);
  }

  bool empty() const { return left_.empty(); }

  // Removes the best remaining pose and all poses too similar to it; returns the best, and the group in `members`.
  int64_t take(std::vector<int64_t>& members) {
    const int64_t pick = *std::max_element(left_.begin(), left_.end(),
                                           [this](int64_t a, int64_t b) { return mean_[a] < mean_[b]; });
    members.clear();
    for (int64_t i : left_)
      if (!apart_.surely(joint(pick, 0), joint(i, 0), ref_[pick]) && likeness(pick, i) > rules_.gamma)
        members.push_back(i);
    if (members.empty()) members.push_back(pick);  // a box of size 0, for which everything is 0 / 0
    std::erase_if(left_, [&](int64_t i) { return std::binary_search(members.begin(), members.end(), i); });
    return pick;
  }

  // The weighted mean of the members' joints that lie within the pick's reference distance, and their highest score.
  void merge(int64_t pick, std::span<const int64_t> members, double* joints, double* scores) {
    for (int j = 0; j < kJoints; ++j) {
      near_.clear();
      weight_.clear();
      for (int64_t m : members)
        if (distance(joint(pick, j), joint(m, j)) <= ref_[pick]) {
          near_.push_back(m);
          weight_.push_back(scores_[m * kJoints + j]);
        }
      if (near_.empty())
        throw NoMatch("joint " + std::to_string(j) + " of a picked pose matches no pose of its own group");
      scores[j] = *std::max_element(weight_.begin(), weight_.end());
      mean_joint(j, joints + 2 * j);
    }
  }

 private:
  const double* joint(int64_t i, int j) const { return joints_ + (i * kJoints + j) * 2; }

  // The similarity of pose i to the pick: the first sum counts coinciding joints, the second decays with distance.
  double likeness(int64_t pick, int64_t i) const {
    std::array<double, kJoints> sure, close;
    for (int j = 0; j < kJoints; ++j) {
      const double d = distance(joint(pick, j), joint(i, j)) / ref_[pick];
      sure[j] = d <= 1 ? sure_[pick * kJoints + j] * sure_[i * kJoints + j] : Score{0};
      close[j] = std::exp(-d / rules_.delta2);
    }
    return numpy_sum(sure.data(), kJoints) + rules_.mu * numpy_sum(close.data(), kJoints);
  }

  void mean_joint(int j, double* to) {
    const Score total = numpy_sum(weight_.data(), weight_.size());
    // Differs: batch_nms.py fails at int(nan) here; the authors later replaced 0 by 1e-5, which gives the plain mean.
    const bool plain = total == 0 && rules_.plain_mean_if_weightless;
    to[0] = to[1] = 0;
    for (size_t i = 0; i < near_.size(); ++i) {
      const double w = plain ? 1 : weight_[i] / total;
      to[0] += joint(near_[i], j)[0] * w;
      to[1] += joint(near_[i], j)[1] * w;
    }
    if (plain) {
      to[0] /= static_cast<double>(near_.size());
      to[1] /= static_cast<double>(near_.size());
    }
  }

  const double* joints_;
  const Score* scores_;
  const double* ref_;
  const PoseNmsRules& rules_;
  Apart apart_;
  std::vector<int64_t> left_;
  std::vector<Score> mean_;
  std::vector<Score> sure_;  // tanh(score / delta1)
  std::vector<int64_t> near_;
  std::vector<Score> weight_;
};

}  // namespace

template <typename Score>
PoseGroups pose_nms(const double* joints, const Score* scores, const double* ref, const int64_t* ranges, size_t images,
                    const PoseNmsRules& rules, const std::function<void()>& interrupted) {
  PoseGroups out;
  std::vector<int64_t> members;
  for (size_t n = 0; n < images; ++n) {
    const int64_t first = ranges[2 * n], end = ranges[2 * n + 1];
    Image<Score> image(joints + first * kJoints * 2, scores + first * kJoints, ref + first, end - first, rules);
    while (!image.empty()) {
      interrupted();
      const int64_t pick = image.take(members);
      const size_t group = out.picks.size();
      out.joints.resize((group + 1) * kJoints * 2);
      out.scores.resize((group + 1) * kJoints);
      image.merge(pick, members, &out.joints[group * kJoints * 2], &out.scores[group * kJoints]);
      out.picks.push_back(first + pick);
      for (int64_t m : members) out.members.push_back(first + m);
      out.member_ends.push_back(static_cast<int64_t>(out.members.size()));
      const bool low = person_mean(&out.scores[group * kJoints]) < rules.person_score ||
                       (rules.drop_by_pick && person_mean(scores + (first + pick) * kJoints) < rules.person_score);
      out.kept.push_back(!low);
    }
    out.image_ends.push_back(static_cast<int64_t>(out.picks.size()));
  }
  return out;
}

template PoseGroups pose_nms(const double*, const double*, const double*, const int64_t*, size_t, const PoseNmsRules&,
                             const std::function<void()>&);
template PoseGroups pose_nms(const double*, const float*, const double*, const int64_t*, size_t, const PoseNmsRules&,
                             const std::function<void()>&);

}  // namespace rmpe
