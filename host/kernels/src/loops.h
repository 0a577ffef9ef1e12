// Inner loops over plain memory, compiled once for any CPU and once for those with AVX2 (see build.rs). `pooling.cpp` chooses.
#pragma once

#include <cstdint>

namespace guard {

// The channels that loops go over together: a cache line of float.
constexpr int64_t together = 16;

// `channels` ≤ `together` channels of an image [height,width,C], of which `step` is C: what follows takes such strips, and
// a value per channel where it takes an array.
struct Strip {
  int64_t height, width, step, channels;
};

// Values per channel: where a·x + b ≤ 0 the gradient gz behind the ReLU is 0, elsewhere ¼ g. gx = of_gz·gz + of_v·v + of_x·x +
// rest; gg = ¼ Σ (to_v·v + to_x·x + to_rest) over the positions of a window where a·x + b > 0.
template <typename T> struct Second {
  T a[together], b[together], of_gz[together], of_v[together], of_x[together], rest[together];
  T to_v[together], to_x[together], to_rest[together];
};

// Over strips of float or double.
template <typename T> struct StripLoops {
  // Mean and biased variance.
  void (*moments)(const T *x, const Strip &, double *mean, double *variance);
  // ¼ Σ max(0, a·x + b) over each window of 2×2.
  void (*scale_relu_pool)(const T *x, T *y, const Strip &, const T *a, const T *b);
  // The gradient behind that ReLU, ¼ g but where a·x + b ≤ 0, into `gz`; its sum, and its sum against x − mean.
  void (*unpool_mask)(const T *x, const T *g, T *gz, const Strip &, const T *a, const T *b, const T *mean, double *sum,
                      double *against);
  // gz ← a·gz + p·x + q.
  void (*combine)(const T *x, T *gz, const Strip &, const T *a, const T *p, const T *q);
  // Sums of v, of v against x − mean, and of v against that gradient.
  void (*tangent_sums)(const T *x, const T *g, const T *v, const Strip &, const T *a, const T *b, const T *mean, double *sum,
                       double *against, double *along);
  // What Gradient::backward in pooling.cpp describes.
  void (*second)(const T *x, const T *g, const T *v, T *gx, T *gg, const Strip &, const Second<T> &);
  // Averages over windows of 2×2.
  void (*pool)(const T *x, T *y, const Strip &);
  // Its adjoint.
  void (*unpool)(const T *g, T *x, const Strip &);
};

namespace any_cpu {
extern const StripLoops<float> single_precision;
extern const StripLoops<double> double_precision;
} // namespace any_cpu

namespace avx2 {
extern const StripLoops<float> single_precision;
extern const StripLoops<double> double_precision;
} // namespace avx2

} // namespace guard
