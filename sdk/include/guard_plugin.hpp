// Plugins in C++ with libtorch: `guard_plugin.h` as classes. Header only; all it needs is libtorch's headers and C++17.
//
// A method derives from `guard::Attack` or `guard::Regularizer`, is made from `const guard::Options &` (and, if it wants other
// methods of the run, `const guard::Host &`), and has `static const char *schema()`, the JSON Schema of its options. At the
// end of the file:
//
//     GUARD_MANIFEST("example.name", "0.1.0", GUARD_OFFER("attack", "my-attack"))
//     GUARD_METHODS(guard::attack<MyAttack>("my-attack"))
//
// Exceptions of methods become errors of the run: throw `guard::Error` for a sentence that the user reads. A `schema` that throws
// is none.
#ifndef GUARD_PLUGIN_HPP
#define GUARD_PLUGIN_HPP

#include "guard_plugin.h"

#include <ATen/ATen.h>
#include <c10/core/UndefinedTensorImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>

#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace guard {

/// A failure as the user reads it.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string &message, std::string code = "failed") : std::runtime_error(message), code(std::move(code)) {}

  /// A value of the options that the schema cannot rule out; `path` is a JSON pointer such as `/steps`.
  static Error option(const std::string &path, const std::string &message) {
    Error error(message, "options");
    error.option_path = path;
    return error;
  }

  /// Something that the method does not do.
  static Error unsupported(const std::string &message) { return Error(message, "unsupported"); }

  std::string code, help, option_path;
};

namespace detail {

template <size_t N> void write(char (&place)[N], const std::string &text) noexcept {
  const size_t length = std::min(text.size(), N - 1);
  std::memcpy(place, text.data(), length);
  std::memset(place + length, 0, N - length);
}

inline void tell(guard_error *place, const Error &error) noexcept {
  if (place == nullptr) return;
  write(place->code, error.code);
  write(place->message, error.what());
  write(place->help, error.help);
  write(place->option_path, error.option_path);
}

/// Runs `body`; an exception is told in `error`.
template <typename F> int32_t shield(guard_error *error, F &&body) noexcept {
  try {
    body();
    return 0;
  } catch (const Error &failure) {
    tell(error, failure);
  } catch (const c10::Error &failure) {
    tell(error, Error(failure.what_without_backtrace(), "torch"));
  } catch (const std::exception &failure) {
    tell(error, Error(failure.what()));
  } catch (...) {
    tell(error, Error("an exception that says nothing"));
  }
  return 1;
}

/// Calls a function of the host; what it tells is thrown.
template <typename F> void call(F &&function) {
  guard_error told = {};
  if (function(&told) == 0) return;
  Error error(told.message, told.code);
  error.help = told.help;
  error.option_path = told.option_path;
  throw error;
}

/// Takes a tensor over.
inline at::Tensor take(guard_tensor *pointer) {
  const std::unique_ptr<at::Tensor> owned(pointer);
  return owned ? *owned : at::Tensor();
}

}  // namespace detail

/// The host during `create`.
class Host {
 public:
  explicit Host(const guard_host *host) : host_(host) {}

  /// An attack of the run, of any plugin; `options` is JSON.
  uint64_t attack(const char *name, const char *options = "{}") const {
    uint64_t handle = 0;
    detail::call([&](guard_error *error) { return host_->attack(host_, name, options, &handle, error); });
    return handle;
  }

  /// A regularizer of the run.
  uint64_t regularizer(const char *name, const char *options = "{}") const {
    uint64_t handle = 0;
    detail::call([&](guard_error *error) { return host_->regularizer(host_, name, options, &handle, error); });
    return handle;
  }

  const guard_host *raw() const { return host_; }

 private:
  const guard_host *host_;
};

/// The options of a method that is made, with the schema's defaults.
class Options {
 public:
  Options(const guard_options *options, const guard_host *host) : options_(options), host_(host) {}

  /// A number or, as 0 and 1, a boolean; `pointer` such as `/steps`.
  double number(const char *pointer) const {
    double value = 0;
    if (host_->option_number(options_, pointer, &value) == 0) throw Error::option(pointer, "a number is missing");
    return value;
  }

  std::string text(const char *pointer) const {
    const char *value = nullptr;
    if (host_->option_text(options_, pointer, &value) == 0) throw Error::option(pointer, "a text is missing");
    return value;
  }

