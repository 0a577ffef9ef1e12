// Convolutions 3×3 by Winograd's algorithm (Lavin, Gray, 2016: F(4×4, 3×3)), in float32.
//
// The output is cut into tiles of 4×4. The 6×6 inputs of each are mapped to as many frequencies, as are the taps of each
// pair of channels; there a convolution is a product of matrices, tiles × channels by channels × channels, for each
// frequency. That is a quarter of the multiplications. The weight's gradient is the adjoint in the weight. What it saves and
// what it rounds away beside libtorch's: examples/convolutions.rs.
//
// A tile sees all of its patch: a value that is not finite, or so large that its square is not, spoils the tiles beside it
// where a sum would spoil the positions beside it. No other image is touched: what an image comes to depends on the others
// only in that few of them go by libtorch (`fewest_tiles`).

#include "winograd.h"
#include "tiles.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

namespace guard::winograd {
namespace {

using avx2::frequencies, avx2::patch, avx2::tile, avx2::tile_columns;

// Fewer tiles are not worth the transform of the weight.
constexpr int64_t fewest_tiles = 32;

// Floats of the frequencies that a thread works on at once: its share of the second-level cache.
constexpr int64_t cached = 65536;

// The tiles of images [N,C,H,W].
struct Grid {
  int64_t images, height, width, down, across;

  explicit Grid(const Tensor &x)
      : images(x.size(0)), height(x.size(2)), width(x.size(3)), down((height + tile - 1) / tile),
        across((width + tile - 1) / tile) {}

  int64_t tiles() const { return images * down * across; }

  // Where the channels of a tile's size × size positions are, from `margin` rows and columns before it; `outside` for
  // those that no image has.
  template <int64_t size, int64_t margin, typename T>
  void find(T *x, int64_t channels, int64_t index, T *outside, T *(&found)[size * size]) const {
    const int64_t n = index / (down * across), i = index / across % down * tile - margin, j = index % across * tile - margin;
    for (int64_t a = 0; a < size; ++a)
      for (int64_t b = 0; b < size; ++b) {
        const bool inside = i + a >= 0 && i + a < height && j + b >= 0 && j + b < width;
        found[a * size + b] = inside ? x + ((n * height + i + a) * width + j + b) * channels : outside;
      }
  }
};

// Frequencies of `size` values each. A cache line lies between them: at a power of two apart they would share few lines.
int64_t apart(int64_t size) { return size + tile_columns; }

// [frequency][output channels / 16][input channels][16 output channels] of a weight, as a direction uses it.
struct Weight {
  int64_t from, to, stride;
  Tensor values;

  Weight(const Tensor &weight, Direction direction) {
    const bool adjoint = direction == Direction::adjoint;
    // The adjoint is the convolution with the channels exchanged and the taps in reverse.
    const int64_t output = adjoint ? 1 : 0, input = 1 - output;
    from = weight.size(input);
    to = weight.size(output);
    stride = apart(to * from);
    values = at::empty({frequencies * stride}, weight.options().memory_format(at::MemoryFormat::Contiguous));
    const int64_t sign = adjoint ? -1 : 1, depth = weight.stride(input), channel = weight.stride(output);
    const avx2::Taps taps{sign * weight.stride(2), sign * weight.stride(3), channel};
    const float *first = weight.const_data_ptr<float>() + (adjoint ? 2 * (weight.stride(2) + weight.stride(3)) : 0);
    float *found = values.mutable_data_ptr<float>();
    at::parallel_for(0, to / tile_columns * from, 64, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at)
        avx2::from_taps(first + at / from * tile_columns * channel + at % from * depth, taps, found + at * tile_columns,
                        stride);
    });
  }
};

bool fits(const Tensor &images, int64_t other_channels, int64_t stride, int64_t padding) {
  if (!avx2_is_best() || !images.device().is_cpu() || images.scalar_type() != at::kFloat || images.dim() != 4 ||
      stride != 1 || padding != 1 || !images.is_contiguous(channels_last) || images.size(1) % tile_columns != 0 ||
      other_channels % tile_columns != 0 || images.size(1) == 0 || other_channels == 0)
    return false;
  const Grid grid(images);
  // Images that their tiles exceed by much leave less than half of the multiplications to save.
  const int64_t direct = grid.images * grid.height * grid.width * 9, here = grid.tiles() * frequencies;
  return grid.tiles() >= fewest_tiles && direct >= 2 * here;
}

} // namespace

bool serves(const Tensor &images, const Tensor &weight, int64_t stride, int64_t padding, Direction direction) {
  const int64_t input = direction == Direction::forward ? 1 : 0;
  return weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 && weight.scalar_type() == at::kFloat &&
         weight.device().is_cpu() && fits(images, weight.size(1 - input), stride, padding) &&
         weight.size(input) == images.size(1);
}

