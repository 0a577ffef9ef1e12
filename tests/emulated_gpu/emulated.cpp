// A GPU that is not there, as libtorch's CUDA part: tensors on `cuda:0` whose operations the CPU computes. It tells what only
// a GPU would: an operation on tensors of two devices is an error; device memory lies at addresses that no CPU may read, so
// that code which does ends with a segmentation fault; a copy to the CPU that a GPU would still be busy with is done only when
// somebody waits for it, so that what is read too early is not there. Waits are counted: see EMULATED_GPU_WAITS below.
//
// Not emulated: the CUDA API, streams other than the first, cuDNN, CUDA graphs; pinned memory that is written to while it is still
// being copied to the GPU; waits of operations beyond those named in `compute`.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <execinfo.h>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>

namespace {

const c10::Device gpu(c10::kCUDA, 0);

// ---- memory: addresses that cannot be read, and the memory behind each

constexpr size_t room = size_t(1) << 40;

struct Memory : c10::DeviceAllocator {
  struct Block {
    size_t size;
    char *behind;
  };

  char *addresses;
  std::mutex mutex;
  size_t used = 0;
  std::map<size_t, std::vector<char *>> free;
  std::map<const char *, Block> blocks;
  int64_t held = 0, peak = 0;

  Memory() {
    void *start = mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(start != MAP_FAILED, "no room for the addresses of an emulated GPU");
    addresses = static_cast<char *>(start);
  }

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, gpu};
    // As large as a GPU's: whoever counts on more room behind a tensor finds none.
    const size_t size = (bytes + 511) / 512 * 512;
    char *behind = static_cast<char *>(std::aligned_alloc(512, size));
    TORCH_CHECK(behind != nullptr, "CUDA out of memory");
    // What was not written must not be taken for zeros: it is NaN.
    std::memset(behind, 0xff, size);
    const std::lock_guard<std::mutex> lock(mutex);
    char *start = addresses + used;
    if (auto &kept = free[size]; !kept.empty()) {
      start = kept.back();
      kept.pop_back();
    } else {
      used += size;
      TORCH_CHECK(used <= room, "CUDA out of memory");
    }
    blocks[start] = {size, behind};
    held += int64_t(size);
    peak = std::max(peak, held);
    return {start, start, &release, gpu};
  }

  static void release(void *start);
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(at(to), at(from), bytes); }

  // The memory behind an address; what is not on the GPU stays as it is.
  void *at(const void *address) const {
    const auto *wanted = static_cast<const char *>(address);
    if (wanted < addresses || wanted >= addresses + room) return const_cast<void *>(address);
    const std::lock_guard<std::mutex> lock(const_cast<std::mutex &>(mutex));
    const auto after = blocks.upper_bound(wanted);
    TORCH_CHECK(after != blocks.begin(), "CUDA error: an illegal memory access was encountered");
    const auto &[start, block] = *std::prev(after);
    TORCH_CHECK(wanted < start + block.size, "CUDA error: an illegal memory access was encountered");
    return block.behind + (wanted - start);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr &, c10::Stream) override {}
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { peak = held; }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    auto &all = stats.allocated_bytes[size_t(c10::CachingAllocator::StatType::AGGREGATE)];
    all.current = held, all.peak = peak;
    return stats;
  }
};

// Outlives whatever a thread still holds at the end.
Memory &memory() {
  static auto *one = new Memory;
  return *one;
}

void Memory::release(void *start) {
  auto &all = memory();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.blocks.find(static_cast<char *>(start));
  const auto [size, behind] = found->second;
  all.blocks.erase(found);
  all.free[size].push_back(static_cast<char *>(start));
  all.held -= int64_t(size);
  std::free(behind);
}

struct Pinned : c10::Allocator {
  std::mutex mutex;
  std::map<const char *, size_t> ranges;

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::kCPU};
    char *start = static_cast<char *>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    const std::lock_guard<std::mutex> lock(mutex);
    ranges[start] = bytes;
    return {start, start, &release, c10::kCPU};
  }

  static void release(void *start);
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  bool holds(const void *address) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto after = ranges.upper_bound(static_cast<const char *>(address));
    if (after == ranges.begin()) return false;
    --after;
    return static_cast<const char *>(address) < after->first + after->second;
  }
};

Pinned &pinned() {
  static auto *one = new Pinned;
  return *one;
}

void Pinned::release(void *start) {
  auto &all = pinned();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.ranges.erase(static_cast<const char *>(start));
  std::free(start);
}

// ---- what a GPU has not done yet, and who waits for it

struct Late {
  at::Tensor to, value;
};

