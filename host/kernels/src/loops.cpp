// See loops.h. Includes nothing whose inline functions the linker could merge with those of files for any CPU.

#include "loops.h"

namespace guard::GUARD_CPU {
namespace {

// NaN stays NaN, as in libtorch's.
template <typename T> T relu(T x) { return x < T(0) ? T(0) : x; }

// `body` with the number of channels as a constant where it is the usual one, so that its loops become vectors.
template <typename F> void by_channels(const Strip &strip, F &&body) {
  struct All {
    constexpr operator int64_t() const { return together; }
  };
  if (strip.channels == together)
    body(All{});
  else
    body(strip.channels);
}

// Sums per channel of `value(position, channel)`: rows in T, what they give in double precision.
template <typename T, typename N, typename F> void sums(const Strip &strip, N channels, double *total, F &&value) {
  for (int64_t c = 0; c < channels; ++c) total[c] = 0;
  constexpr int64_t piece = 128;
  const int64_t positions = strip.height * strip.width;
  for (int64_t at = 0; at < positions; at += piece) {
    const int64_t end = at + piece < positions ? at + piece : positions;
    T even[together] = {}, odd[together] = {};
    int64_t i = at;
    for (; i + 1 < end; i += 2) {
      for (int64_t c = 0; c < channels; ++c) even[c] += value(i * strip.step + c, c);
      for (int64_t c = 0; c < channels; ++c) odd[c] += value((i + 1) * strip.step + c, c);
    }
    if (i < end)
      for (int64_t c = 0; c < channels; ++c) even[c] += value(i * strip.step + c, c);
    for (int64_t c = 0; c < channels; ++c) total[c] += even[c] + odd[c];
  }
}

template <typename T> void moments(const T *x, const Strip &strip, double *mean, double *variance) {
  by_channels(strip, [&](auto channels) {
    const double count = static_cast<double>(strip.height * strip.width);
    T centre[together];
    sums<T>(strip, channels, mean, [=](int64_t at, int64_t) { return x[at]; });
    for (int64_t c = 0; c < channels; ++c) {
      mean[c] /= count;
      centre[c] = static_cast<T>(mean[c]);
    }
    sums<T>(strip, channels, variance, [&](int64_t at, int64_t c) { return (x[at] - centre[c]) * (x[at] - centre[c]); });
    for (int64_t c = 0; c < channels; ++c) variance[c] /= count;
  });
}

// Each window's four values through `value`, averaged.
template <typename T, typename F> void average(const T *x, T *y, const Strip &strip, F &&value) {
  by_channels(strip, [&](auto channels) {
    const int64_t rows = strip.height / 2, columns = strip.width / 2, row = strip.width * strip.step;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const T *top = x + 2 * i * row + 2 * j * strip.step, *bottom = top + row;
        T *out = y + (i * columns + j) * strip.step;
        T found[together];
        for (int64_t c = 0; c < channels; ++c)
          found[c] = T(0.25) * ((value(top[c], c) + value(top[strip.step + c], c)) +
                                (value(bottom[c], c) + value(bottom[strip.step + c], c)));
        for (int64_t c = 0; c < channels; ++c) out[c] = found[c];
      }
  });
}

template <typename T> void scale_relu_pool(const T *x, T *y, const Strip &strip, const T *a, const T *b) {
  average(x, y, strip, [=](T value, int64_t c) { return relu(a[c] * value + b[c]); });
}

template <typename T> void pool(const T *x, T *y, const Strip &strip) {
  average(x, y, strip, [](T value, int64_t) { return value; });
}

// Zeros where an odd height or width leaves positions that no window has; the loops over windows write all others.
template <typename T> void clear_rest(T *x, const Strip &strip) {
  by_channels(strip, [&](auto channels) {
    for (int64_t i = 0; i < strip.height; ++i)
      for (int64_t j = i < strip.height / 2 * 2 ? strip.width / 2 * 2 : 0; j < strip.width; ++j)
        for (int64_t c = 0; c < channels; ++c) x[(i * strip.width + j) * strip.step + c] = T(0);
  });
}

template <typename T>
void unpool_mask(const T *x, const T *g, T *gz, const Strip &strip, const T *a, const T *b, const T *mean, double *sum,
                 double *against) {
  by_channels(strip, [&](auto channels) {
    const int64_t rows = strip.height / 2, columns = strip.width / 2, row = strip.width * strip.step;
    for (int64_t c = 0; c < channels; ++c) sum[c] = against[c] = 0;
    for (int64_t i = 0; i < rows; ++i) {
      T s[together] = {}, t[together] = {};
      for (int64_t j = 0; j < columns; ++j) {
        const T *up = g + (i * columns + j) * strip.step;
        for (int64_t corner = 0; corner < 4; ++corner) {
          const int64_t at = (2 * i + corner / 2) * row + (2 * j + corner % 2) * strip.step;
          T behind[together];
          for (int64_t c = 0; c < channels; ++c) {
            const T value = x[at + c];
            behind[c] = a[c] * value + b[c] <= T(0) ? T(0) : T(0.25) * up[c];
            s[c] += behind[c];
            t[c] += behind[c] * (value - mean[c]);
          }
          for (int64_t c = 0; c < channels; ++c) gz[at + c] = behind[c];
        }
      }
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += s[c];
        against[c] += t[c];
      }
    }
    clear_rest(gz, strip);
  });
}

