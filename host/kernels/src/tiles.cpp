// See tiles.h. Includes nothing whose inline functions the linker could merge with those of files for any CPU.

#include "tiles.h"

namespace guard::avx2 {
namespace {

typedef float Vector __attribute__((vector_size(32), aligned(4)));
constexpr int64_t lanes = 8, vectors = tile_columns / lanes;

Vector load(const float *from) { return *reinterpret_cast<const Vector *>(from); }
void store(float *to, const Vector &value) { *reinterpret_cast<Vector *>(to) = value; }

// One tile, in registers: 6 × 2 sums, two vectors of x and one value of g are 15 of AVX2's 16.
template <int64_t rows>
void weight_tile(const float *x, const float *g, const Positions &over, float *out, int64_t stride) {
  Vector sums[rows][vectors];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) sums[r][v] = load(out + r * stride + v * lanes);
  for (int64_t n = 0; n < over.images; ++n)
    for (int64_t i = 0; i < over.height; ++i) {
      const float *in = x + n * over.image + i * over.row;
      for (int64_t j = 0; j < over.width; ++j, in += over.column, g += tile_rows) {
        const Vector left = load(in), right = load(in + lanes);
#pragma GCC unroll 6
        for (int64_t r = 0; r < rows; ++r) {
          sums[r][0] += left * g[r];
          sums[r][1] += right * g[r];
        }
      }
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) store(out + r * stride + v * lanes, sums[r][v]);
}

// The same of a product.
template <int64_t rows> void product_tile(const Product &of, int64_t first) {
  const float *a = of.a + first * of.a_row, *b = of.b;
  float *out = of.out + first * of.out_row;
  Vector sums[rows][vectors] = {};
  if (of.add)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t v = 0; v < vectors; ++v) sums[r][v] = load(out + r * of.out_row + v * lanes);
  for (int64_t k = 0; k < of.depth; ++k, a += of.a_step, b += of.b_step) {
    const Vector left = load(b), right = load(b + lanes);
#pragma GCC unroll 6
    for (int64_t r = 0; r < rows; ++r) {
      sums[r][0] += left * a[r * of.a_row];
      sums[r][1] += right * a[r * of.a_row];
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) store(out + r * of.out_row + v * lanes, sums[r][v]);
}

// Toom and Cook's polynomials are evaluated at 0, ±p, ±q and ∞: of the points with short fractions those that lose least in
// float32, half as much as the usual ±1 and ±2.
constexpr float p = 5.0f / 8, q = 3.0f / 2, pp = p * p, qq = q * q;
// 1 ÷ what a kernel's polynomial is divided by at 0, ±p and ±q.
constexpr float at_0 = 1 / (pp * qq), at_p = 1 / (2 * pp * (pp - qq)), at_q = 1 / (2 * qq * (qq - pp));

// One dimension of each transform; values are `from` apart, results `step`.

// At ±p and ±q, from the even and the odd part of a polynomial.
void at_both_signs(const Vector &even_p, const Vector &odd_p, const Vector &even_q, const Vector &odd_q, Vector *to,
                   int64_t step) {
  to[step] = even_p + odd_p;
  to[2 * step] = even_p - odd_p;
  to[3 * step] = even_q + odd_q;
  to[4 * step] = even_q - odd_q;
}

void line_from_patch(const Vector *d, int64_t from, Vector *to, int64_t step) {
  const Vector d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from];
  const Vector even_p = d4 - qq * d2, odd_p = p * (d3 - qq * d1), even_q = d4 - pp * d2, odd_q = q * (d3 - pp * d1);
  to[0] = pp * qq * d[0] - (pp + qq) * d2 + d4;
  at_both_signs(even_p, odd_p, even_q, odd_q, to, step);
  to[5 * step] = pp * qq * d1 - (pp + qq) * d3 + d[5 * from];
}

void line_to_tile(const Vector *m, int64_t from, Vector *to, int64_t step) {
  const Vector even_p = m[from] + m[2 * from], odd_p = m[from] - m[2 * from];
  const Vector even_q = m[3 * from] + m[4 * from], odd_q = m[3 * from] - m[4 * from];
  to[0] = m[0] + even_p + even_q;
  to[step] = p * odd_p + q * odd_q;
  to[2 * step] = pp * even_p + qq * even_q;
  to[3 * step] = pp * p * odd_p + qq * q * odd_q + m[5 * from];
}

void line_from_tile(const Vector *y, int64_t from, Vector *to, int64_t step) {
  const Vector y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
  const Vector even_p = y0 + pp * y2, odd_p = p * (y1 + pp * y3), even_q = y0 + qq * y2, odd_q = q * (y1 + qq * y3);
  to[0] = y0;
  at_both_signs(even_p, odd_p, even_q, odd_q, to, step);
  to[5 * step] = y3;
}

void line_from_taps(const Vector *g, int64_t from, Vector *to, int64_t step) {
  const Vector g0 = g[0], g1 = g[from], g2 = g[2 * from];
  const Vector even_p = at_p * (g0 + pp * g2), odd_p = at_p * p * g1, even_q = at_q * (g0 + qq * g2), odd_q = at_q * q * g1;
  to[0] = at_0 * g0;
  at_both_signs(even_p, odd_p, even_q, odd_q, to, step);
  to[5 * step] = g2;
}

