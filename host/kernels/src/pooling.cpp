// Pooling of 2×2 windows of [N,C,H,W], alone and behind instance norm and ReLU; differentiable any number of times. What
// is not stored channels last is copied.
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
#include <vector>

namespace guard {
namespace {

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

// What instance norm and ReLU do with the channels of a strip.
template <typename T> struct Norm {
  // x̂ = (x − mean) · scale; the ReLU's argument is factor·x + shift.
  const double *mean, *scale;
  T centre[together], factor[together], shift[together];

  Norm(const double *mean, const double *scale, const T *weight, const T *bias, int64_t channels)
      : mean(mean), scale(scale) {
    for (int64_t c = 0; c < channels; ++c) {
      const double a = weight[c] * scale[c];
      centre[c] = static_cast<T>(mean[c]);
      factor[c] = static_cast<T>(a);
      shift[c] = static_cast<T>(bias[c] - mean[c] * a);
    }
  }
};

// Per plane of [N,C,H,W] a double in each row.
Tensor per_plane(const Tensor &x, int64_t rows) {
  return at::empty({rows, x.size(0), x.size(1)}, x.options().dtype(at::kDouble).memory_format(at::MemoryFormat::Contiguous));
}

// The same by operations that have derivatives of their own.
Tensor composed(const Tensor &x, const Tensor &weight, const Tensor &bias, double epsilon) {
  const auto per_channel = [](const Tensor &values) { return values.reshape({1, -1, 1, 1}); };
  const Tensor centred = x - x.mean({2, 3}, true);
  const Tensor scale = (centred.square().mean({2, 3}, true) + epsilon).rsqrt() * per_channel(weight);
  return Pool::apply(at::relu(at::addcmul(per_channel(bias), centred, scale)));
}

// Gradients of `outputs` to those of `inputs` that are wanted, with their graph; none for the others.
variable_list graph_of(const variable_list &outputs, const variable_list &inputs, const variable_list &directions,
                       const std::vector<bool> &wanted) {
  variable_list among;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (wanted[i]) among.push_back(inputs[i]);
  const auto found = torch::autograd::grad(outputs, among, directions, true, true, true);
  variable_list result(inputs.size());
  for (size_t i = 0, next = 0; i < inputs.size(); ++i)
    if (wanted[i]) result[i] = found[next++];
  return result;
}

// The gradients of NormReluPool to its input, weight and bias, from that to its output.
struct Gradient : torch::autograd::Function<Gradient> {
  // `sums`, two rows per plane: of the gradient gz behind the ReLU, and of that against x̂.
  static variable_list compute(const Tensor &gradient, const Tensor &input, const Tensor &weight, const Tensor &bias,
                               const Tensor &statistics, Tensor &sums) {
    const Tensor x = input.contiguous(channels_last), g = gradient.contiguous(channels_last);
    const int64_t channels = x.size(1), size = x.size(2) * x.size(3), planes = x.size(0) * channels;
    Tensor gx = images(x, x.size(2), x.size(3));
    sums = per_plane(x, 2);
    const double *means = statistics.const_data_ptr<double>();
    double *totals = sums.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool_backward", [&] {
      const auto *from = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>(), *up = g.const_data_ptr<scalar_t>();
      auto *to = gx.mutable_data_ptr<scalar_t>();
      const int64_t full = x.stride(0), pooled = g.stride(0);
      each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
        const int64_t plane = n * channels + first;
        const Norm<scalar_t> norm(means + plane, means + planes + plane, w + first, b + first, strip.channels);
        const scalar_t *in = from + n * full + first;
        scalar_t *out = to + n * full + first, p[together], q[together];
        double *total = totals + plane, *against = total + planes;
        loops<scalar_t>().unpool_mask(in, up + n * pooled + first, out, strip, norm.factor, norm.shift, norm.centre, total,
                                      against);
        // gx = a (gz − mean gz − x̂ · mean(gz x̂)), with a = weight · scale.
        for (int64_t c = 0; c < strip.channels; ++c) {
          const double scale = norm.scale[c], a = w[first + c] * scale;
          against[c] *= scale;
          const double slope = -a * scale * against[c] / size;
          p[c] = scalar_t(slope);
          q[c] = scalar_t(-a * total[c] / size - slope * norm.mean[c]);
        }
        loops<scalar_t>().combine(in, out, strip, norm.factor, p, q);
      });
    });
    const auto parameter = [&](int64_t row) { return sums.select(0, row).sum(0).to(x.scalar_type()); };
    return {gx, parameter(1), parameter(0)};
  }

  static variable_list forward(AutogradContext *context, const Tensor &gradient, const Tensor &input, const Tensor &weight,
                               const Tensor &bias, const Tensor &statistics, double epsilon) {
    Tensor sums;
    const auto result = compute(gradient, input, weight, bias, statistics, sums);
    context->save_for_backward({gradient, input, weight, bias, statistics, sums});
    context->saved_data["epsilon"] = epsilon;
    return result;
  }

  // With the directions v, v_w and v_b of the three gradients, their products with them sum to
  //   Σ gz · h,  h = a (v − mean v − x̂ · mean(v x̂)) + v_w x̂ + v_b,  a = weight · scale,
  // whose gradient to gz is h, and to x̂, scale and weight what is collected below; the ReLU's place does not move.
  static variable_list backward(AutogradContext *context, variable_list directions) {
    const auto saved = context->get_saved_variables();
    const Tensor &weight = saved[2], &bias = saved[3], &statistics = saved[4], &sums = saved[5];
    std::vector<bool> wanted;
    for (int64_t i = 0; i < 4; ++i) wanted.push_back(context->needs_input_grad(i));
    if (at::GradMode::is_enabled()) return with_graph(saved, directions, wanted, context->saved_data["epsilon"].toDouble());
    const Tensor g = saved[0].contiguous(channels_last), x = saved[1].contiguous(channels_last);
    const Tensor v = directions[0].contiguous(channels_last);
    const Tensor v_w = directions[1].to(at::kDouble).contiguous(), v_b = directions[2].to(at::kDouble).contiguous();
    const int64_t channels = x.size(1), planes = x.size(0) * channels;
    const double size = static_cast<double>(x.size(2) * x.size(3));
    Tensor gg = images(g, g.size(2), g.size(3)), gx = images(x, x.size(2), x.size(3)), of_weight = per_plane(x, 1);
    const double *means = statistics.const_data_ptr<double>(), *totals = sums.const_data_ptr<double>();
    const double *along_w = v_w.const_data_ptr<double>(), *along_b = v_b.const_data_ptr<double>();
    double *gw = of_weight.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool_second", [&] {
      const auto *from = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>(), *up = g.const_data_ptr<scalar_t>(),
                 *tangent = v.const_data_ptr<scalar_t>();
      auto *to_x = gx.mutable_data_ptr<scalar_t>(), *to_g = gg.mutable_data_ptr<scalar_t>();
      const int64_t full = x.stride(0), pooled = g.stride(0);
      each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
        const int64_t plane = n * channels + first, at = n * full + first, window = n * pooled + first;
        const Norm<scalar_t> norm(means + plane, means + planes + plane, w + first, b + first, strip.channels);
        double sum[together], against[together], along[together];
        loops<scalar_t>().tangent_sums(from + at, up + window, tangent + at, strip, norm.factor, norm.shift, norm.centre, sum,
                                       against, along);
        Second<scalar_t> second;
        for (int64_t c = 0; c < strip.channels; ++c) {
          const double mean = norm.mean[c], scale = norm.scale[c], a = w[first + c] * scale;
          const double gz = totals[plane + c] / size, gz_x = totals[planes + plane + c] / size;
          const double v_0 = sum[c] / size, v_x = against[c] * scale / size;
          // mean(gz (v − mean v − x̂ · mean(v x̂))), which scale · weight is a factor of.
          const double product = along[c] / size - gz * v_0 - gz_x * v_x;
          gw[plane + c] = scale * size * product;
          // The gradient to x̂ is of_gz · gz − a · gz_x · v.
          const double of_gz = along_w[first + c] - a * v_x, mean_of = of_gz * gz - a * gz_x * v_0;
          const double mean_of_x = of_gz * gz_x - a * gz_x * v_x;
          const double slope = -scale * scale * (mean_of_x + a * product);
          second.a[c] = norm.factor[c];
          second.b[c] = norm.shift[c];
          second.of_gz[c] = scalar_t(scale * of_gz);
          second.of_v[c] = scalar_t(-scale * a * gz_x);
          second.of_x[c] = scalar_t(slope);
          second.rest[c] = scalar_t(-scale * mean_of - slope * mean);
          second.to_v[c] = norm.factor[c];
          second.to_x[c] = scalar_t(scale * of_gz);
          second.to_rest[c] = scalar_t(along_b[first + c] - a * v_0 - scale * of_gz * mean);
        }
        loops<scalar_t>().second(from + at, up + window, tangent + at, to_x + at, to_g + window, strip, second);
      });
    });
    variable_list result{gg, gx, of_weight.sum(at::IntArrayRef{0, 1}).to(x.scalar_type()), at::zeros_like(bias)};
    for (size_t i = 0; i < wanted.size(); ++i)
      if (!wanted[i]) result[i] = Tensor();
    result.resize(6);
    return result;
  }

  static variable_list with_graph(const variable_list &saved, const variable_list &directions,
                                  const std::vector<bool> &wanted, double epsilon) {
    // Views, for the gradient's own graph leads to the input as well.
    const Tensor g = saved[0].alias(), x = saved[1].alias(), weight = saved[2].alias(), bias = saved[3].alias();
    // Of the three gradients those of frozen inputs are handed to nobody.
    const std::vector<bool> of{x.requires_grad(), weight.requires_grad(), bias.requires_grad()};
    const auto first = graph_of({composed(x, weight, bias, epsilon)}, {x, weight, bias}, {g}, of);
    variable_list gradients, along;
    for (size_t i = 0; i < of.size(); ++i)
      if (first[i].defined()) {
        gradients.push_back(first[i]);
        along.push_back(directions[i]);
      }
    auto result = graph_of(gradients, {g, x, weight, bias}, along, wanted);
    result.resize(6);
    return result;
  }
};

