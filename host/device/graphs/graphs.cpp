// CUDA graphs, as a library of its own that is opened where CUDA is: it links libtorch's CUDA part, which the host does not.
// `cargo xtask graphs` compiles it; `src/graphs.rs` has its other side. Every function is noexcept: an exception becomes a
// message that the caller frees with free(), and null means success.

#include "../src/guarded.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>

using guard::guarded;

extern "C" {

// Changes with the functions below.
int32_t guard_graphs_version() noexcept { return 1; }

// A stream of the present GPU on which nothing but what is recorded runs, and the memory that the graphs recorded on it share.
struct GuardRecorder {
  c10::cuda::CUDAStreamGuard guard;
  at::cuda::MempoolId_t pool;
  explicit GuardRecorder(c10::cuda::CUDAStream stream) : guard(stream), pool(at::cuda::graph_pool_handle()) {}
};

// This thread's work goes to a stream of its own from here on, when all that was asked for before is done.
char *guard_graphs_enter(GuardRecorder **recorder) noexcept {
  return guarded([&] {
    c10::cuda::device_synchronize();
    *recorder = new GuardRecorder(c10::cuda::getStreamFromPool());
  });
}

// Back to the stream before.
char *guard_graphs_leave(GuardRecorder *recorder) noexcept {
  const std::unique_ptr<GuardRecorder> owned(recorder);
  return guarded([&] { c10::cuda::device_synchronize(); });
}

// What is asked for from here on is recorded and not done. A graph whose recording fails is never freed: libtorch's allocator
// may go on asking it.
char *guard_graphs_begin(GuardRecorder *recorder, void **graph) noexcept {
  return guarded([&] {
    c10::cuda::device_synchronize();
    auto *begun = new at::cuda::CUDAGraph();
    begun->capture_begin(recorder->pool);
    *graph = begun;
  });
}

char *guard_graphs_end(void *graph) noexcept {
  return guarded([&] { static_cast<at::cuda::CUDAGraph *>(graph)->capture_end(); });
}

// Does again what was recorded, on the present stream.
char *guard_graphs_replay(void *graph) noexcept {
  return guarded([&] { static_cast<at::cuda::CUDAGraph *>(graph)->replay(); });
}

void guard_graphs_free(void *graph) noexcept { delete static_cast<at::cuda::CUDAGraph *>(graph); }
}
