// What layers with derivatives of their own are written with.
#pragma once

#include "layers.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace guard {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

} // namespace guard
