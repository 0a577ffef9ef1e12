// What tch does not offer, over libtorch's C++ interface. Every function is noexcept: an exception becomes a message
// that the caller frees with guard_shim_free, and null means success.

#include <cstdlib>
#include <dlfcn.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/Version.h>
#include <c10/core/UndefinedTensorImpl.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>

namespace {

char *copy_message(const char *text) noexcept {
  const size_t length = std::strlen(text) + 1;
  char *copy = static_cast<char *>(std::malloc(length));
  if (copy != nullptr) std::memcpy(copy, text, length);
  return copy;
}

template <typename F> char *guarded(F &&body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    return copy_message(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return copy_message(error.what());
  } catch (...) {
    return copy_message("unknown C++ exception");
  }
}

} // namespace

extern "C" {

void guard_shim_free(char *message) noexcept { std::free(message); }

void guard_shim_release(void *tensor) noexcept { delete static_cast<at::Tensor *>(tensor); }

// The address of an object that exists once per libtorch.
uintptr_t guard_shim_symbol() noexcept {
  return reinterpret_cast<uintptr_t>(c10::UndefinedTensorImpl::singleton());
}

// Gradients of sum(outputs * grad_outputs) to inputs. `grad_outputs` may be null (ones). An unused input gives null in
// `gradients` if allowed, else an error.
char *guard_shim_grad(at::Tensor **outputs, size_t n_outputs, at::Tensor **inputs, size_t n_inputs,
                      at::Tensor **grad_outputs, bool keep_graph, bool create_graph, bool allow_unused,
                      at::Tensor **gradients) noexcept {
  return guarded([&] {
    torch::autograd::variable_list out, in, weights;
    for (size_t i = 0; i < n_outputs; ++i) out.push_back(*outputs[i]);
    for (size_t i = 0; i < n_inputs; ++i) in.push_back(*inputs[i]);
    if (grad_outputs != nullptr)
      for (size_t i = 0; i < n_outputs; ++i) weights.push_back(*grad_outputs[i]);
    auto result = torch::autograd::grad(out, in, weights, keep_graph, create_graph, allow_unused);
    for (size_t i = 0; i < n_inputs; ++i)
      gradients[i] = result[i].defined() ? new at::Tensor(result[i]) : nullptr;
  });
}

// How often the tensor's storage was written in place.
char *guard_shim_version(at::Tensor *tensor, int64_t *version) noexcept {
  return guarded([&] { *version = static_cast<int64_t>(tensor->_version()); });
}

// A copy on a GPU of a tensor of the CPU, by way of pinned memory.
char *guard_shim_send(const at::Tensor *tensor, int32_t gpu, at::Tensor **sent) noexcept {
  return guarded([&] {
    const auto device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
    const auto whole = tensor->is_non_overlapping_and_dense() ? *tensor : tensor->contiguous();
    *sent = new at::Tensor(whole.pin_memory().to(whole.options().device(device), /*non_blocking=*/true));
  });
}

// State of libtorch that belongs to the thread: grad mode, autocast, dispatch keys, ...
char *guard_shim_thread_state_save(void **state) noexcept {
  return guarded([&] { *state = new at::ThreadLocalState(); });
}

void guard_shim_thread_state_restore(void *state) noexcept {
  auto *saved = static_cast<at::ThreadLocalState *>(state);
  at::ThreadLocalState::setThreadLocalState(*saved);
  delete saved;
}

// libtorch's own generator of a device, the CPU where `gpu` is negative.
static at::Generator generator_of(int32_t gpu) {
  const auto device = gpu < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
  return at::globalContext().defaultGenerator(device);
}

// The generator's state as a byte tensor.
char *guard_shim_random_save(int32_t gpu, at::Tensor **state) noexcept {
  return guarded([&] {
    auto generator = generator_of(gpu);
    std::lock_guard<std::mutex> lock(generator.mutex());
    *state = new at::Tensor(generator.get_state());
  });
}

char *guard_shim_random_restore(int32_t gpu, at::Tensor *state) noexcept {
  return guarded([&] {
    auto generator = generator_of(gpu);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(*state);
  });
}

char *guard_shim_random_seed(int32_t gpu, uint64_t seed) noexcept {
  return guarded([&] {
    auto generator = generator_of(gpu);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}

// The GPU of this thread and the stream on it; -1 and 0 where CUDA is not open.
void guard_shim_gpu(int32_t *gpu, int64_t *stream) noexcept {
  *gpu = -1;
  *stream = 0;
  try {
    if (!c10::impl::hasDeviceGuardImpl(at::kCUDA)) return;
    const c10::impl::VirtualGuardImpl guard(at::kCUDA);
    const auto device = guard.getDevice();
    *gpu = device.index();
    *stream = guard.getStream(device).id();
  } catch (...) {
  }
}

void guard_shim_set_gpu(int32_t gpu, int64_t stream) noexcept {
  try {
    if (gpu < 0) return;
    const c10::impl::VirtualGuardImpl guard(at::kCUDA);
    const auto device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
    guard.setDevice(device);
    guard.exchangeStream(c10::Stream(c10::Stream::UNSAFE, device, stream));
  } catch (...) {
  }
}

// State of libtorch that belongs to the process.
int32_t guard_shim_default_dtype() noexcept {
  return static_cast<int32_t>(c10::get_default_dtype_as_scalartype());
}
int32_t guard_shim_threads() noexcept { return at::get_num_threads(); }
bool guard_shim_deterministic() noexcept { return at::globalContext().deterministicAlgorithms(); }
void guard_shim_set_process_state(int32_t dtype, int32_t threads, bool deterministic) noexcept {
  try {
    c10::set_default_dtype(c10::scalarTypeToTypeMeta(static_cast<c10::ScalarType>(dtype)));
    if (at::get_num_threads() != threads) at::set_num_threads(threads);
    at::globalContext().setDeterministicAlgorithms(deterministic, false);
  } catch (...) {
  }
}

// The instruction set that libtorch's kernels were chosen for, e.g. AVX512.
char *guard_shim_cpu_capability() noexcept {
  try {
    return copy_message(at::get_cpu_capability().c_str());
  } catch (...) {
    return nullptr;
  }
}

// Memory that is freed and taken again every step costs more in page faults than in arithmetic. libtorch asks the kernel
// for huge pages from 2 MiB on (it looks at the variable when it first allocates; the user's setting wins); what is
// smaller than 16 MiB, malloc keeps instead of returning it at once. Larger blocks it cannot keep without leaving holes
// between them: a step of ResNet-18 held a third more with 32 MiB.
void guard_shim_prepare_memory() noexcept {
  setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 16 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

// Loads a library for good; what its initialisers throw is the message.
char *guard_shim_load(const char *path) noexcept {
  return guarded([&] {
    // The header calls dlopen noexcept, and the compiler would believe it.
    void *(*volatile open)(const char *, int) = &dlopen;
    if (open(path, RTLD_NOW | RTLD_LOCAL) == nullptr) throw std::runtime_error(dlerror());
  });
}

// _GLIBCXX_USE_CXX11_ABI, as this file was compiled.
bool guard_shim_cxx11_abi() noexcept { return _GLIBCXX_USE_CXX11_ABI; }

// Equal shape, dtype and bytes: a NaN equals itself.
char *guard_shim_equal(at::Tensor *left, at::Tensor *right, bool *equal) noexcept {
  return guarded([&] {
    const auto bytes = [](const at::Tensor &tensor) { return tensor.detach().contiguous().reshape(-1).view(at::kByte); };
    *equal = left->sizes() == right->sizes() && left->scalar_type() == right->scalar_type() &&
             at::equal(bytes(*left), bytes(*right));
  });
}
}
