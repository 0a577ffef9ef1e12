// Convolutions 3×3 by Winograd's algorithm: see winograd.cpp.
#pragma once

#include "layers.h"

#include <ATen/core/Tensor.h>

namespace guard::winograd {

// What the convolutions of a weight [O,C,3,3] have in common with those of its adjoint, which takes [N,O,H,W] to
// [N,C,H,W].
enum class Direction { forward, adjoint };

// Whether `convolve` is faster than libtorch for these images, and takes them: float32 on the CPU, stored channels last.
bool serves(const Tensor &images, const Tensor &weight, int64_t stride, int64_t padding, Direction direction);

// A convolution of stride 1 and padding 1, or its input's gradient, stored channels last.
Tensor convolve(const Tensor &images, const Tensor &weight, const std::optional<Tensor> &bias, Direction direction);

// Whether `weight_gradient` takes these, and is faster.
bool serves_weight(const Tensor &gradient, const Tensor &input, at::IntArrayRef shape, int64_t stride, int64_t padding);

// The weight's gradient [O,C,3,3], stored channels last, of [N,O,H,W] and the input [N,C,H,W]. The order of summation does
// not depend on the number of threads.
Tensor weight_gradient(const Tensor &gradient, const Tensor &input);

} // namespace guard::winograd
