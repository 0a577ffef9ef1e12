// What Rust calls. Every function is noexcept: an exception becomes a message that the caller frees with
// guard_kernels_free, and null means success.

#include "layers.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace guard {

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool avx2_is_best() {
  static const bool best = has_avx2() && !__builtin_cpu_supports("avx512f");
  return best;
}

namespace {

template <typename F> char *guarded(F &&body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

template <typename F> char *made(at::Tensor **output, F &&layer) noexcept {
  return guarded([&] { *output = new at::Tensor(layer()); });
}

} // namespace
} // namespace guard

extern "C" {

void guard_kernels_free(char *message) noexcept { std::free(message); }

char *guard_kernels_average_pool(const at::Tensor *input, at::Tensor **output) noexcept {
  return guard::made(output, [&] { return guard::average_pool(*input); });
}

char *guard_kernels_norm_relu_pool(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                                   double epsilon, at::Tensor **output) noexcept {
  return guard::made(output, [&] { return guard::norm_relu_pool(*input, *weight, *bias, epsilon); });
}

// `bias` may be null.
char *guard_kernels_convolution(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias, int64_t stride,
                                int64_t padding, at::Tensor **output) noexcept {
  return guard::made(output, [&] {
    const auto some = bias == nullptr ? std::nullopt : std::optional<at::Tensor>(*bias);
    return guard::convolution(*input, *weight, some, stride, padding);
  });
}

char *guard_kernels_batch_statistics(const at::Tensor *input, at::Tensor **mean, at::Tensor **variance) noexcept {
  return guard::guarded([&] {
    auto found = guard::batch_statistics(*input);
    *mean = new at::Tensor(std::move(found.first));
    *variance = new at::Tensor(std::move(found.second));
  });
}

// Whether libtorch's `parallel_for` divides a loop here.
bool guard_kernels_parallel() noexcept {
  std::atomic<int64_t> parts{0};
  at::parallel_for(0, std::max(2, at::get_num_threads()), 1, [&](int64_t, int64_t) { ++parts; });
  return parts > 1;
}

// `tensor` and `momentum` in place, by one step of PyTorch's SGD.
char *guard_kernels_sgd(at::Tensor *tensor, at::Tensor *momentum, const at::Tensor *gradient, double learning_rate,
                        double decay, double weight_decay, bool nesterov) noexcept {
  return guard::guarded([&] {
    // libtorch's kernel goes over memory in order, whatever it stands for.
    TORCH_CHECK(tensor->is_non_overlapping_and_dense() && momentum->strides() == tensor->strides(),
                "an optimiser's tensors must be dense and stored alike");
    at::Tensor same = *gradient;
    if (same.strides() != tensor->strides()) same = at::empty_like(*tensor).copy_(same);
    // Without momentum libtorch wants to see none.
    const auto kept = decay == 0 ? std::vector<at::Tensor>{} : std::vector<at::Tensor>{*momentum};
    at::_fused_sgd_({*tensor}, {same}, kept, weight_decay, decay, learning_rate, 0.0, nesterov, false, false);
  });
}
}
