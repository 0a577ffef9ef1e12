// Layers of ConvNets over contiguous [N,C,H,W] on the CPU, float32 and float64, differentiable any number of times.
//
// libtorch's 2×2 average pooling is not vectorised for this layout: with its backward pass it takes a quarter of a
// ConvNet's time. `norm_relu_pool` goes over each plane while it is in the first-level cache and keeps nothing between
// passes but its input, a mean and a scale per plane. Every function is noexcept: an exception becomes a message that the
// caller frees with guard_kernels_free, and null means success.

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <cstring>
#include <exception>

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
// One version per instruction set; the loader chooses.
#define EACH_CPU __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define EACH_CPU
#endif

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Σ (x − shift)^power over a plane, power 1 or 2; rows in single, planes in double precision.
#define MOMENTS(T)                                                                                                     \
  EACH_CPU void moments(const T *x, int64_t size, double &mean, double &variance) {                                    \
    double sum = 0, squares = 0;                                                                                       \
    const int64_t piece = 256;                                                                                         \
    for (int64_t at = 0; at < size; at += piece) {                                                                     \
      const int64_t end = std::min(at + piece, size);                                                                  \
      T part = 0;                                                                                                      \
      _Pragma("omp simd reduction(+ : part)") for (int64_t i = at; i < end; ++i) part += x[i];                         \
      sum += part;                                                                                                     \
    }                                                                                                                  \
    mean = sum / size;                                                                                                 \
    const T shift = static_cast<T>(mean);                                                                              \
    for (int64_t at = 0; at < size; at += piece) {                                                                     \
      const int64_t end = std::min(at + piece, size);                                                                  \
      T part = 0;                                                                                                      \
      _Pragma("omp simd reduction(+ : part)") for (int64_t i = at; i < end; ++i) part += (x[i] - shift) * (x[i] - shift); \
      squares += part;                                                                                                 \
    }                                                                                                                  \
    variance = squares / size;                                                                                         \
  }

// ¼ Σ max(0, a·x + b) over each window of 2×2.
#define SCALE_RELU_POOL(T)                                                                                             \
  EACH_CPU void scale_relu_pool(const T *x, T *y, int64_t height, int64_t width, T a, T b) {                           \
    const int64_t rows = height / 2, columns = width / 2;                                                              \
    for (int64_t i = 0; i < rows; ++i) {                                                                               \
      const T *top = x + 2 * i * width, *bottom = top + width;                                                         \
      T *out = y + i * columns;                                                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < columns; ++j) {                                                      \
        const T v0 = std::max(T(0), a * top[2 * j] + b), v1 = std::max(T(0), a * top[2 * j + 1] + b);                  \
        const T v2 = std::max(T(0), a * bottom[2 * j] + b), v3 = std::max(T(0), a * bottom[2 * j + 1] + b);            \
        out[j] = T(0.25) * ((v0 + v1) + (v2 + v3));                                                                    \
      }                                                                                                                \
    }                                                                                                                  \
  }

// The gradient behind the ReLU, ¼ g where a·x + b > 0, into `gz`; its sum, and its sum against x − mean.
#define UNPOOL_MASK(T)                                                                                                 \
  EACH_CPU void unpool_mask(const T *x, const T *g, T *gz, int64_t height, int64_t width, T a, T b, T mean,            \
                            double &sum, double &against) {                                                            \
    const int64_t rows = height / 2, columns = width / 2;                                                              \
    sum = against = 0;                                                                                                 \
    for (int64_t i = 0; i < 2 * rows; ++i) {                                                                           \
      const T *in = x + i * width, *up = g + (i / 2) * columns;                                                        \
      T *out = gz + i * width;                                                                                         \
      T s = 0, t = 0;                                                                                                  \
      _Pragma("omp simd reduction(+ : s, t)") for (int64_t j = 0; j < columns; ++j) {                                  \
        const T quarter = T(0.25) * up[j];                                                                             \
        const T left = a * in[2 * j] + b > T(0) ? quarter : T(0);                                                      \
        const T right = a * in[2 * j + 1] + b > T(0) ? quarter : T(0);                                                 \
        out[2 * j] = left;                                                                                             \
        out[2 * j + 1] = right;                                                                                        \
        s += left + right;                                                                                             \
        t += left * (in[2 * j] - mean) + right * (in[2 * j + 1] - mean);                                               \
      }                                                                                                                \
      sum += s;                                                                                                        \
      against += t;                                                                                                    \
      if (width % 2 == 1) out[width - 1] = T(0);                                                                       \
    }                                                                                                                  \
    if (height % 2 == 1) std::memset(gz + (height - 1) * width, 0, width * sizeof(T));                                 \
  }

