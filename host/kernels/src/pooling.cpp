// Pooling of 2×2 windows of contiguous [N,C,H,W], alone and behind instance norm and ReLU; differentiable any number of
// times.
//
// libtorch's average pooling is not vectorised for this layout: with its backward pass it takes a quarter of a ConvNet's
// time. `norm_relu_pool` goes over each plane while it is in the first-level cache and keeps nothing between passes but
// its input, and a mean and a scale per plane.

#include "autograd.h"
#include "loops.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

namespace guard {
namespace {

template <typename T> const PlaneLoops<T> &loops();
template <> const PlaneLoops<float> &loops() {
  static const bool fast = has_avx2();
  return fast ? avx2::single_precision : any_cpu::single_precision;
}
template <> const PlaneLoops<double> &loops() {
  static const bool fast = has_avx2();
  return fast ? avx2::double_precision : any_cpu::double_precision;
}

// Calls `body` for every plane, in libtorch's threads.
template <typename F> void each_plane(const Tensor &x, F &&body) {
  const int64_t planes = x.size(0) * x.size(1), size = x.size(2) * x.size(3);
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, size));
  at::parallel_for(0, planes, grain, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) body(plane, size);
  });
}

struct Unpool;

// [N,C,H,W] to [N,C,⌊H/2⌋,⌊W/2⌋].
struct Pool : torch::autograd::Function<Pool> {
  static Tensor forward(AutogradContext *context, const Tensor &input);
  static variable_list backward(AutogradContext *context, variable_list gradients);
};

// Its adjoint, to planes of height × width.
struct Unpool : torch::autograd::Function<Unpool> {
  static Tensor forward(AutogradContext *, const Tensor &input, int64_t height, int64_t width) {
    const Tensor g = input.contiguous();
    Tensor x = at::empty({g.size(0), g.size(1), height, width}, g.options());
    AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "unpool", [&] {
      const auto *from = g.const_data_ptr<scalar_t>();
      auto *to = x.mutable_data_ptr<scalar_t>();
      const int64_t pooled = g.size(2) * g.size(3);
      each_plane(x, [&](int64_t plane, int64_t size) { loops<scalar_t>().unpool(from + plane * pooled, to + plane * size, height, width); });
    });
    return x;
  }
  static variable_list backward(AutogradContext *, variable_list gradients) {
    return {Pool::apply(gradients[0]), Tensor(), Tensor()};
  }
};

Tensor Pool::forward(AutogradContext *context, const Tensor &input) {
  const Tensor x = input.contiguous();
  const int64_t height = x.size(2), width = x.size(3);
  context->saved_data["height"] = height;
  context->saved_data["width"] = width;
  Tensor y = at::empty({x.size(0), x.size(1), height / 2, width / 2}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "pool", [&] {
    const auto *from = x.const_data_ptr<scalar_t>();
    auto *to = y.mutable_data_ptr<scalar_t>();
    const int64_t pooled = y.size(2) * y.size(3);
    each_plane(x, [&](int64_t plane, int64_t size) { loops<scalar_t>().pool(from + plane * size, to + plane * pooled, height, width); });
  });
  return y;
}

variable_list Pool::backward(AutogradContext *context, variable_list gradients) {
  return {Unpool::apply(gradients[0], context->saved_data["height"].toInt(), context->saved_data["width"].toInt())};
}