// Instance norm (GroupNorm with a group per channel), ReLU, and 2×2 average pooling.
struct NormReluPool : torch::autograd::Function<NormReluPool> {
  static Tensor forward(AutogradContext *context, const Tensor &input, const Tensor &weight, const Tensor &bias,
                        double epsilon) {
    const Tensor x = input.contiguous(channels_last);
    const int64_t channels = x.size(1), planes = x.size(0) * channels;
    Tensor y = images(x, x.size(2) / 2, x.size(3) / 2);
    // Two rows per plane: mean and 1/√(variance + ε).
    Tensor statistics = per_plane(x, 2);
    double *means = statistics.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm_relu_pool", [&] {
      const auto *from = x.const_data_ptr<scalar_t>(), *w = weight.const_data_ptr<scalar_t>(),
                 *b = bias.const_data_ptr<scalar_t>();
      auto *to = y.mutable_data_ptr<scalar_t>();
      const int64_t full = x.stride(0), pooled = y.stride(0);
      each_strip(x, [&](const Strip &strip, int64_t n, int64_t first) {
        const scalar_t *in = from + n * full + first;
        double *mean = means + n * channels + first, *scale = mean + planes;
        loops<scalar_t>().moments(in, strip, mean, scale);
        for (int64_t c = 0; c < strip.channels; ++c) scale[c] = 1 / std::sqrt(scale[c] + epsilon);
        const Norm<scalar_t> norm(mean, scale, w + first, b + first, strip.channels);
        loops<scalar_t>().scale_relu_pool(in, to + n * pooled + first, strip, norm.factor, norm.shift);
      });
    });
    context->save_for_backward({input, weight, bias, statistics});
    context->saved_data["epsilon"] = epsilon;
    return y;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &statistics = saved[3];
    Tensor sums;
    auto result = at::GradMode::is_enabled()
                      ? Gradient::apply(gradients[0], x, weight, bias, statistics, context->saved_data["epsilon"].toDouble())
                      : Gradient::compute(gradients[0], x, weight, bias, statistics, sums);
    for (size_t i = 0; i < result.size(); ++i)
      if (!context->needs_input_grad(i)) result[i] = Tensor();
    result.emplace_back();
    return result;
  }
};

} // namespace

Tensor average_pool(const Tensor &input) { return Pool::apply(input); }

Tensor norm_relu_pool(const Tensor &input, const Tensor &weight, const Tensor &bias, double epsilon) {
  return NormReluPool::apply(input, weight, bias, epsilon);
}

} // namespace guard
