// What libtorch is told of devices, over its C++ interface and without CUDA's headers. Every function is noexcept: an
// exception becomes a message that the caller frees with guard_device_free, and null means success.

#include "guarded.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

using guard::guarded;

extern "C" {

void guard_device_free(char *message) noexcept { std::free(message); }

// The file of libtorch that this process runs on, to be freed; null if the loader does not tell.
char *guard_device_libtorch() noexcept {
  Dl_info info{};
  const auto function = &at::get_num_threads;
  if (dladdr(reinterpret_cast<const void *>(function), &info) == 0 || info.dli_fname == nullptr) return nullptr;
  return strdup(info.dli_fname);
}

// Makes a GPU the present one of this thread.
char *guard_device_present(int32_t index) noexcept {
  return guarded([&] {
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)));
  });
}

// Opens a library so that libtorch finds its symbols; it is never closed.
char *guard_device_open(const char *path) noexcept {
  return guarded([&] {
    // The header calls dlopen noexcept, and the compiler would believe it.
    void *(*volatile open)(const char *, int) = &dlopen;
    if (open(path, RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
  });
}

// A function of a library that is open.
void *guard_device_symbol(const char *path, const char *name) noexcept {
  void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, name);
}

// cuBLAS reads the variable when it starts; the user's setting wins.
void guard_device_prepare_determinism() noexcept { setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0); }

char *guard_device_set_arithmetic(bool tf32, bool deterministic) noexcept {
  return guarded([&] {
    auto &context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setBenchmarkCuDNN(!deterministic);
    context.setDeterministicCuDNN(deterministic);
    context.setDeterministicAlgorithms(deterministic, false);
    // Memory that is written before it is read need not be filled.
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// Autocast of this thread to bfloat16 on a kind of device; `before` and `dtype_before` are what was.
char *guard_device_autocast(bool cuda, bool enabled, int8_t dtype, bool *before, int8_t *dtype_before) noexcept {
  return guarded([&] {
    const auto device = cuda ? at::kCUDA : at::kCPU;
    *before = at::autocast::is_autocast_enabled(device);
    *dtype_before = static_cast<int8_t>(at::autocast::get_autocast_dtype(device));
    at::autocast::set_autocast_enabled(device, enabled);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(dtype));
    // Copies of weights are kept as long as passes are nested; ours are not, and weights change between them.
    at::autocast::clear_cache();
  });
}

// Scalars on their way to the CPU: copied when all that was asked of the device before is done. Nothing waits here.
struct GuardFetch {
  at::Tensor values;
  std::optional<c10::Event> copied;
};

char *guard_device_fetch(at::Tensor *const *scalars, size_t count, GuardFetch **fetch) noexcept {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto device = at::Device(at::kCPU);
    for (size_t i = 0; i < count; ++i)
      if (scalars[i]->is_cuda()) device = scalars[i]->device();
    std::vector<at::Tensor> each;
    for (size_t i = 0; i < count; ++i) each.push_back(scalars[i]->detach().to(device, at::kDouble).reshape({1}));
    const auto together = at::cat(each);
    auto found = std::make_unique<GuardFetch>();
    if (device.is_cpu()) {
      found->values = together;
    } else {
      found->values = at::empty(together.sizes(), at::TensorOptions(at::kDouble).pinned_memory(true));
      found->values.copy_(together, /*non_blocking=*/true);
      found->copied.emplace(device.type());
      found->copied->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    }
    *fetch = found.release();
  });
}

bool guard_device_fetch_waits(const GuardFetch *fetch) noexcept { return fetch->copied.has_value(); }

char *guard_device_fetched(GuardFetch *fetch, double *values) noexcept {
  return guarded([&] {
    if (fetch->copied.has_value()) fetch->copied->synchronize();
    std::memcpy(values, fetch->values.const_data_ptr<double>(), fetch->values.nbytes());
  });
}

void guard_device_fetch_free(GuardFetch *fetch) noexcept { delete fetch; }

// The most bytes that tensors have held on a GPU since the process began.
char *guard_device_peak_memory(int32_t index, int64_t *bytes) noexcept {
  return guarded([&] {
    auto *allocator = dynamic_cast<c10::DeviceAllocator *>(c10::GetAllocator(at::kCUDA));
    TORCH_CHECK(allocator != nullptr, "the memory of GPUs is not accounted for");
    const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    *bytes = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  });
}
}