  bool has(const char *pointer) const {
    double number = 0;
    const char *text = nullptr;
    return host_->option_number(options_, pointer, &number) != 0 || host_->option_text(options_, pointer, &text) != 0;
  }

  /// All of them as JSON.
  std::string json() const { return host_->options_json(options_); }

 private:
  const guard_options *options_;
  const guard_host *host_;
};

/// Images with labels, lent for a call.
class Batch {
 public:
  explicit Batch(const guard_batch *batch) : batch_(batch) {}

  /// [N,C,H,W], in `space`.
  const at::Tensor &images() const { return *batch_->images; }
  /// int64 [N].
  const at::Tensor &labels() const { return *batch_->labels; }
  int32_t space() const { return batch_->space; }
  size_t size() const { return batch_->count; }

  /// Cross-entropy of each example [N] between its label (soft where there is one) and `logits` [N,K].
  at::Tensor cross_entropy_each(const at::Tensor &logits) const {
    if (batch_->soft_labels != nullptr) return -(at::log_softmax(logits, -1) * *batch_->soft_labels).sum(-1);
    return at::cross_entropy_loss(logits, labels(), {}, at::Reduction::None);
  }

  const guard_batch *raw() const { return batch_; }

 private:
  const guard_batch *batch_;
};

/// Where the run stands, and the host's services during a call.
class Step {
 public:
  explicit Step(const guard_step *step) : step_(step) {}

  const char *stage() const { return step_->stage; }
  uint64_t iteration() const { return step_->iteration; }
  uint64_t iterations() const { return step_->iterations; }

  /// Throws once the user asked the run to stop: to be called in long loops.
  void check_cancelled() const {
    if (host()->cancelled(host()) != 0) throw Error("the run was asked to stop", "cancelled");
  }

  /// Records a scalar under a name.
  void metric(const char *name, const at::Tensor &value) const {
    detail::call([&](guard_error *error) { return host()->metric(host(), name, &value, error); });
  }

  void log(int32_t level, const std::string &message) const { host()->log(host(), level, message.c_str()); }

  /// Uniform numbers on [0,1), `[N, shape...]` of the images' dtype: one row for each example, which depends on its id and on no
  /// batch mate. `draw` tells repeated draws of one call from each other.
  at::Tensor uniform(const char *stream, uint64_t draw, const Batch &batch, at::IntArrayRef shape) const {
    return random(stream, draw, batch, shape, GUARD_UNIFORM);
  }

  /// Standard normal numbers, as `uniform`.
  at::Tensor normal(const char *stream, uint64_t draw, const Batch &batch, at::IntArrayRef shape) const {
    return random(stream, draw, batch, shape, GUARD_NORMAL);
  }

  const guard_host *host() const { return step_->host; }
  const guard_step *raw() const { return step_; }

 private:
  at::Tensor random(const char *stream, uint64_t draw, const Batch &batch, at::IntArrayRef shape, int32_t distribution) const {
    const bool wide = batch.images().scalar_type() == at::kDouble;
    const guard_draw wanted = {stream,       draw,         batch.raw()->ids, batch.size(),
                               shape.data(), shape.size(), distribution,     wide ? 64 : 32};
    guard_tensor *numbers = nullptr;
    detail::call([&](guard_error *error) { return host()->random(host(), &wanted, &numbers, error); });
    return detail::take(numbers).to(batch.images().scalar_type());
  }

  const guard_step *step_;
};

/// A network: lent for a call, or made by `with_parameters`.
class Network {
 public:
  Network(const guard_network *network, const guard_host *host) : network_(network), host_(*host) {}

  /// Logits [N,K] of images in `space`, in eval mode, with graph.
  at::Tensor logits(const at::Tensor &images, int32_t space = GUARD_PIXELS) const {
    return pass({&images, space, GUARD_EVAL, 0}).first;
  }

  /// Logits and, if asked for, the embedding.
  std::pair<at::Tensor, at::Tensor> pass(const guard_pass &wanted) const {
    guard_output output = {};
    detail::call([&](guard_error *error) { return host_.pass(network_, &wanted, &output, error); });
    return {detail::take(output.logits), detail::take(output.embedding)};
  }

