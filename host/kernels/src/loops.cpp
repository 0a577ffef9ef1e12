// See loops.h. Includes nothing whose inline functions the linker could merge with those of files for any CPU.

#include "loops.h"

namespace guard::GUARD_CPU {
namespace {

// NaN stays NaN, as in libtorch's.
template <typename T> T relu(T x) { return x < T(0) ? T(0) : x; }

template <typename T> void zero(T *x, int64_t size) {
  for (int64_t i = 0; i < size; ++i) x[i] = T(0);
}

// Pieces are summed in T, what they give in double precision.
template <typename T, typename F> double sum(int64_t size, F &&value) {
  constexpr int64_t piece = 256;
  double total = 0;
  for (int64_t at = 0; at < size; at += piece) {
    const int64_t end = at + piece < size ? at + piece : size;
    T part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = at; i < end; ++i) part += value(i);
    total += part;
  }
  return total;
}

template <typename T> void moments(const T *x, int64_t size, double &mean, double &variance) {
  mean = sum<T>(size, [=](int64_t i) { return x[i]; }) / size;
  const T centre = static_cast<T>(mean);
  variance = sum<T>(size, [=](int64_t i) { return (x[i] - centre) * (x[i] - centre); }) / size;
}

// Each window's four values through `value`, averaged.
template <typename T, typename F> void average(const T *x, T *y, int64_t height, int64_t width, F &&value) {
  const int64_t rows = height / 2, columns = width / 2;
  for (int64_t i = 0; i < rows; ++i) {
    const T *top = x + 2 * i * width, *bottom = top + width;
    T *out = y + i * columns;
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j)
      out[j] = T(0.25) * ((value(top[2 * j]) + value(top[2 * j + 1])) + (value(bottom[2 * j]) + value(bottom[2 * j + 1])));
  }
}

template <typename T> void scale_relu_pool(const T *x, T *y, int64_t height, int64_t width, T a, T b) {
  average(x, y, height, width, [=](T value) { return relu(a * value + b); });
}

template <typename T> void pool(const T *x, T *y, int64_t height, int64_t width) {
  average(x, y, height, width, [](T value) { return value; });
}

template <typename T>
void unpool_mask(const T *x, const T *g, T *gz, int64_t height, int64_t width, T a, T b, T mean, double &sum,
                 double &against) {
  const int64_t rows = height / 2, columns = width / 2;
  sum = against = 0;
  for (int64_t i = 0; i < 2 * rows; ++i) {
    const T *in = x + i * width, *up = g + (i / 2) * columns;
    T *out = gz + i * width;
    T s = 0, t = 0;
#pragma omp simd reduction(+ : s, t)
    for (int64_t j = 0; j < columns; ++j) {
      const T quarter = T(0.25) * up[j];
      const T left = a * in[2 * j] + b <= T(0) ? T(0) : quarter;
      const T right = a * in[2 * j + 1] + b <= T(0) ? T(0) : quarter;
      out[2 * j] = left;
      out[2 * j + 1] = right;
      s += left + right;
      t += left * (in[2 * j] - mean) + right * (in[2 * j + 1] - mean);
    }
    sum += s;
    against += t;
    if (width % 2 == 1) out[width - 1] = T(0);
  }
  if (height % 2 == 1) zero(gz + (height - 1) * width, width);
}

template <typename T> void combine(const T *x, T *gz, int64_t size, T a, T p, T q) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) gz[i] = a * gz[i] + (p * x[i] + q);
}

template <typename T> void unpool(const T *g, T *x, int64_t height, int64_t width) {
  const int64_t rows = height / 2, columns = width / 2;
  for (int64_t i = 0; i < 2 * rows; ++i) {
    const T *up = g + (i / 2) * columns;
    T *row = x + i * width;
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) row[2 * j] = row[2 * j + 1] = T(0.25) * up[j];
    if (width % 2 == 1) row[width - 1] = T(0);
  }
  if (height % 2 == 1) zero(x + (height - 1) * width, width);
}

template <typename T>
constexpr PlaneLoops<T> plane_loops = {moments<T>, scale_relu_pool<T>, unpool_mask<T>, combine<T>, pool<T>, unpool<T>};

} // namespace

extern const PlaneLoops<float> single_precision;
extern const PlaneLoops<double> double_precision;
const PlaneLoops<float> single_precision = plane_loops<float>;
const PlaneLoops<double> double_precision = plane_loops<double>;

#ifdef __AVX2__
namespace {

typedef float Vector __attribute__((vector_size(32), aligned(4)));
constexpr int64_t lanes = 8, vectors = tile_columns / lanes;

// One tile, in registers: 6 × 2 sums, two vectors of x and one value of g are 15 of AVX2's 16.
template <int64_t rows>
void weight_tile(const float *x, const float *g, const Positions &over, float *out, int64_t stride) {
  Vector sums[rows][vectors];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) sums[r][v] = *reinterpret_cast<const Vector *>(out + r * stride + v * lanes);
  for (int64_t n = 0; n < over.images; ++n)
    for (int64_t i = 0; i < over.height; ++i) {
      const float *in = x + n * over.image + i * over.row;
      for (int64_t j = 0; j < over.width; ++j, in += over.column, g += tile_rows) {
        const Vector left = *reinterpret_cast<const Vector *>(in);
        const Vector right = *reinterpret_cast<const Vector *>(in + lanes);
#pragma GCC unroll 6
        for (int64_t r = 0; r < rows; ++r) {
          sums[r][0] += left * g[r];
          sums[r][1] += right * g[r];
        }
      }
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) *reinterpret_cast<Vector *>(out + r * stride + v * lanes) = sums[r][v];
}

void tiles(const float *x, const float *g, const Positions &over, int64_t panel, float *out, int64_t stride,
           int64_t channels) {
  constexpr decltype(&weight_tile<1>) of_rows[] = {weight_tile<1>, weight_tile<2>, weight_tile<3>,
                                                   weight_tile<4>, weight_tile<5>, weight_tile<6>};
  for (int64_t at = 0; at < channels; at += tile_rows, g += panel) {
    const int64_t left = channels - at;
    of_rows[(left < tile_rows ? left : tile_rows) - 1](x, g, over, out + at * stride, stride);
  }
}

} // namespace

extern const WeightTiles weight_tiles;
const WeightTiles weight_tiles = tiles;
#endif

} // namespace guard::GUARD_CPU