std::mutex late_mutex;
std::deque<Late> late;

void catch_up() {
  const std::lock_guard<std::mutex> lock(late_mutex);
  for (auto &[to, value] : late) to.copy_(value);
  late.clear();
}

// With EMULATED_GPU_WAITS=FILE: what made the CPU wait, one a line, in the order in which it did; with EMULATED_GPU_STACKS, too,
// indented, from where.
void waits_for(const char *what) {
  static FILE *file = [] {
    const char *path = std::getenv("EMULATED_GPU_WAITS");
    return path == nullptr ? nullptr : std::fopen(path, "a");
  }();
  if (file != nullptr) {
    std::fprintf(file, "%s\n", what);
    if (std::getenv("EMULATED_GPU_STACKS") != nullptr) {
      void *frames[64];
      const int depth = backtrace(frames, 64);
      char **names = backtrace_symbols(frames, depth);
      for (int i = 1; i < depth && names != nullptr; ++i) std::fprintf(file, "  %s\n", names[i]);
      std::free(names);
    }
    std::fflush(file);
  }
  catch_up();
}

// ---- operations: the CPU's, on the memory behind

at::Tensor behind(const at::Tensor &tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  return at::from_blob(memory().at(tensor.data_ptr()), tensor.sizes(), tensor.strides(),
                       tensor.options().device(c10::kCPU).requires_grad(false));
}

// The GPU's own random numbers: the same seed gives others than on the CPU.
struct Numbers : at::CPUGeneratorImpl {
  void set_current_seed(uint64_t seed) override { at::CPUGeneratorImpl::set_current_seed(~seed); }
};

const at::Generator &generator() {
  static const auto *one = new at::Generator(at::make_generator<Numbers>());
  return *one;
}

// One call: what is lent to the CPU's kernel, and what becomes of its results.
struct Operation {
  std::string name;
  std::vector<std::pair<at::Tensor, at::Tensor>> lent{};

  at::Tensor lend(const at::Tensor &tensor, bool written) {
    if (!tensor.defined()) return tensor;
    if (!tensor.is_cuda()) {
      const bool number = tensor.dim() == 0 && !written;
      const bool index = name == "aten::index" || name == "aten::_index_put_impl_";
      TORCH_CHECK(number || index, "Expected all tensors to be on the same device, but ", name,
                  " got one on the CPU, of sizes ", tensor.sizes(), ", beside those on cuda:0");
      if (!number) waits_for("an index on the CPU");
      return tensor;
    }
    // The operation gives an empty output its size.
    auto on_cpu = written && tensor.numel() == 0 ? at::empty({0}, tensor.options().device(c10::kCPU)) : behind(tensor);
    lent.emplace_back(tensor, on_cpu);
    return on_cpu;
  }

  at::Tensor take(const at::Tensor &result) const {
    if (!result.defined()) return result;
    for (const auto &[own, on_cpu] : lent) {
      if (!result.is_same(on_cpu)) continue;
      if (own.sizes() != on_cpu.sizes()) {
        own.resize_(on_cpu.sizes());
        behind(own).copy_(on_cpu);
      }
      return own;
    }
    for (const auto &[own, on_cpu] : lent) {
      if (result.numel() == 0 || !result.is_alias_of(on_cpu)) continue;
      const auto *start = static_cast<const char *>(memory().at(own.storage().mutable_data()));
      const auto offset = static_cast<const char *>(result.data_ptr()) - start;
      return own.as_strided(result.sizes(), result.strides(), offset / int64_t(result.itemsize()));
    }
    const auto options = result.options().device(gpu);
    const auto made = result.is_non_overlapping_and_dense()
                          ? at::empty_strided(result.sizes(), result.strides(), options)
                          : at::empty(result.sizes(), options);
    behind(made).copy_(result);
    return made;
  }
};

