// 2-d convolutions, differentiable any number of times.
//
// Convolution, input gradient and weight gradient are linear in each of their two arguments, and the derivatives of each of
// the three are the other two. libtorch has no such closed set: its second derivative computes a weight's gradient as a
// convolution with kernels the size of an image. Each is computed by whatever is fastest: `winograd.cpp`,
// `weight_gradient.cpp`, or libtorch.

#include "autograd.h"
#include "weight_gradient.h"
#include "winograd.h"

#include <ATen/autocast_mode.h>

#include <limits>

namespace guard {
namespace {

struct Geometry {
  int64_t stride, padding;
};

void save(AutogradContext *context, const Tensor &left, const Tensor &right, Geometry geometry) {
  context->save_for_backward({left, right});
  context->saved_data["stride"] = geometry.stride;
  context->saved_data["padding"] = geometry.padding;
}

Geometry geometry_of(AutogradContext *context) {
  return {context->saved_data["stride"].toInt(), context->saved_data["padding"].toInt()};
}

// libtorch's gradient to the input (0) or to the weight (1), whichever is asked for.
Tensor libtorch_gradient(int which, const Tensor &gradient, const Tensor &input, const Tensor &weight, Geometry geometry) {
  const auto gradients =
      at::convolution_backward(gradient, input, weight, std::nullopt, {geometry.stride, geometry.stride},
                               {geometry.padding, geometry.padding}, {1, 1}, false, {0, 0}, 1, {which == 0, which == 1, false});
  return which == 0 ? std::get<0>(gradients) : std::get<1>(gradients);
}

struct InputGradient;
struct WeightGradient;

// [N,C,H,W] and [O,C,k,k] to [N,O,H',W'].
struct Convolution : torch::autograd::Function<Convolution> {
  static Tensor forward(AutogradContext *context, const Tensor &input, const Tensor &weight,
                        const std::optional<Tensor> &bias, int64_t stride, int64_t padding) {
    save(context, input, weight, {stride, padding});
    context->saved_data["biased"] = bias.has_value();
    using namespace winograd;
    if (serves(input, weight, stride, padding, Direction::forward))
      return convolve(input, weight, bias, Direction::forward);
    return at::conv2d(input, weight, bias, {stride, stride}, {padding, padding});
  }
  static variable_list backward(AutogradContext *context, variable_list gradients);
};

// [N,O,H',W'] and [O,C,k,k] to the input's gradient, of the input's shape.
struct InputGradient : torch::autograd::Function<InputGradient> {
  static Tensor forward(AutogradContext *context, const Tensor &gradient, const Tensor &weight,
                        at::IntArrayRef shape, int64_t stride, int64_t padding) {
    const Geometry geometry{stride, padding};
    save(context, gradient, weight, geometry);
    using namespace winograd;
    if (serves(gradient, weight, stride, padding, Direction::adjoint))
      return convolve(gradient, weight, std::nullopt, Direction::adjoint);
    // Only its shape and layout are looked at.
    const Tensor input = at::empty(shape, gradient.options().memory_format(gradient.suggest_memory_format()));
    return libtorch_gradient(0, gradient, input, weight, geometry);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients);
};

// [N,O,H',W'] and [N,C,H,W] to the weight's gradient, of the weight's shape.
struct WeightGradient : torch::autograd::Function<WeightGradient> {
  static Tensor forward(AutogradContext *context, const Tensor &gradient, const Tensor &input, at::IntArrayRef shape,
                        int64_t stride, int64_t padding) {
    const Geometry geometry{stride, padding};
    save(context, gradient, input, geometry);
    if (winograd::serves_weight(gradient, input, shape, stride, padding)) return winograd::weight_gradient(gradient, input);
    if (serves_weight(gradient, input)) return weight_gradient(gradient, input, shape, stride, padding);
    const auto layout = input.suggest_memory_format();
    const Tensor weight = at::empty(shape, input.options().memory_format(layout));
    if (shape[2] == 1 && padding == 0 && stride > 1) {
      // oneDNN's kernel for AVX2 writes beyond its scratchpad here (mb 4, 8 to 16 channels, 4×4, stride 2, one thread: found
      // by valgrind), and what it would skip does not count.
      constexpr auto end = std::numeric_limits<int64_t>::max();
      const Tensor seen = input.slice(2, 0, end, stride).slice(3, 0, end, stride).contiguous(layout);
      return libtorch_gradient(1, gradient, seen, weight, {1, 0});
    }
    return libtorch_gradient(1, gradient, input, weight, geometry);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients);
};

variable_list Convolution::backward(AutogradContext *context, variable_list gradients) {
  const auto saved = context->get_saved_variables();
  const Tensor &input = saved[0], &weight = saved[1], &gradient = gradients[0];
  const auto [stride, padding] = geometry_of(context);
  variable_list result(5);
  if (context->needs_input_grad(0))
    result[0] = InputGradient::apply(gradient, weight, input.sizes(), stride, padding);
  if (context->needs_input_grad(1))
    result[1] = WeightGradient::apply(gradient, input, weight.sizes(), stride, padding);
  // A bias that there is not has no edge to ask about.
  if (context->saved_data["biased"].toBool() && context->needs_input_grad(2)) result[2] = gradient.sum({0, 2, 3});
  return result;
}

variable_list InputGradient::backward(AutogradContext *context, variable_list gradients) {
  const auto saved = context->get_saved_variables();
  const Tensor &gradient = saved[0], &weight = saved[1], &tangent = gradients[0];
  const auto [stride, padding] = geometry_of(context);
  variable_list result(5);
  if (context->needs_input_grad(0))
    result[0] = Convolution::apply(tangent, weight, std::nullopt, stride, padding);
  if (context->needs_input_grad(1))
    result[1] = WeightGradient::apply(gradient, tangent, weight.sizes(), stride, padding);
  return result;
}

variable_list WeightGradient::backward(AutogradContext *context, variable_list gradients) {
  const auto saved = context->get_saved_variables();
  const Tensor &gradient = saved[0], &input = saved[1], &tangent = gradients[0];
  const auto [stride, padding] = geometry_of(context);
  variable_list result(5);
  if (context->needs_input_grad(0))
    result[0] = Convolution::apply(input, tangent, std::nullopt, stride, padding);
  if (context->needs_input_grad(1))
    result[1] = InputGradient::apply(gradient, tangent, input.sizes(), stride, padding);
  return result;
}

} // namespace

Tensor convolution(const Tensor &input, const Tensor &weight, const std::optional<Tensor> &bias, int64_t stride,
                   int64_t padding) {
  // Autocast rounds what a convolution takes, which only libtorch's own derivative follows.
  if (at::autocast::is_autocast_enabled(at::kCPU))
    return at::conv2d(input, weight, bias, {stride, stride}, {padding, padding});
  return Convolution::apply(input, weight, bias, stride, padding);
}

} // namespace guard
