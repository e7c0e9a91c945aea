// decode_boxes, encode_boxes: convert between boxes and a network's predictions for its priors.
#include "boxes.h"
#include "detection_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

struct Priors {
  const float *box, *variance;
  int64_t count;
};

Priors priors_of(const Tensor& prior, const char* op) {
  const float* values = floats(prior, op, "prior", 3);
  check_size(prior, op, "prior", 0, 2);
  check_size(prior, op, "prior", 2, 4);
  return {values, values + prior.size(1) * 4, prior.size(1)};
}

int64_t rows_of(const Tensor& t, const char* op, const char* name, const Priors& priors) {
  floats(t, op, name, 3);
  check_size(t, op, name, 1, priors.count);
  check_size(t, op, name, 2, 4);
  return t.size(0) * t.size(1);
}

Tensor decode_boxes(const Tensor& offset, const Tensor& prior, int64_t code, bool in_target) {
  const Priors priors = priors_of(prior, "decode_boxes");
  const int64_t rows = rows_of(offset, "decode_boxes", "offset", priors);
  const float* in = static_cast<const float*>(offset.const_data_ptr());
  Tensor out = uninitialized(offset, offset.sizes());
  float* corners = static_cast<float*>(out.mutable_data_ptr());
  torch::stable::parallel_for(0, rows, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p = i % priors.count * 4;
      const Box box = decode(priors.box + p, priors.variance + p, in + i * 4, static_cast<Code>(code), in_target);
      const float values[4] = {box.x1, box.y1, box.x2, box.y2};
      std::copy(values, values + 4, corners + i * 4);
    }
  });
  return out;
}

Tensor encode_boxes(const Tensor& box, const Tensor& prior, int64_t code, bool in_target) {
  const Priors priors = priors_of(prior, "encode_boxes");
  const int64_t rows = rows_of(box, "encode_boxes", "box", priors);
  const float* in = static_cast<const float*>(box.const_data_ptr());
  Tensor out = uninitialized(box, box.sizes());
  float* offset = static_cast<float*>(out.mutable_data_ptr());
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t p = i % priors.count * 4;
    encode(priors.box + p, priors.variance + p, in + i * 4, static_cast<Code>(code), in_target, offset + i * 4);
  }
  return out;
}

}  // namespace
}  // namespace rmpe

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) {
  m.impl("decode_boxes", TORCH_BOX(&rmpe::decode_boxes));
  m.impl("encode_boxes", TORCH_BOX(&rmpe::encode_boxes));
}
