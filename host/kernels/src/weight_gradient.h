// The weight's gradient of a convolution, on CPUs with AVX2 but no AVX-512, where oneDNN's takes half as long again.
#pragma once

#include "layers.h"

namespace guard {

// Whether `weight_gradient` takes these.
bool serves_weight(const Tensor &gradient, const Tensor &input);

// The weight's gradient [O,C,k,k], stored channels last, by tiles of 6 × 16 channels that stay in registers while they are
// summed over positions. Both arguments are copied into panels of as many channels, which a tile reads in order; the
// input's have the padding around them. The order of summation does not depend on the number of threads.
Tensor weight_gradient(const Tensor &gradient, const Tensor &input, at::IntArrayRef shape, int64_t stride,
                       int64_t padding);

} // namespace guard
