// See weight_gradient.h.

#include "weight_gradient.h"
#include "tiles.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

namespace guard {

using avx2::Positions, avx2::tile_columns, avx2::tile_rows;

bool serves_weight(const Tensor &gradient, const Tensor &input) {
  return avx2_is_best() && input.scalar_type() == at::kFloat && input.size(1) % tile_columns == 0 &&
         input.is_contiguous(channels_last) && input.numel() > 0 && gradient.numel() > 0;
}

Tensor weight_gradient(const Tensor &any_gradient, const Tensor &input, at::IntArrayRef shape, int64_t stride,
                       int64_t padding) {
  const Tensor gradient = any_gradient.contiguous(channels_last);
  const int64_t images = input.size(0), from = input.size(1), to = gradient.size(1), size = shape[2];
  const int64_t height = input.size(2), width = input.size(3), out_height = gradient.size(2), out_width = gradient.size(3);
  const int64_t row = (width + 2 * padding) * tile_columns, image = (height + 2 * padding) * row;
  const int64_t positions = out_height * out_width;
  // Images at a time: enough positions to be worth loading a tile, few enough for the second-level cache.
  const int64_t together = std::clamp<int64_t>(256 / positions, 1, images);
  const int64_t panels = (to + tile_rows - 1) / tile_rows, panel = together * positions * tile_rows;

  Tensor result = at::empty(shape, input.options().memory_format(channels_last)).zero_();
  std::vector<float> packed(panels * panel);
  const float *g = gradient.const_data_ptr<float>(), *x = input.const_data_ptr<float>();
  float *out = result.mutable_data_ptr<float>();
  for (int64_t first = 0; first < images; first += together) {
    const int64_t count = std::min(together, images - first);
    at::parallel_for(0, count * positions, 512, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at)
        for (int64_t channel = 0; channel < to; channel += tile_rows)
          std::copy_n(g + (first * positions + at) * to + channel, std::min(tile_rows, to - channel),
                      &packed[channel / tile_rows * panel + at * tile_rows]);
    });
    at::parallel_for(0, from / tile_columns, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> padded(count * image, 0.0f);
      for (int64_t block = begin; block < end; ++block) {
        for (int64_t n = 0; n < count; ++n)
          for (int64_t i = 0; i < height; ++i)
            for (int64_t j = 0; j < width; ++j)
              std::copy_n(x + (((first + n) * height + i) * width + j) * from + block * tile_columns, tile_columns,
                          &padded[n * image + (i + padding) * row + (j + padding) * tile_columns]);
        const Positions over{count, out_height, out_width, image, stride * row, stride * tile_columns};
        for (int64_t i = 0; i < size; ++i)
          for (int64_t j = 0; j < size; ++j)
            avx2::weight_tiles(&padded[i * row + j * tile_columns], packed.data(), over, panel,
                               out + (i * size + j) * from + block * tile_columns, size * size * from, to);
      }
    });
  }
  return result;
}

} // namespace guard