template <typename T> void combine(const T *x, T *gz, const Strip &strip, const T *a, const T *p, const T *q) {
  by_channels(strip, [&](auto channels) {
    for (int64_t i = 0; i < strip.height * strip.width; ++i) {
      const T *in = x + i * strip.step;
      T *out = gz + i * strip.step;
      T found[together];
      for (int64_t c = 0; c < channels; ++c) found[c] = a[c] * out[c] + (p[c] * in[c] + q[c]);
      for (int64_t c = 0; c < channels; ++c) out[c] = found[c];
    }
  });
}

// Calls `body` with every position, and with its window, or less than 0 where it is in none.
template <typename F> void each_position(const Strip &strip, F &&body) {
  const int64_t rows = strip.height / 2 * 2, columns = strip.width / 2;
  for (int64_t i = 0; i < strip.height; ++i)
    for (int64_t j = 0; j < strip.width; ++j)
      body(i * strip.width + j, i < rows && j < 2 * columns ? i / 2 * columns + j / 2 : -1);
}

template <typename T>
void tangent_sums(const T *x, const T *g, const T *v, const Strip &strip, const T *a, const T *b, const T *mean, double *sum,
                  double *against, double *along) {
  by_channels(strip, [&](auto channels) {
    for (int64_t c = 0; c < channels; ++c) sum[c] = against[c] = along[c] = 0;
    T s[together] = {}, t[together] = {}, u[together] = {};
    int64_t count = 0;
    const auto flush = [&] {
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += s[c];
        against[c] += t[c];
        along[c] += u[c];
        s[c] = t[c] = u[c] = T(0);
      }
    };
    each_position(strip, [&](int64_t position, int64_t window) {
      const T *in = x + position * strip.step, *tangent = v + position * strip.step;
      for (int64_t c = 0; c < channels; ++c) {
        s[c] += tangent[c];
        t[c] += tangent[c] * (in[c] - mean[c]);
      }
      if (window >= 0) {
        const T *up = g + window * strip.step;
        for (int64_t c = 0; c < channels; ++c)
          u[c] += a[c] * in[c] + b[c] <= T(0) ? T(0) : T(0.25) * up[c] * tangent[c];
      }
      if (++count % 64 == 0) flush();
    });
    flush();
  });
}

template <typename T>
void second(const T *x, const T *g, const T *v, T *gx, T *gg, const Strip &strip, const Second<T> &of) {
  by_channels(strip, [&](auto channels) {
    for (int64_t i = 0; i < strip.height / 2 * (strip.width / 2); ++i)
      for (int64_t c = 0; c < channels; ++c) gg[i * strip.step + c] = T(0);
    each_position(strip, [&](int64_t position, int64_t window) {
      const int64_t at = position * strip.step;
      const T *in = x + at, *tangent = v + at;
      T found[together];
      for (int64_t c = 0; c < channels; ++c) found[c] = of.of_v[c] * tangent[c] + (of.of_x[c] * in[c] + of.rest[c]);
      if (window >= 0) {
        const T *up = g + window * strip.step;
        T *out = gg + window * strip.step;
        T pooled[together];
        for (int64_t c = 0; c < channels; ++c) {
          const bool off = of.a[c] * in[c] + of.b[c] <= T(0);
          found[c] += off ? T(0) : of.of_gz[c] * (T(0.25) * up[c]);
          pooled[c] = out[c] + (off ? T(0) : T(0.25) * (of.to_v[c] * tangent[c] + (of.to_x[c] * in[c] + of.to_rest[c])));
        }
        for (int64_t c = 0; c < channels; ++c) out[c] = pooled[c];
      }
      for (int64_t c = 0; c < channels; ++c) gx[at + c] = found[c];
    });
  });
}

template <typename T> void unpool(const T *g, T *x, const Strip &strip) {
  by_channels(strip, [&](auto channels) {
    const int64_t rows = strip.height / 2 * 2, columns = strip.width / 2;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < 2 * columns; ++j) {
        const T *up = g + (i / 2 * columns + j / 2) * strip.step;
        T *out = x + (i * strip.width + j) * strip.step;
        T found[together];
        for (int64_t c = 0; c < channels; ++c) found[c] = T(0.25) * up[c];
        for (int64_t c = 0; c < channels; ++c) out[c] = found[c];
      }
    clear_rest(x, strip);
  });
}

template <typename T>
constexpr StripLoops<T> strip_loops = {moments<T>,      scale_relu_pool<T>, unpool_mask<T>, combine<T>,
                                       tangent_sums<T>, second<T>,          pool<T>,        unpool<T>};

} // namespace

extern const StripLoops<float> single_precision;
extern const StripLoops<double> double_precision;
const StripLoops<float> single_precision = strip_loops<float>;
const StripLoops<double> double_precision = strip_loops<double>;

} // namespace guard::GUARD_CPU
