// 2-d convolutions, differentiable any number of times.
//
// Convolution, input gradient and weight gradient are linear in each of their two arguments, and the derivatives of each of
// the three are the other two. libtorch has no such closed set: its second derivative computes a weight's gradient as a
// convolution with kernels the size of an image. On CPUs with AVX2 but no AVX-512 the weight's gradient is computed here:
// oneDNN's takes half as long again.

#include "autograd.h"
#include "loops.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <algorithm>
#include <limits>
#include <vector>

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

// Whether `weight_gradient` takes these.
bool serves(const Tensor &gradient, const Tensor &input) {
  static const bool fastest = has_avx2() && !__builtin_cpu_supports("avx512f");
  return fastest && input.scalar_type() == at::kFloat && input.size(1) % tile_columns == 0 &&
         input.is_contiguous(at::MemoryFormat::ChannelsLast) && input.numel() > 0 && gradient.numel() > 0;
}

// The weight's gradient [O,C,k,k], stored channels last, by tiles of 6 × 16 channels that stay in registers while they are
// summed over positions. Both arguments are copied into panels of as many channels, which a tile reads in order; the
// input's have the padding around them. The order of summation does not depend on the number of threads.
Tensor weight_gradient(const Tensor &any_gradient, const Tensor &input, at::IntArrayRef shape, Geometry geometry) {
  const auto [stride, padding] = geometry;
  const Tensor gradient = any_gradient.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t images = input.size(0), from = input.size(1), to = gradient.size(1), size = shape[2];
  const int64_t height = input.size(2), width = input.size(3), out_height = gradient.size(2), out_width = gradient.size(3);
  const int64_t row = (width + 2 * padding) * tile_columns, image = (height + 2 * padding) * row;
  const int64_t positions = out_height * out_width;
  // Images at a time: enough positions to be worth loading a tile, few enough for the second-level cache.
  const int64_t together = std::clamp<int64_t>(256 / positions, 1, images);
  const int64_t panels = (to + tile_rows - 1) / tile_rows, panel = together * positions * tile_rows;

  Tensor result = at::empty(shape, input.options().memory_format(at::MemoryFormat::ChannelsLast)).zero_();
  std::vector<float> packed(panels * panel);
  const float *g = gradient.const_data_ptr<float>(), *x = input.const_data_ptr<float>();
  float *out = result.mutable_data_ptr<float>();
  for (int64_t first = 0; first < images; first += together) {
    const int64_t count = std::min(together, images - first);
    at::parallel_for(0, count * positions, 512, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at)
        for (int64_t channel = 0; channel < to; channel += tile_rows)
          std::copy_n(g + (first * positions + at) * to + channel, std::min(tile_rows, to - channel),
                      &packed[channel / tile_rows * panel + at * tile_rows]);
    });
    at::parallel_for(0, from / tile_columns, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> padded(count * image, 0.0f);
      for (int64_t block = begin; block < end; ++block) {
        for (int64_t n = 0; n < count; ++n)
          for (int64_t i = 0; i < height; ++i)
            for (int64_t j = 0; j < width; ++j)
              std::copy_n(x + (((first + n) * height + i) * width + j) * from + block * tile_columns, tile_columns,
                          &padded[n * image + (i + padding) * row + (j + padding) * tile_columns]);
        const Positions over{count, out_height, out_width, image, stride * row, stride * tile_columns};
        for (int64_t i = 0; i < size; ++i)
          for (int64_t j = 0; j < size; ++j)
            avx2::weight_tiles(&padded[i * row + j * tile_columns], packed.data(), over, panel,
                               out + (i * size + j) * from + block * tile_columns, size * size * from, to);
      }
    });
  }
  return result;
}

struct InputGradient;
struct WeightGradient;

// [N,C,H,W] and [O,C,k,k] to [N,O,H',W'].
struct Convolution : torch::autograd::Function<Convolution> {
  static Tensor forward(AutogradContext *context, const Tensor &input, const Tensor &weight,
                        const std::optional<Tensor> &bias, int64_t stride, int64_t padding) {
    save(context, input, weight, {stride, padding});
    context->saved_data["biased"] = bias.has_value();
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
    if (serves(gradient, input)) return weight_gradient(gradient, input, shape, geometry);
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
