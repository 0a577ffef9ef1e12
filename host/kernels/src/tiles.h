// Inner loops of convolutions over float, in AVX2's registers; compiled for CPUs that have it (see build.rs).
#pragma once

#include <cstdint>

namespace guard::avx2 {

// The sums that stay in registers: those of so many rows and columns of a matrix. In a weight's gradient rows are output
// channels, columns input channels.
constexpr int64_t tile_rows = 6, tile_columns = 16;

// What the tiles of one tap of a convolution's weight are summed over.
struct Positions {
  int64_t images, height, width;
  // Distances in the padded input's panel: from image to image, row to row, column to column.
  int64_t image, row, column;
};

// out[r·stride + c] += Σ g[position][r] · x[position][c] for `channels` rows: panels of `tile_rows` channels of g, each
// `panel` long, against one panel of `tile_columns` channels of x.
void weight_tiles(const float *x, const float *g, const Positions &, int64_t panel, float *out, int64_t stride,
                  int64_t channels);

// `rows` × `tile_columns` of a product of matrices: out[r·out_row + c] = Σ a[r·a_row + k·a_step] · b[k·b_step + c] over
// `depth` k, or that added to what `out` holds.
struct Product {
  int64_t rows, depth;
  const float *a;
  int64_t a_row, a_step;
  const float *b;
  int64_t b_step;
  float *out;
  int64_t out_row;
  bool add;
};
void multiply(const Product &);

// Winograd's transforms of tiles of 4×4 outputs, which take patches of 6×6 inputs and give 6×6 frequencies (winograd.cpp).
// Positions are given by pointers, row by row, to channels side by side, of which there are a multiple of 8; frequencies
// are `stride` apart.
constexpr int64_t tile = 4, patch = 6, frequencies = patch * patch;

// A patch of the input to its frequencies.
void from_patch(const float *const (&positions)[frequencies], int64_t channels, float *to, int64_t stride);
// Frequencies to a tile of the output, plus the bias.
void to_tile(const float *from, int64_t stride, const float *bias, float *const (&positions)[tile * tile],
             int64_t channels);
// The adjoint without bias: a tile of the output's gradient to its frequencies.
void from_tile(const float *const (&positions)[tile * tile], int64_t channels, float *to, int64_t stride);

// The nine taps of a weight, by distances in memory.
struct Taps {
  int64_t row, column, channel;
};
// Taps of `tile_columns` channels to their frequencies.
void from_taps(const float *from, const Taps &, float *to, int64_t stride);
// The adjoint: frequencies to taps, of channels that lie side by side.
void to_taps(const float *from, int64_t stride, float *to, const Taps &, int64_t channels);

} // namespace guard::avx2
