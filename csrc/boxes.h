// SSD's boxes: corners in single precision, and the area stored with them.
// Source: bbox_util.cpp of RMPE@5188c23 (lines 46-325) and of weiliu89/caffe@4817bf8 (CORNER_SIZE).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace rmpe {

// A box and its area. After scaling to pixels, the area counts whole pixels (+ 1 per side).
struct Box {
  float x1, y1, x2, y2, area;
};

// Width times height, or zero if the corners are swapped.
inline float box_area(float x1, float y1, float x2, float y2) {
  return x2 < x1 || y2 < y1 ? 0.0f : (x2 - x1) * (y2 - y1);
}

inline Box make_box(const float* corners) {
  return {corners[0], corners[1], corners[2], corners[3],
          box_area(corners[0], corners[1], corners[2], corners[3])};
}

// Intersection over union. `pixel` is 0 for normalized boxes, and 1 for boxes in pixels, whose sides are one pixel
// longer. The intersection of disjoint boxes runs from (0, 0) to (0, 0), which is one pixel if `pixel` is 1.
inline float overlap(const Box& a, const Box& b, float pixel = 0.0f) {
  float width = 0.0f, height = 0.0f;
  if (!(b.x1 > a.x2 || b.x2 < a.x1 || b.y1 > a.y2 || b.y2 < a.y1)) {
    width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
    height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  }
  width += pixel;
  height += pixel;
  if (!(width > 0 && height > 0)) return 0.0f;
  const float shared = width * height;
  return shared / (a.area + b.area - shared);
}

// Highest score first. Differs: NaN comes last; the published comparison leaves a sort with NaN undefined.
inline bool comes_first(float a, float b) { return a > b || (std::isnan(b) && !std::isnan(a)); }

enum Code : int64_t { kCorner = 1, kCenterSize = 2, kCornerSize = 3 };  // PriorBoxParameter.CodeType

// Centre and size of a box. Halves are exact, so single precision gives what the published doubles give.
struct Centred {
  float x, y, width, height;
  explicit Centred(const float* box)
      : x((box[0] + box[2]) / 2), y((box[1] + box[3]) / 2), width(box[2] - box[0]), height(box[3] - box[1]) {}
};

// Decodes a prediction (four offsets) for a prior into a box. With `in_target`, the variance is not applied.
inline Box decode(const float* prior, const float* variance, const float* offset, Code code, bool in_target) {
  float v[4];
  for (int k = 0; k < 4; ++k) v[k] = in_target ? offset[k] : variance[k] * offset[k];
  const Centred p(prior);
  float corners[4];
  if (code == kCenterSize) {
    const float x = v[0] * p.width + p.x, y = v[1] * p.height + p.y;
    const double half_width = std::exp(v[2]) * p.width / 2.0, half_height = std::exp(v[3]) * p.height / 2.0;
    corners[0] = static_cast<float>(x - half_width);
    corners[1] = static_cast<float>(y - half_height);
    corners[2] = static_cast<float>(x + half_width);
    corners[3] = static_cast<float>(y + half_height);
  } else {
    for (int k = 0; k < 4; ++k) {
      const float unit = code == kCorner ? 1.0f : k % 2 ? p.height : p.width;
      corners[k] = prior[k] + v[k] * unit;
    }
  }
  return make_box(corners);
}

// Encodes a box as the exact prediction for a prior. With `in_target`, it is not divided by the variance.
inline void encode(const float* prior, const float* variance, const float* box, Code code, bool in_target,
                   float* offset) {
  const Centred p(prior);
  if (code == kCenterSize) {
    const Centred b(box);
    offset[0] = (b.x - p.x) / p.width;
    offset[1] = (b.y - p.y) / p.height;
    offset[2] = std::log(b.width / p.width);
    offset[3] = std::log(b.height / p.height);
  } else {
    for (int k = 0; k < 4; ++k) {
      const float unit = code == kCorner ? 1.0f : k % 2 ? p.height : p.width;
      offset[k] = (box[k] - prior[k]) / unit;
    }
  }
  if (in_target) return;
  for (int k = 0; k < 4; ++k) offset[k] /= variance[k];
}

}  // namespace rmpe