void compute(const c10::OperatorHandle &handle, torch::jit::Stack *stack) {
  // Their results have as many elements as the values say, or are values.
  static const std::set<std::string> waiting = {
      "aten::nonzero",     "aten::masked_select", "aten::_unique2",           "aten::_unique",
      "aten::bincount",    "aten::equal",         "aten::unique_dim",         "aten::unique_consecutive",
      "aten::histc",       "aten::linalg_eigh",   "aten::repeat_interleave"};
  const auto &schema = handle.schema();
  Operation operation{schema.name()};
  if (waiting.count(operation.name) > 0) waits_for(operation.name.c_str());
  const auto arguments = schema.arguments().size(), results = schema.returns().size();
  const auto first = stack->size() - arguments;
  for (size_t i = 0; i < arguments; ++i) {
    auto &value = (*stack)[first + i];
    const auto *alias = schema.arguments()[i].alias_info();
    const bool written = alias != nullptr && alias->isWrite();
    if (value.isTensor()) {
      value = operation.lend(value.toTensor(), written);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor &tensor : value.toTensorVector()) list.push_back(operation.lend(tensor, written));
      value = list;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor> &tensor : value.toOptionalTensorVector())
        list.push_back(tensor.has_value() ? std::optional(operation.lend(*tensor, written)) : std::nullopt);
      value = list;
    } else if (value.isNone() && schema.arguments()[i].name() == "generator") {
      value = generator();
    } else if (value.isDevice() && value.toDevice().is_cuda()) {
      value = c10::Device(c10::kCPU);
    }
  }
  handle.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (size_t i = 0; i < results; ++i) {
    auto &value = (*stack)[stack->size() - results + i];
    if (value.isTensor()) {
      value = operation.take(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor &tensor : value.toTensorVector()) list.push_back(operation.take(tensor));
      value = list;
    }
  }
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &memory(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor &resize(const at::Tensor &tensor, at::IntArrayRef sizes, std::optional<at::MemoryFormat>) {
  auto *storage = tensor.storage().unsafeGetStorageImpl();
  const auto bytes = at::detail::computeStorageNbytesContiguous(sizes, tensor.itemsize(), tensor.storage_offset());
  if (bytes > storage->nbytes()) {
    auto larger = memory().allocate(bytes);
    if (storage->nbytes() > 0) memory().copy_data(larger.get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(larger));
    storage->set_nbytes(bytes);
  }
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return tensor;
}

at::Tensor &copy(at::Tensor &to, const at::Tensor &from, bool non_blocking) {
  if (to.is_cuda()) {
    if (!from.is_cuda() && !(non_blocking && pinned().holds(from.data_ptr())))
      waits_for("a copy from memory that is not pinned");
    behind(to).copy_(behind(from));
  } else if (non_blocking && to.numel() > 0 && pinned().holds(to.data_ptr())) {
    const std::lock_guard<std::mutex> lock(late_mutex);
    late.push_back({to.detach(), behind(from).clone()});
  } else {
    waits_for("a copy to the CPU");
    to.copy_(behind(from));
  }
  return to;
}

at::Scalar number(const at::Tensor &tensor) {
  waits_for("a number");
  return at::_local_scalar_dense(behind(tensor));
}

// Attention by its formula: the fused kernels are the GPU's own.
int64_t attention(const at::Tensor &, const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &, double,
                  bool, std::optional<double>, bool) {
  return 0;
}

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("resize_", &resize);
  library.impl("copy_", &copy);
  library.impl("_local_scalar_dense", &number);
  library.impl("_fused_sdp_choice", &attention);
  library.impl("view", &at::native::view);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("unfold", &at::native::unfold);
  // Which of its kernels computes a convolution is asked of the device.
  for (const char *whole : {"convolution", "convolution_backward"})
    library.impl(whole, torch::CppFunction::makeFromBoxedFunction<&compute>());
}

// ---- what libtorch asks of a device

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = c10::kCUDA;
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    setDevice(device);
    return gpu;
  }
  c10::Device getDevice() const override { return gpu; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() <= 0, "CUDA error: invalid device ordinal");
  }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, gpu); }
  c10::Stream getDefaultStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, gpu); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void **event, const c10::Stream &, c10::DeviceIndex, c10::EventFlag) const override {
    static char recorded;
    *event = &recorded;
  }
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override {
    catch_up();
    return true;
  }
  bool queryStream(const c10::Stream &) const override {
    catch_up();
    return true;
  }
  void synchronizeEvent(void *) const override { waits_for("an event"); }
  void synchronizeStream(const c10::Stream &) const override { waits_for("a stream"); }
  void synchronizeDevice(c10::DeviceIndex) const override { waits_for("the device"); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

struct CUDAHooks : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  bool isPinnedPtr(const void *address) const override { return pinned().holds(address); }
  c10::Allocator *getPinnedMemoryAllocator() const override { return &pinned(); }
  c10::Allocator *getCUDADeviceAllocator() const override { return &memory(); }
  void deviceSynchronize(c10::DeviceIndex) const override { waits_for("the device"); }
  const at::Generator &getDefaultGenerator(c10::DeviceIndex) const override { return generator(); }
};

using at::CUDAHooksArgs;
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
REGISTER_CUDA_HOOKS(CUDAHooks)

const bool allocates = (c10::SetAllocator(c10::kCUDA, &memory(), 1), true);

} // namespace