  /// The parameters themselves, in order.
  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> found(host_.parameter_count(network_));
    for (size_t index = 0; index < found.size(); ++index) {
      guard_tensor *parameter = nullptr;
      const char *name = nullptr;
      detail::call([&](guard_error *error) { return host_.parameter(network_, index, &name, &parameter, error); });
      found[index] = detail::take(parameter);
    }
    return found;
  }

  /// The same architecture with other parameters, which keep their graph.
  Network with_parameters(const std::vector<at::Tensor> &parameters) const {
    std::vector<const guard_tensor *> pointers;
    for (const at::Tensor &parameter : parameters) pointers.push_back(&parameter);
    guard_network *made = nullptr;
    detail::call([&](guard_error *error) {
      return host_.with_parameters(network_, pointers.data(), pointers.size(), &made, error);
    });
    Network network(made, &host_);
    network.owned_.reset(made, host_.release_network);
    return network;
  }

  /// JSON: architecture, classes, input, mean, std, batch_norm.
  std::string describe() const { return host_.describe(network_); }

  const guard_network *raw() const { return network_; }

 private:
  const guard_network *network_;
  // A copy, for networks that are kept between calls: the functions stay, the table is lent.
  guard_host host_;
  std::shared_ptr<guard_network> owned_;
};

/// Takes a method's state.
class StateWriter {
 public:
  StateWriter(guard_state_writer *writer) : writer_(writer) {}

  void json(uint32_t version, const std::string &text) {
    detail::call([&](guard_error *error) { return writer_->put_json(writer_, version, text.c_str(), error); });
  }

  void tensor(const std::string &name, const at::Tensor &value) {
    detail::call([&](guard_error *error) { return writer_->put_tensor(writer_, name.c_str(), &value, error); });
  }

 private:
  guard_state_writer *writer_;
};

/// What methods have in common.
class Method {
 public:
  virtual ~Method() = default;
  /// What the method needs to go on where it is; nothing for one that remembers nothing.
  virtual void save(StateWriter &) const {}
  virtual void load(const guard_state &state) {
    if (state.count != 0 || std::string(state.json) != "null") throw Error("this method has no state to load");
  }
};

/// A penalty added to a loss.
class Regularizer : public Method {
 public:
  /// The bare penalty, a scalar [] with graph to whatever requires gradients: the network's parameters or the images.
  virtual at::Tensor penalty(const Step &step, const Network &network, const Batch &batch) = 0;
};

/// A search for adversarial images.
class Attack : public Method {
 public:
  /// Adversarial images [N,C,H,W] in [0,1] within the budget, of the batch's dtype, without graph; each example on its own.
  virtual at::Tensor perturb(const Step &step, const Network &network, const Batch &batch, const guard_budget &budget) = 0;
  /// JSON, see `attack_info` in `guard_plugin.h`.
  virtual std::string info() const { return "{}"; }
};

/// The gradient of the sum of `output` to `input`, with a graph of its own if it is to be differentiated again.
inline at::Tensor gradient(const at::Tensor &output, const at::Tensor &input, bool create_graph = false) {
  return torch::autograd::grad({output.sum()}, {input}, {}, create_graph, create_graph, false)[0];
}

/// A method that a plugin offers.
struct Offer {
  int32_t kind;
  const char *name;
  const char *(*schema)();
  std::unique_ptr<Method> (*make)(const Options &, const Host &);
};

namespace detail {

template <typename T> std::unique_ptr<Method> make(const Options &options, const Host &host) {
  if constexpr (std::is_constructible_v<T, const Options &, const Host &>) {
    return std::make_unique<T>(options, host);
  } else {
    return std::make_unique<T>(options);
  }
}

/// What the host holds of a method.
struct Held {
  std::unique_ptr<Method> method;
  std::string info;
};

/// All offers of this library; `GUARD_METHODS` defines it.
const std::vector<Offer> &offers();

inline const Offer *find(int32_t kind, const char *name) {
  for (const Offer &offer : offers()) {
    if (offer.kind == kind && std::strcmp(offer.name, name) == 0) return &offer;
  }
  return nullptr;
}

inline const char *schema(int32_t kind, const char *name) noexcept {
  try {
    const Offer *offer = find(kind, name);
    return offer == nullptr ? nullptr : offer->schema();
  } catch (...) {
    return nullptr;
  }
}

inline int32_t create(int32_t kind, const char *name, const guard_options *options, const guard_host *host, void **method,
                      guard_error *error) noexcept {
  return shield(error, [&] {
    const Offer *offer = find(kind, name);
    if (offer == nullptr) throw Error("this plugin has no such method");
    auto held = std::make_unique<Held>();
    held->method = offer->make(Options(options, host), Host(host));
    if (kind == GUARD_ATTACK) held->info = static_cast<Attack &>(*held->method).info();
    *method = held.release();
  });
}

inline void release(void *method) noexcept { delete static_cast<Held *>(method); }

inline int32_t save(void *method, guard_state_writer *writer, guard_error *error) noexcept {
  return shield(error, [&] {
    StateWriter to(writer);
    static_cast<Held *>(method)->method->save(to);
  });
}

inline int32_t load(void *method, const guard_state *state, guard_error *error) noexcept {
  return shield(error, [&] { static_cast<Held *>(method)->method->load(*state); });
}

inline int32_t penalty(void *method, const guard_step *step, const guard_network *network, const guard_batch *batch,
                       guard_tensor **penalty, guard_error *error) noexcept {
  return shield(error, [&] {
    auto &regularizer = static_cast<Regularizer &>(*static_cast<Held *>(method)->method);
    *penalty = new at::Tensor(regularizer.penalty(Step(step), Network(network, step->host), Batch(batch)));
  });
}

inline const char *attack_info(void *method) noexcept { return static_cast<Held *>(method)->info.c_str(); }

inline int32_t perturb(void *method, const guard_step *step, const guard_network *network, const guard_batch *batch,
                       const guard_budget *budget, guard_tensor **adversarial, guard_error *error) noexcept {
  return shield(error, [&] {
    auto &attack = static_cast<Attack &>(*static_cast<Held *>(method)->method);
    *adversarial = new at::Tensor(attack.perturb(Step(step), Network(network, step->host), Batch(batch), *budget));
  });
}

}  // namespace detail

