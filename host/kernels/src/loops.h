// Inner loops over plain memory, compiled once for any CPU and once for those with AVX2 (see build.rs). `loops` chooses.
#pragma once

#include <cstdint>

namespace guard {

// Over planes [height,width] of float or double.
template <typename T> struct PlaneLoops {
  // Mean and biased variance of `size` values.
  void (*moments)(const T *x, int64_t size, double &mean, double &variance);
  // ¼ Σ max(0, a·x + b) over each window of 2×2.
  void (*scale_relu_pool)(const T *x, T *y, int64_t height, int64_t width, T a, T b);
  // The gradient behind that ReLU, ¼ g but where a·x + b ≤ 0, into `gz`; its sum, and its sum against x − mean.
  void (*unpool_mask)(const T *x, const T *g, T *gz, int64_t height, int64_t width, T a, T b, T mean, double &sum,
                      double &against);
  // gz ← a·gz + p·x + q.
  void (*combine)(const T *x, T *gz, int64_t size, T a, T p, T q);
  // Averages over windows of 2×2.
  void (*pool)(const T *x, T *y, int64_t height, int64_t width);
  // Its adjoint.
  void (*unpool)(const T *g, T *x, int64_t height, int64_t width);
};

// How many output channels a tile of a weight's gradient has, and how many input channels.
constexpr int64_t tile_rows = 6, tile_columns = 16;

// What the tiles of one tap of a convolution's weight are summed over.
struct Positions {
  int64_t images, height, width;
  // Distances in the padded input's panel: from image to image, row to row, column to column.
  int64_t image, row, column;
};

// out[r·stride + c] += Σ g[position][r] · x[position][c] for `channels` rows: panels of `tile_rows` channels of g, each
// `panel` long, against one panel of `tile_columns` channels of x.
using WeightTiles = void (*)(const float *x, const float *g, const Positions &, int64_t panel, float *out, int64_t stride,
                             int64_t channels);

namespace any_cpu {
extern const PlaneLoops<float> single_precision;
extern const PlaneLoops<double> double_precision;
} // namespace any_cpu

namespace avx2 {
extern const PlaneLoops<float> single_precision;
extern const PlaneLoops<double> double_precision;
extern const WeightTiles weight_tiles;
} // namespace avx2

} // namespace guard
