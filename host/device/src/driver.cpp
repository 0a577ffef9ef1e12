// What NVIDIA's driver says of itself. It is opened at run time: machines without one have no libcuda.so.1.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>

namespace {

template <typename F> F find(void *library, const char *name) {
  return reinterpret_cast<F>(dlsym(library, name));
}

} // namespace

extern "C" {

// What is known of the driver; a text is empty where there is nothing to say.
struct GuardDriver {
  // dlopen's message, if there is no driver.
  char missing[512];
  // The driver's own message, if it refuses to start.
  char refused[256];
  // The CUDA version that it was made for, 1000 · major + 10 · minor.
  int32_t version;
  int32_t gpus;
};

void guard_device_driver(GuardDriver *found) noexcept {
  *found = GuardDriver{};
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *message = dlerror();
    std::snprintf(found->missing, sizeof(found->missing), "%s", message == nullptr ? "unknown" : message);
    return;
  }
  const auto start = find<int (*)(unsigned)>(library, "cuInit");
  const auto version = find<int (*)(int *)>(library, "cuDriverGetVersion");
  const auto count = find<int (*)(int *)>(library, "cuDeviceGetCount");
  const auto describe = find<int (*)(int, const char **)>(library, "cuGetErrorString");
  if (start == nullptr || version == nullptr || count == nullptr) {
    std::snprintf(found->missing, sizeof(found->missing), "libcuda.so.1 is no driver of CUDA");
    return;
  }
  version(&found->version);
  int code = start(0);
  if (code == 0) code = count(&found->gpus);
  if (code != 0) {
    const char *text = nullptr;
    if (describe != nullptr) describe(code, &text);
    std::snprintf(found->refused, sizeof(found->refused), "%s (error %d)", text == nullptr ? "unknown" : text, code);
  }
}

// The name of a GPU that the driver has counted.
bool guard_device_name(int32_t index, char *name, int32_t length) noexcept {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;
  const auto device = find<int (*)(int *, int)>(library, "cuDeviceGet");
  const auto describe = find<int (*)(char *, int, int)>(library, "cuDeviceGetName");
  int handle = 0;
  return device != nullptr && describe != nullptr && device(&handle, index) == 0 &&
         describe(name, length, handle) == 0;
}
}