/// Offers an attack under a name.
template <typename T> Offer attack(const char *name) {
  static_assert(std::is_base_of_v<Attack, T>, "an attack derives from guard::Attack");
  return {GUARD_ATTACK, name, T::schema, detail::make<T>};
}

/// Offers a regularizer under a name.
template <typename T> Offer regularizer(const char *name) {
  static_assert(std::is_base_of_v<Regularizer, T>, "a regularizer derives from guard::Regularizer");
  return {GUARD_REGULARIZER, name, T::schema, detail::make<T>};
}

}  // namespace guard

#define GUARD_TEXT_(text) #text
#define GUARD_TEXT(text) GUARD_TEXT_(text)
/// The libtorch of the headers, e.g. `2.11.0`.
#define GUARD_TORCH_VERSION \
  GUARD_TEXT(TORCH_VERSION_MAJOR) "." GUARD_TEXT(TORCH_VERSION_MINOR) "." GUARD_TEXT(TORCH_VERSION_PATCH)

/// A method in the manifest; several with `","` between.
#define GUARD_OFFER(kind, name) "{\"kind\":\"" kind "\",\"name\":\"" name "\",\"interface\":\"" GUARD_C_INTERFACE "\"}"

// Kept where the linker collects what nobody refers to.
#if defined(__has_attribute)
#if __has_attribute(retain)
#define GUARD_KEPT used, retain
#endif
#endif
#ifndef GUARD_KEPT
#define GUARD_KEPT used
#endif

/// The manifest: the plugin's id, its version, and what it offers.
#define GUARD_MANIFEST(id, version, offers)                                                                            \
  __attribute__((GUARD_KEPT, section(".guard_manifest"))) static const char guard_manifest_text[] =                          \
      "{\"format\":\"guard-manifest/1\",\"id\":\"" id "\",\"version\":\"" version "\",\"torch\":\"" GUARD_TORCH_VERSION \
      "\",\"panic\":\"unwind\",\"methods\":[" offers "]}";

/// The methods themselves, and what the library exports.
#define GUARD_METHODS(...)                                                               \
  const std::vector<guard::Offer> &guard::detail::offers() {                             \
    static const std::vector<guard::Offer> all = {__VA_ARGS__};                          \
    return all;                                                                          \
  }                                                                                      \
  const guard_plugin *guard_plugin_0_1(void) {                                           \
    static const guard_plugin plugin = {sizeof(guard_plugin),                            \
                                        GUARD_TORCH_VERSION,                             \
                                        _GLIBCXX_USE_CXX11_ABI,                          \
                                        c10::UndefinedTensorImpl::singleton(),           \
                                        guard::detail::schema,                           \
                                        guard::detail::create,                           \
                                        guard::detail::release,                          \
                                        guard::detail::save,                             \
                                        guard::detail::load,                             \
                                        guard::detail::penalty,                          \
                                        guard::detail::attack_info,                      \
                                        guard::detail::perturb};                         \
    return &plugin;                                                                      \
  }

#endif