Tensor convolve(const Tensor &images, const Tensor &weight, const std::optional<Tensor> &bias, Direction direction) {
  const Weight kernel(weight, direction);
  if (bias)
    TORCH_CHECK(bias->device().is_cpu() && bias->scalar_type() == at::kFloat && bias->sizes() == at::IntArrayRef{kernel.to},
                "the bias must be float32 [", kernel.to, "] on the CPU, found ", bias->scalar_type(), " ", bias->sizes(),
                " on ", bias->device());
  const Grid grid(images);
  const int64_t from = kernel.from, to = kernel.to, panels = to / tile_columns;
  Tensor result = at::empty({grid.images, to, grid.height, grid.width}, images.options().memory_format(channels_last));
  std::vector<float> shift(to, 0.0f);
  if (bias) std::copy_n(bias->contiguous().const_data_ptr<float>(), to, shift.begin());
  const float *in = images.const_data_ptr<float>(), *u = kernel.values.const_data_ptr<float>();
  float *out = result.mutable_data_ptr<float>();
  at::parallel_for(0, grid.tiles(), avx2::tile_rows, [&](int64_t begin, int64_t end) {
    // As many tiles at once as the cache holds, but enough to be worth reading the weight for.
    const int64_t most = std::max<int64_t>(48, cached / (frequencies * (from + to)));
    const int64_t blocks = (end - begin + most - 1) / most, block = (end - begin + blocks - 1) / blocks;
    const int64_t v_stride = apart(block * from), m_stride = apart(block * to);
    const Tensor space = at::empty({frequencies * (v_stride + m_stride) + from + to}, at::kFloat);
    float *v = space.mutable_data_ptr<float>(), *m = v + frequencies * v_stride;
    float *zeros = m + frequencies * m_stride, *unused = zeros + from;
    std::fill_n(zeros, from, 0.0f);
    for (int64_t first = begin; first < end; first += block) {
      const int64_t count = std::min(block, end - first);
      const float *inputs[frequencies];
      for (int64_t t = 0; t < count; ++t) {
        grid.find<patch, 1, const float>(in, from, first + t, zeros, inputs);
        avx2::from_patch(inputs, from, v + t * from, v_stride);
      }
      for (int64_t f = 0; f < frequencies; ++f)
        for (int64_t at = 0; at < panels; ++at)
          avx2::multiply({count, from, v + f * v_stride, from, 1, u + f * kernel.stride + at * from * tile_columns,
                          tile_columns, m + f * m_stride + at * tile_columns, to, false});
      float *outputs[tile * tile];
      for (int64_t t = 0; t < count; ++t) {
        grid.find<tile, 0>(out, to, first + t, unused, outputs);
        avx2::to_tile(m + t * to, m_stride, shift.data(), outputs, to);
      }
    }
  });
  return result;
}

bool serves_weight(const Tensor &gradient, const Tensor &input, at::IntArrayRef shape, int64_t stride, int64_t padding) {
  return shape[2] == 3 && shape[3] == 3 && fits(input, gradient.size(1), stride, padding);
}

Tensor weight_gradient(const Tensor &any_gradient, const Tensor &input) {
  const Tensor gradient = any_gradient.contiguous(channels_last);
  const Grid grid(input);
  const int64_t from = input.size(1), to = gradient.size(1), panels = from / tile_columns;
  // As many tiles at once as the last-level cache holds, for each time all sums are read and written.
  const int64_t most = std::max<int64_t>(128, 32 * cached / (frequencies * (from + to)));
  const int64_t blocks = (grid.tiles() + most - 1) / most, block = (grid.tiles() + blocks - 1) / blocks;
  const int64_t v_stride = apart(block * from), m_stride = apart(block * to), u_stride = apart(from * to);
  const Tensor space = at::empty({frequencies * (v_stride + m_stride + u_stride) + std::max(from, to)}, at::kFloat);
  float *v = space.mutable_data_ptr<float>(), *m = v + frequencies * v_stride, *u = m + frequencies * m_stride;
  float *zeros = u + frequencies * u_stride;
  std::fill_n(zeros, std::max(from, to), 0.0f);
  const float *in = input.const_data_ptr<float>(), *g = gradient.const_data_ptr<float>();
  for (int64_t first = 0; first < grid.tiles(); first += block) {
    const int64_t count = std::min(block, grid.tiles() - first);
    at::parallel_for(0, count, tile, [&](int64_t begin, int64_t end) {
      const float *inputs[frequencies], *gradients[tile * tile];
      for (int64_t t = begin; t < end; ++t) {
        grid.find<patch, 1, const float>(in, from, first + t, zeros, inputs);
        avx2::from_patch(inputs, from, v + t * from, v_stride);
        grid.find<tile, 0, const float>(g, to, first + t, zeros, gradients);
        avx2::from_tile(gradients, to, m + t * to, m_stride);
      }
    });
    at::parallel_for(0, frequencies * panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t f = at / panels, channel = at % panels * tile_columns;
        avx2::multiply({to, count, m + f * m_stride, 1, to, v + f * v_stride + channel, from,
                        u + f * u_stride + channel, from, first > 0});
      }
    });
  }
  Tensor result = at::empty({to, from, 3, 3}, input.options().memory_format(channels_last));
  float *out = result.mutable_data_ptr<float>();
  at::parallel_for(0, to, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      avx2::to_taps(u + o * from, u_stride, out + o * 9 * from, {3 * from, from, 1}, from);
  });
  return result;
}

} // namespace guard::winograd
