// Pooling of 2×2 windows of [N,C,H,W] stored channels last, alone and behind instance norm and ReLU; differentiable any
// number of times.
//
// `norm_relu_pool` goes over an image's channels a few at a time, while they are in the cache, and keeps nothing between
// passes but its input, and a mean and a scale per plane.

#include "autograd.h"
#include "loops.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

namespace guard {
namespace {

constexpr auto channels_last = at::MemoryFormat::ChannelsLast;

template <typename T> const StripLoops<T> &loops();
template <> const StripLoops<float> &loops() {
  static const bool fast = has_avx2();
  return fast ? avx2::single_precision : any_cpu::single_precision;
}
template <> const StripLoops<double> &loops() {
  static const bool fast = has_avx2();
  return fast ? avx2::double_precision : any_cpu::double_precision;
}

// Calls `body` for every strip of `x`, in libtorch's threads, with the image and the first channel.
template <typename F> void each_strip(const Tensor &x, F &&body) {
  const int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t strips = (channels + together - 1) / together;
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, height * width * together));
  at::parallel_for(0, x.size(0) * strips, grain, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t first = at % strips * together;
      body(Strip{height, width, channels, std::min(together, channels - first)}, at / strips, first);
    }
  });
}

Tensor images(const Tensor &like, int64_t height, int64_t width) {
  return at::empty({like.size(0), like.size(1), height, width}, like.options().memory_format(channels_last));
}

struct Unpool;

// [N,C,H,W] to [N,C,⌊H/2⌋,⌊W/2⌋].
struct Pool : torch::autograd::Function<Pool> {
  static Tensor forward(AutogradContext *context, const Tensor &input);
  static variable_list backward(AutogradContext *context, variable_list gradients);
};

// Its adjoint, to images of height × width.
struct Unpool : torch::autograd::Function<Unpool> {
  static Tensor forward(AutogradContext *, const Tensor &input, int64_t height, int64_t width) {
    const Tensor g = input.contiguous(channels_last);
    Tensor x = images(g, height, width);
    AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "unpool", [&] {
      const auto *from = g.const_data_ptr<scalar_t>();
      auto *to = x.mutable_data_ptr<scalar_t>();
      const int64_t pooled = g.stride(0), full = x.stride(0);
      each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
        loops<scalar_t>().unpool(from + n * pooled + first, to + n * full + first, strip);
      });
    });
    return x;
  }
  static variable_list backward(AutogradContext *, variable_list gradients) {
    return {Pool::apply(gradients[0]), Tensor(), Tensor()};
  }
};

Tensor Pool::forward(AutogradContext *context, const Tensor &input) {
  const Tensor x = input.contiguous(channels_last);
  const int64_t height = x.size(2), width = x.size(3);
  context->saved_data["height"] = height;
  context->saved_data["width"] = width;
  Tensor y = images(x, height / 2, width / 2);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "pool", [&] {
    const auto *from = x.const_data_ptr<scalar_t>();
    auto *to = y.mutable_data_ptr<scalar_t>();
    const int64_t full = x.stride(0), pooled = y.stride(0);
    each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
      loops<scalar_t>().pool(from + n * full + first, to + n * pooled + first, strip);
    });
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
    const Tensor x = input.contiguous(channels_last);
    const int64_t channels = x.size(1);
    Tensor y = images(x, x.size(2) / 2, x.size(3) / 2);
    // Per plane: mean and 1/√(variance + ε).
    Tensor statistics = at::empty({2, x.size(0), channels}, x.options().dtype(at::kDouble));
    double *means = statistics.mutable_data_ptr<double>(), *scales = means + x.size(0) * channels;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool", [&] {
      const auto *from = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>();
      auto *to = y.mutable_data_ptr<scalar_t>();
      const int64_t full = x.stride(0), pooled = y.stride(0);
      each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
        const scalar_t *in = from + n * full + first;
        double *mean = means + n * channels + first, *scale = scales + n * channels + first;
        loops<scalar_t>().moments(in, strip, mean, scale);
        scalar_t factor[together], shift[together];
        for (int64_t c = 0; c < strip.channels; ++c) {
          scale[c] = 1 / std::sqrt(scale[c] + epsilon);
          const double a = w[first + c] * scale[c];
          factor[c] = scalar_t(a);
          shift[c] = scalar_t(b[first + c] - mean[c] * a);
        }
        loops<scalar_t>().scale_relu_pool(in, to + n * pooled + first, strip, factor, shift);
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
    const Tensor x = saved[0].contiguous(channels_last), weight = saved[1], bias = saved[2], statistics = saved[3];
    const Tensor g = gradients[0].contiguous(channels_last);
    const int64_t channels = x.size(1), size = x.size(2) * x.size(3);
    Tensor gx = images(x, x.size(2), x.size(3)), sums = at::empty_like(statistics);
    const double *means = statistics.const_data_ptr<double>(), *scales = means + x.size(0) * channels;
    double *totals = sums.mutable_data_ptr<double>(), *againsts = totals + x.size(0) * channels;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool_backward", [&] {
      const auto *from = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>(), *up = g.const_data_ptr<scalar_t>();
      auto *to = gx.mutable_data_ptr<scalar_t>();
      const int64_t full = x.stride(0), pooled = g.stride(0);
      each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
        const int64_t plane = n * channels + first;
        const scalar_t *in = from + n * full + first;
        scalar_t *out = to + n * full + first;
        const double *mean = means + plane, *scale = scales + plane;
        double *total = totals + plane, *against = againsts + plane;
        scalar_t centre[together], factor[together], shift[together], p[together], q[together];
        for (int64_t c = 0; c < strip.channels; ++c) {
          const double a = w[first + c] * scale[c];
          centre[c] = scalar_t(mean[c]);
          factor[c] = scalar_t(a);
          shift[c] = scalar_t(b[first + c] - mean[c] * a);
        }
        loops<scalar_t>().unpool_mask(in, up + n * pooled + first, out, strip, factor, shift, centre, total, against);
        // gx = a (gz − mean gz − x̂ · mean(gz x̂)), with x̂ = (x − mean) · scale.
        for (int64_t c = 0; c < strip.channels; ++c) {
          against[c] *= scale[c];
          const double a = w[first + c] * scale[c], slope = -a * scale[c] * against[c] / size;
          p[c] = scalar_t(slope);
          q[c] = scalar_t(-a * total[c] / size - slope * mean[c]);
        }
        loops<scalar_t>().combine(in, out, strip, factor, p, q);
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
    const auto per_channel = [](const Tensor &values) { return values.reshape({1, -1, 1, 1}); };
    const Tensor centred = x - x.mean({2, 3}, true);
    const Tensor scale = (centred.square().mean({2, 3}, true) + epsilon).rsqrt() * per_channel(weight);
    const Tensor y = Pool::apply(at::relu(at::addcmul(per_channel(bias), centred, scale)));
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
