// Parametric pose NMS on plain arrays: no Python, no torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

namespace rmpe {

constexpr int kJoints = 16;  // MPII's; 0 is the right ankle, 5 the left one, 6 the pelvis

struct PoseNmsRules {
  double delta1;  // how fast the weight of a joint's score saturates
  double mu;      // weight of the distances relative to the scores
  double delta2;  // how fast a joint's weight decays with distance, in reference distances
  double gamma;   // poses more similar than this are one person
  double person_score;         // persons with a lower mean score are dropped
  bool drop_by_pick;           // also drop by the mean of the pick's own scores
  bool plain_mean_if_weightless;  // if the merged scores add up to 0, use the plain mean, not 0 / 0
};

// Groups of proposals, one per pick, image by image, in the order of picking.
struct PoseGroups {
  std::vector<int64_t> picks;        // per group, the picked proposal
  std::vector<int64_t> member_ends;  // per group, where its members end
  std::vector<int64_t> members;      // the merged proposals, in ascending order within a group
  std::vector<int64_t> image_ends;   // per image, where its groups end
  std::vector<uint8_t> kept;         // per group, whether its person is kept
  std::vector<double> joints;        // per group, kJoints x (x, y), merged
  std::vector<double> scores;        // per group, kJoints, merged
};

// A joint of a pick that matches no member of its group, which does not even contain the pick itself.
struct NoMatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// joints: per proposal kJoints x (x, y); scores: per proposal kJoints; ref: per proposal a tenth of its box's longer
// side; ranges: per image (first, end) into the proposals. Score is float or double, and scores are
// computed in that type, as in numpy. `interrupted` is called before each pick; it may throw to cancel the computation.
template <typename Score>
PoseGroups pose_nms(const double* joints, const Score* scores, const double* ref, const int64_t* ranges, size_t images,
                    const PoseNmsRules& rules, const std::function<void()>& interrupted);

}  // namespace rmpe