// Instance norm (GroupNorm with a group per channel), ReLU, and 2×2 average pooling.
struct NormReluPool : torch::autograd::Function<NormReluPool> {
  static Tensor forward(AutogradContext *context, const Tensor &input, const Tensor &weight, const Tensor &bias,
                        double epsilon) {
    const Tensor x = input.contiguous();
    const int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
    Tensor y = at::empty({x.size(0), channels, height / 2, width / 2}, x.options());
    // Per plane: mean and 1/√(variance + ε).
    Tensor statistics = at::empty({2, x.size(0), channels}, x.options().dtype(at::kDouble));
    double *means = statistics.mutable_data_ptr<double>(), *scales = means + x.size(0) * channels;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool", [&] {
      const auto *from = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>();
      auto *to = y.mutable_data_ptr<scalar_t>();
      const int64_t pooled = y.size(2) * y.size(3);
      each_plane(x, [&](int64_t plane, int64_t size) {
        double mean, variance;
        loops<scalar_t>().moments(from + plane * size, size, mean, variance);
        means[plane] = mean;
        scales[plane] = 1 / std::sqrt(variance + epsilon);
        const double a = w[plane % channels] * scales[plane], c = b[plane % channels] - mean * a;
        loops<scalar_t>().scale_relu_pool(from + plane * size, to + plane * pooled, height, width, scalar_t(a), scalar_t(c));
      });
    });
    context->save_for_backward({input, weight, bias, statistics});
    context->saved_data["epsilon"] = epsilon;
    return y;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const double epsilon = context->saved_data["epsilon"].toDouble();
    if (at::GradMode::is_enabled()) return with_graph(context, saved, gradients[0], epsilon);
    const Tensor x = saved[0].contiguous(), weight = saved[1], bias = saved[2], statistics = saved[3];
    const Tensor g = gradients[0].contiguous();
    const int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
    Tensor gx = at::empty_like(x), sums = at::empty_like(statistics);
    const double *means = statistics.const_data_ptr<double>(), *scales = means + x.size(0) * channels;
    double *total = sums.mutable_data_ptr<double>(), *against = total + x.size(0) * channels;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool_backward", [&] {
      const auto *in = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>(), *up = g.const_data_ptr<scalar_t>();
      auto *out = gx.mutable_data_ptr<scalar_t>();
      const int64_t pooled = g.size(2) * g.size(3);
      each_plane(x, [&](int64_t plane, int64_t size) {
        const double mean = means[plane], scale = scales[plane], a = w[plane % channels] * scale;
        const double c = b[plane % channels] - mean * a;
        loops<scalar_t>().unpool_mask(in + plane * size, up + plane * pooled, out + plane * size, height, width, scalar_t(a), scalar_t(c),
                    scalar_t(mean), total[plane], against[plane]);
        against[plane] *= scale;
        // gx = a (gz − mean gz − x̂ · mean(gz x̂)), with x̂ = (x − mean) · scale.
        const double p = -a * scale * against[plane] / size;
        const double q = -a * total[plane] / size - p * mean;
        loops<scalar_t>().combine(in + plane * size, out + plane * size, size, scalar_t(a), scalar_t(p), scalar_t(q));
      });
    });
    const auto parameter = [&](int64_t which) { return sums.select(0, which).sum(0).to(x.scalar_type()); };
    return {gx, context->needs_input_grad(1) ? parameter(1) : Tensor(),
            context->needs_input_grad(2) ? parameter(0) : Tensor(), Tensor()};
  }

  // The same by operations that have derivatives of their own.
  static variable_list with_graph(AutogradContext *context, const variable_list &saved, const Tensor &gradient,
                                  double epsilon) {
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const Tensor y = Pool::apply(at::relu(at::group_norm(x, x.size(1), weight, bias, epsilon)));
    variable_list inputs;
    for (int64_t i = 0; i < 3; ++i)
      if (context->needs_input_grad(i)) inputs.push_back(saved[i]);
    const auto found = torch::autograd::grad({y}, inputs, {gradient}, true, true);
    variable_list result(4);
    for (int64_t i = 0, next = 0; i < 3; ++i)
      if (context->needs_input_grad(i)) result[i] = found[next++];
    return result;
  }
};

} // namespace

Tensor average_pool(const Tensor &input) { return Pool::apply(input); }

Tensor norm_relu_pool(const Tensor &input, const Tensor &weight, const Tensor &bias, double epsilon) {
  return NormReluPool::apply(input, weight, bias, epsilon);
}

} // namespace guard
