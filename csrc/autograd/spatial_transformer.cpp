// The spatial transformer's gradient, told to torch in C++: it takes a tenth off a single image's forward and backward
// (benchmarks/sstn.md). LibTorch's stable ABI has no autograd, so this file alone is written against the ordinary one
// and serves the one release of torch it was built with; with any other, Python registers the same gradient
// (rmpe_legacy/ops/spatial_transformer.py).
#include <Python.h>

#include <ATen/Context.h>
#include <ATen/FuncTorchTLS.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>
#include <utility>

namespace rmpe {
namespace {

using at::Tensor;
using c10::SymInt;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Warp = Tensor(const Tensor& image, const Tensor& theta, SymInt out_h, SymInt out_w, bool fused);
using WarpBackward = std::tuple<Tensor, Tensor>(const Tensor& grad, const Tensor& image, const Tensor& theta,
                                                bool fused, bool deterministic, bool need_image, bool need_theta);

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* op) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(op, "").typed<Signature>();
}

// Calls an operator whose gradient nobody asks for.
template <typename Signature, typename... Args>
auto below_autograd(const c10::TypedOperatorHandle<Signature>& op, Args&&... args) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(std::forward<Args>(args)...);
}

struct SpatialTransformer : torch::autograd::Function<SpatialTransformer> {
  static constexpr bool is_traceable = true;  // backward reads nothing but its context and arguments

  static Tensor warp(const Tensor& image, const Tensor& theta, SymInt out_h, SymInt out_w, bool fused) {
    static const auto op = find<Warp>("rmpe::spatial_transformer");
    return below_autograd(op, image, theta, std::move(out_h), std::move(out_w), fused);
  }

  static Tensor forward(AutogradContext* context, const Tensor& image, const Tensor& theta, SymInt out_h, SymInt out_w,
                        bool fused) {
    context->save_for_backward({image, theta});
    context->saved_data["fused"] = fused;
    return warp(image, theta, std::move(out_h), std::move(out_w), fused);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    static const auto op = find<WarpBackward>("rmpe::spatial_transformer_backward");
    const variable_list saved = context->get_saved_variables();
    const bool fused = context->saved_data["fused"].toBool();
    const bool deterministic = at::globalContext().deterministicAlgorithms();
    const bool need_image = context->needs_input_grad(0), need_theta = context->needs_input_grad(1);
    const auto call = [&](const auto&... args) {  // a second derivative is refused by the operator's own gradient
      return at::GradMode::is_enabled() ? op.call(args...) : below_autograd(op, args...);
    };
    auto [d_image, d_theta] = call(grads[0], saved[0], saved[1], fused, deterministic, need_image, need_theta);
    return {need_image ? d_image : Tensor(), need_theta ? d_theta : Tensor(), {}, {}, {}};
  }
};

// torch has no other question to ask, and its own complaint names neither the operator nor a way out.
bool under_transforms() {
  const auto& transforms = at::functorch::functorchTLSAccessor();
  if (transforms == nullptr) return false;
  try {
    transforms->checkSupportsCppAutogradFunction();
    return false;
  } catch (const c10::Error&) {
    return true;
  }
}

Tensor spatial_transformer(const Tensor& image, const Tensor& theta, SymInt out_h, SymInt out_w, bool fused) {
  const auto has_tangent = [](const Tensor& tensor) { return tensor._fw_grad(/*level=*/0).defined(); };
  TORCH_CHECK_NOT_IMPLEMENTED(!has_tangent(image) && !has_tangent(theta),
                              "spatial_transformer: forward-mode derivatives are not available; use autograd.grad");
  if (!at::GradMode::is_enabled() || !(image.requires_grad() || theta.requires_grad())) {
    return SpatialTransformer::warp(image, theta, out_h, out_w, fused);
  }
  TORCH_CHECK_NOT_IMPLEMENTED(!under_transforms(),
                              "spatial_transformer: torch.func's derivatives are not available; use autograd.grad");
  return SpatialTransformer::apply(image, theta, out_h, out_w, fused);
}

}  // namespace

TORCH_LIBRARY_IMPL(rmpe, Autograd, m) { m.impl("spatial_transformer", &spatial_transformer); }

}  // namespace rmpe

// Importing the module loads the library, which runs the registration; the module itself is empty.
extern "C" __attribute__((visibility("default"))) PyObject* PyInit__autograd() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_autograd", nullptr, -1, nullptr, nullptr, nullptr, nullptr,
                               nullptr};
  return PyModule_Create(&module);
}
