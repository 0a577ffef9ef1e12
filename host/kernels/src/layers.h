// What the layers share.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>

namespace guard {

using at::Tensor;

constexpr auto channels_last = at::MemoryFormat::ChannelsLast;

Tensor average_pool(const Tensor &input);
Tensor norm_relu_pool(const Tensor &input, const Tensor &weight, const Tensor &bias, double epsilon);
Tensor convolution(const Tensor &input, const Tensor &weight, const std::optional<Tensor> &bias, int64_t stride,
                   int64_t padding);

// Mean and biased variance per channel.
std::pair<Tensor, Tensor> batch_statistics(const Tensor &input);

// The CPU has AVX2 and fused multiply-add.
bool has_avx2();

// It has no AVX-512 besides, for which oneDNN's convolutions are written best.
bool avx2_is_best();

} // namespace guard
