// Mean and variance per channel of [N,C,H,W], differentiable any number of times. libtorch's `var_mean` goes over the
// activations value by value (Welford), which takes as long as a convolution.

#include "autograd.h"

namespace guard {
namespace {

Tensor per_channel(const Tensor &values) { return values.reshape({1, -1, 1, 1}); }

struct BatchStatistics : torch::autograd::Function<BatchStatistics> {
  static variable_list forward(AutogradContext *context, const Tensor &input) {
    const Tensor mean = input.mean({0, 2, 3});
    const Tensor variance = (input - per_channel(mean)).square_().mean({0, 2, 3});
    context->save_for_backward({input, mean});
    return {mean, variance};
  }

  // (g_mean + 2 g_variance (x − mean)) / count.
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &input = saved[0], &mean = saved[1];
    const double count = static_cast<double>(input.numel()) / static_cast<double>(input.size(1));
    const Tensor slope = gradients[1] * (2 / count);
    return {at::addcmul(per_channel(gradients[0] / count - slope * mean), input, per_channel(slope))};
  }
};

} // namespace

std::pair<Tensor, Tensor> batch_statistics(const Tensor &input) {
  const auto found = BatchStatistics::apply(input);
  return {found[0], found[1]};
}

} // namespace guard