void line_to_taps(const Vector *u, int64_t from, Vector *to, int64_t step) {
  const Vector even_p = at_p * (u[from] + u[2 * from]), odd_p = at_p * p * (u[from] - u[2 * from]);
  const Vector even_q = at_q * (u[3 * from] + u[4 * from]), odd_q = at_q * q * (u[3 * from] - u[4 * from]);
  to[0] = at_0 * u[0] + even_p + even_q;
  to[step] = odd_p + odd_q;
  to[2 * step] = pp * even_p + qq * even_q + u[5 * from];
}

using Line = void (*)(const Vector *from, int64_t from_step, Vector *to, int64_t to_step);

// Both dimensions: `size` × `size` values, loaded by `in(i, j)`, to `result` × `result`, which `out(i, j, value)` stores.
template <int64_t size, int64_t result, Line line, typename In, typename Out> void square(In &&in, Out &&out) {
  Vector columns[result * size];
#pragma GCC unroll 6
  for (int64_t j = 0; j < size; ++j) {
    Vector column[size];
#pragma GCC unroll 6
    for (int64_t i = 0; i < size; ++i) column[i] = in(i, j);
    line(column, 1, columns + j, size);
  }
#pragma GCC unroll 6
  for (int64_t i = 0; i < result; ++i) {
    Vector row[result];
    line(columns + i * size, 1, row, 1);
#pragma GCC unroll 6
    for (int64_t j = 0; j < result; ++j) out(i, j, row[j]);
  }
}

} // namespace

void weight_tiles(const float *x, const float *g, const Positions &over, int64_t panel, float *out, int64_t stride,
                  int64_t channels) {
  constexpr decltype(&weight_tile<1>) of_rows[] = {weight_tile<1>, weight_tile<2>, weight_tile<3>,
                                                   weight_tile<4>, weight_tile<5>, weight_tile<6>};
  for (int64_t at = 0; at < channels; at += tile_rows, g += panel) {
    const int64_t left = channels - at;
    of_rows[(left < tile_rows ? left : tile_rows) - 1](x, g, over, out + at * stride, stride);
  }
}

void multiply(const Product &of) {
  constexpr decltype(&product_tile<1>) of_rows[] = {product_tile<1>, product_tile<2>, product_tile<3>,
                                                    product_tile<4>, product_tile<5>, product_tile<6>};
  for (int64_t at = 0; at < of.rows; at += tile_rows) {
    const int64_t left = of.rows - at;
    of_rows[(left < tile_rows ? left : tile_rows) - 1](of, at);
  }
}

void from_patch(const float *const (&positions)[frequencies], int64_t channels, float *to, int64_t stride) {
  for (int64_t c = 0; c < channels; c += lanes)
    square<patch, patch, line_from_patch>(
        [&](int64_t i, int64_t j) { return load(positions[i * patch + j] + c); },
        [&](int64_t i, int64_t j, const Vector &value) { store(to + (i * patch + j) * stride + c, value); });
}

void to_tile(const float *from, int64_t stride, const float *bias, float *const (&positions)[tile * tile],
             int64_t channels) {
  for (int64_t c = 0; c < channels; c += lanes) {
    const Vector shift = load(bias + c);
    square<patch, tile, line_to_tile>(
        [&](int64_t i, int64_t j) { return load(from + (i * patch + j) * stride + c); },
        [&](int64_t i, int64_t j, const Vector &value) { store(positions[i * tile + j] + c, value + shift); });
  }
}

void from_tile(const float *const (&positions)[tile * tile], int64_t channels, float *to, int64_t stride) {
  for (int64_t c = 0; c < channels; c += lanes)
    square<tile, patch, line_from_tile>(
        [&](int64_t i, int64_t j) { return load(positions[i * tile + j] + c); },
        [&](int64_t i, int64_t j, const Vector &value) { store(to + (i * patch + j) * stride + c, value); });
}

void from_taps(const float *from, const Taps &at, float *to, int64_t stride) {
  float taps[9][tile_columns];
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 3; ++j)
      for (int64_t c = 0; c < tile_columns; ++c) taps[3 * i + j][c] = from[i * at.row + j * at.column + c * at.channel];
  for (int64_t c = 0; c < tile_columns; c += lanes)
    square<3, patch, line_from_taps>(
        [&](int64_t i, int64_t j) { return load(taps[3 * i + j] + c); },
        [&](int64_t i, int64_t j, const Vector &value) { store(to + (i * patch + j) * stride + c, value); });
}

void to_taps(const float *from, int64_t stride, float *to, const Taps &at, int64_t channels) {
  for (int64_t c = 0; c < channels; c += lanes)
    square<patch, 3, line_to_taps>(
        [&](int64_t i, int64_t j) { return load(from + (i * patch + j) * stride + c); },
        [&](int64_t i, int64_t j, const Vector &value) { store(to + i * at.row + j * at.column + c, value); });
}

} // namespace guard::avx2