// gx = a·gz + p·x + q, in place of gz.
#define COMBINE(T)                                                                                                     \
  EACH_CPU void combine(const T *x, T *gz, int64_t size, T a, T p, T q) {                                              \
    _Pragma("omp simd") for (int64_t i = 0; i < size; ++i) gz[i] = a * gz[i] + (p * x[i] + q);                         \
  }

// Averages over windows of 2×2, and the way back.
#define POOL(T)                                                                                                        \
  EACH_CPU void pool(const T *x, T *y, int64_t height, int64_t width) {                                                \
    const int64_t rows = height / 2, columns = width / 2;                                                              \
    for (int64_t i = 0; i < rows; ++i) {                                                                               \
      const T *top = x + 2 * i * width, *bottom = top + width;                                                         \
      T *out = y + i * columns;                                                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < columns; ++j) out[j] =                                               \
          T(0.25) * ((top[2 * j] + top[2 * j + 1]) + (bottom[2 * j] + bottom[2 * j + 1]));                             \
    }                                                                                                                  \
  }                                                                                                                    \
  EACH_CPU void unpool(const T *g, T *out, int64_t height, int64_t width) {                                            \
    const int64_t rows = height / 2, columns = width / 2;                                                              \
    for (int64_t i = 0; i < 2 * rows; ++i) {                                                                           \
      const T *up = g + (i / 2) * columns;                                                                             \
      T *row = out + i * width;                                                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < columns; ++j) row[2 * j] = row[2 * j + 1] = T(0.25) * up[j];         \
      if (width % 2 == 1) row[width - 1] = T(0);                                                                       \
    }                                                                                                                  \
    if (height % 2 == 1) std::memset(out + (height - 1) * width, 0, width * sizeof(T));                                \
  }

#define EACH_TYPE(KERNEL) KERNEL(float) KERNEL(double)
EACH_TYPE(MOMENTS)
EACH_TYPE(SCALE_RELU_POOL)
EACH_TYPE(UNPOOL_MASK)
EACH_TYPE(COMBINE)
EACH_TYPE(POOL)

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
      each_plane(x, [&](int64_t plane, int64_t size) { unpool(from + plane * pooled, to + plane * size, height, width); });
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
    each_plane(x, [&](int64_t plane, int64_t size) { pool(from + plane * size, to + plane * pooled, height, width); });
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
        moments(from + plane * size, size, mean, variance);
        means[plane] = mean;
        scales[plane] = 1 / std::sqrt(variance + epsilon);
        const double a = w[plane % channels] * scales[plane], c = b[plane % channels] - mean * a;
        scale_relu_pool(from + plane * size, to + plane * pooled, height, width, scalar_t(a), scalar_t(c));
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
        unpool_mask(in + plane * size, up + plane * pooled, out + plane * size, height, width, scalar_t(a), scalar_t(c),
                    scalar_t(mean), total[plane], against[plane]);
        against[plane] *= scale;
        // gx = a (gz − mean gz − x̂ · mean(gz x̂)), with x̂ = (x − mean) · scale.
        const double p = -a * scale * against[plane] / size;
        const double q = -a * total[plane] / size - p * mean;
        combine(in + plane * size, out + plane * size, size, scalar_t(a), scalar_t(p), scalar_t(q));
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

template <typename F> char *guarded(F &&body) noexcept {
  const auto copy = [](const char *text) noexcept { return strdup(text); };
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    return copy(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return copy(error.what());
  } catch (...) {
    return copy("unknown C++ exception");
  }
}

} // namespace

extern "C" {

void guard_kernels_free(char *message) noexcept { std::free(message); }

char *guard_kernels_pool(at::Tensor *input, at::Tensor **output) noexcept {
  return guarded([&] { *output = new at::Tensor(Pool::apply(*input)); });
}

char *guard_kernels_norm_relu_pool(at::Tensor *input, at::Tensor *weight, at::Tensor *bias, double epsilon,
                                   at::Tensor **output) noexcept {
  return guarded([&] { *output = new at::Tensor(NormReluPool::apply(*input, *weight, *bias, epsilon)); });
}
}
