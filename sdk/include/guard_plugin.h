/* A plugin for guard-host in C, or in any language that can be called like C: the interface `guard.c/0.1`.
 *
 * A plugin is a shared library that shares the host's libtorch. It exports one function, `guard_plugin_0_1`, whose table
 * makes and calls its methods (attacks and regularizers), and holds a manifest in the section `.guard_manifest`, which is
 * read without running any of its code. `guard_plugin.hpp` beside this file writes both for authors in C++.
 *
 * What is here never changes: whatever a later interface adds gets another id, another exported function and another
 * header, and a host that knows it keeps calling this one.
 *
 * Ownership  What comes as `const` is lent until the call returns: it is neither kept, freed nor changed, not even in place.
 *            What is returned through `guard_tensor **` or `guard_network **` belongs to whoever receives it. A tensor that
 *            the host receives was made with `new at::Tensor`; the host deletes it. One that the plugin receives it releases
 *            with `release_tensor` (or `delete`). A lent tensor is never returned: return a new `at::Tensor` that shares it. Storage is shared and never copied; the autograd graph crosses as it is.
 * Threads    A method is called by one thread at a time, not always the same one. The host's functions are called on the
 *            thread of the call and before it returns, not from autograd hooks and not from threads of one's own; only
 *            `release_tensor` and `release_network` may be called at any time, by the thread that calls the method.
 * Errors     A function that returns int32_t returns 0 when all went well; anything else is a failure, told in `error`, and
 *            leaves nothing in what it was to fill. No exception leaves a function, in either direction: one that does ends the
 *            process. Functions without `error` have no failures to tell.
 * State      libtorch's settings (default dtype, grad mode, number of threads, seeds) stay as they are. Random numbers come
 *            from the host, so that they depend on seed, method, iteration and the example's id alone.
 * Text       is UTF-8 and ends in a zero. What a plugin returns as `const char *` lives as long as the method, or the
 *            library where there is no method.
 * Python     A host of Python methods is such a plugin: `guard_tensor *` is what `THPVariable_Wrap` and `THPVariable_Unpack`
 *            take and give, and it takes the interpreter's lock in each function and gives it back before it returns.
 */
#ifndef GUARD_PLUGIN_H
#define GUARD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define GUARD_C_INTERFACE "guard.c/0.1"

#ifdef __cplusplus
namespace at {
class Tensor;
}
typedef at::Tensor guard_tensor;
extern "C" {
#else
typedef struct guard_tensor guard_tensor;
#endif

/* Kinds of methods. */
enum { GUARD_REGULARIZER = 1, GUARD_ATTACK = 2 };
/* What an image's values are: pixels in [0,1], or (pixels - mean) / std. */
enum { GUARD_PIXELS = 0, GUARD_NORMALISED = 1 };
/* How BatchNorm behaves: by running statistics, or by the batch's. */
enum { GUARD_EVAL = 0, GUARD_TRAIN = 1 };
/* Norms of a budget. */
enum { GUARD_LINF = 0, GUARD_L2 = 1 };
/* Distributions: uniform on [0,1), or standard normal. */
enum { GUARD_UNIFORM = 0, GUARD_NORMAL = 1 };
/* How loud a line of the log is. */
enum { GUARD_LOG_ERROR = 0, GUARD_LOG_WARNING = 1, GUARD_LOG_INFORMATION = 2, GUARD_LOG_DETAIL = 3 };

/* What went wrong. The one who calls provides it; what does not fit is cut. All four texts may be empty. */
typedef struct guard_error {
  /* A stable word: `failed`, `options`, `unsupported`, `cancelled`, ... . */
  char code[64];
  /* One sentence, lower-case, without full stop. */
  char message[2048];
  /* What the user can do about it. */
  char help[512];
  /* Where in the method's options the cause lies, as a JSON pointer such as `/steps`. */
  char option_path[256];
} guard_error;

/* Images with labels. */
typedef struct guard_batch {
  /* [N,C,H,W], float32 or float64. */
  const guard_tensor *images;
  /* int64 [N]. */
  const guard_tensor *labels;
  /* Class probabilities [N,K], or null. */
  const guard_tensor *soft_labels;
  /* One number for each example, the same in every epoch. */
  const uint64_t *ids;
  /* N. */
  size_t count;
  /* GUARD_PIXELS or GUARD_NORMALISED. */
  int32_t space;
} guard_batch;

/* How far an attack may go, in pixels. */
typedef struct guard_budget {
  double epsilon;
  /* GUARD_LINF or GUARD_L2. */
  int32_t norm;
} guard_budget;

/* Random numbers, one row for each id. A row depends on the run's seed, the stage, the method, the iteration, `stream`,
 * `draw` and its own id alone. */
typedef struct guard_draw {
  /* Names the use, e.g. `start`. */
  const char *stream;
  /* Tells repeated draws of one call from each other, e.g. a restart's number. */
  uint64_t draw;
  const uint64_t *ids;
  size_t count;
  /* The shape of one row. */
  const int64_t *shape;
  size_t dimensions;
  /* GUARD_UNIFORM or GUARD_NORMAL. */
  int32_t distribution;
  /* 32 or 64. */
  int32_t bits;
} guard_draw;

/* A network; what it is, only the host knows. */
typedef struct guard_network guard_network;
/* The options of a method, as the recipe has them, with the defaults of the schema's own `properties` filled in. */
typedef struct guard_options guard_options;
typedef struct guard_host guard_host;

/* Where the run stands. */
typedef struct guard_step {
  /* `plan` (methods are made to be checked), `train`, `distill`, `relabel`, `student`, `evaluate`, or of a later host. */
  const char *stage;
  /* From 0. */
  uint64_t iteration;
  /* 0 where it is not known. */
  uint64_t iterations;
  const guard_host *host;
} guard_step;

/* A forward pass. */
typedef struct guard_pass {
  /* [N,C,H,W] of the network's dtype. */
  const guard_tensor *images;
  /* GUARD_PIXELS or GUARD_NORMALISED. */
  int32_t space;
  /* GUARD_EVAL or GUARD_TRAIN. A lent network's running statistics stay as they are. */
  int32_t mode;
  /* Whether the input of the last linear layer is wanted. */
  int32_t embedding;
} guard_pass;

/* What a pass returns: tensors that the plugin owns, with their graph. */
typedef struct guard_output {
  /* [N,K]. */
  guard_tensor *logits;
  /* [N,E], or null. */
  guard_tensor *embedding;
} guard_output;

/* A method's state as it was saved. */
typedef struct guard_state {
  /* The plugin's own number for the layout of the rest. */
  uint32_t version;
  size_t count;
  /* JSON, `null` if nothing was put. */
  const char *json;
  const char *const *names;
  const guard_tensor *const *tensors;
} guard_state;

/* Takes a method's state: a version and JSON, or null for none; and tensors, one by one, which are shared. */
typedef struct guard_state_writer guard_state_writer;
struct guard_state_writer {
  int32_t (*put_json)(guard_state_writer *writer, uint32_t version, const char *json, guard_error *error);
  int32_t (*put_tensor)(guard_state_writer *writer, const char *name, const guard_tensor *tensor, guard_error *error);
};

/* The host's functions. The table is lent for the call, as is what is behind it: a `const guard_host *` that a function is given
 * is that of the call. The functions stay what they are; one that is needed after the call, such as `release_network`, is copied. */
struct guard_host {
  /* Bytes of this table. */
  size_t size;

  /* Writes a line to the run's log. */
  void (*log)(const guard_host *host, int32_t level, const char *message);
  /* Records a real scalar under a name; the host prefixes the method's. It is read later, so that no step waits for a device, and
   * must not be changed until then. */
  int32_t (*metric)(const guard_host *host, const char *name, const guard_tensor *value, guard_error *error);
  /* 1 once the user asked the run to stop: long calls then fail early, with code `cancelled`. */
  int32_t (*cancelled)(const guard_host *host);
  /* Tells how much of a long call is done, in [0,1]. */
  void (*progress)(const guard_host *host, double fraction);
  /* The number of the run's CUDA device, or -1. */
  int32_t (*device)(const guard_host *host);
  /* [count, shape...] on the run's device. */
  int32_t (*random)(const guard_host *host, const guard_draw *draw, guard_tensor **numbers, guard_error *error);

  /* Makes another method of the run, of any plugin, in `create` only; `options` is JSON. The handle is the method's own. */
  int32_t (*attack)(const guard_host *host, const char *name, const char *options, uint64_t *handle, guard_error *error);
  int32_t (*regularizer)(const guard_host *host, const char *name, const char *options, uint64_t *handle, guard_error *error);
  /* Calls it; see `perturb` and `penalty` of `guard_plugin`. */
  int32_t (*perturb)(uint64_t handle, const guard_step *step, const guard_network *network, const guard_batch *batch,
                     const guard_budget *budget, guard_tensor **adversarial, guard_error *error);
  int32_t (*penalty)(uint64_t handle, const guard_step *step, const guard_network *network, const guard_batch *batch,
                     guard_tensor **penalty, guard_error *error);

  /* JSON: `architecture`, `classes`, `input` [C,H,W], `mean`, `std`, `batch_norm`; lives as long as the network. */
  const char *(*describe)(const guard_network *network);
  /* One forward pass. */
  int32_t (*pass)(const guard_network *network, const guard_pass *pass, guard_output *output, guard_error *error);
  /* How many parameters there are, and one of them: the tensor itself, not a copy. Its name lives as long as the network. */
  size_t (*parameter_count)(const guard_network *network);
  int32_t (*parameter)(const guard_network *network, size_t index, const char **name, guard_tensor **parameter,
                       guard_error *error);
  /* The same architecture with other parameters, in order; they keep their graph. Buffers are copied. */
  int32_t (*with_parameters)(const guard_network *network, const guard_tensor *const *parameters, size_t count,
                             guard_network **owned, guard_error *error);
  /* Ends a network that the plugin owns. */
  void (*release_network)(guard_network *network);
  /* Ends a tensor that the plugin owns; null is nothing. */
  void (*release_tensor)(guard_tensor *tensor);

  /* All options as JSON. */
  const char *(*options_json)(const guard_options *options);
  /* A number (or, as 0 and 1, a boolean) or a text by its JSON pointer, e.g. `/steps`; 1 if there is one. */
  int32_t (*option_number)(const guard_options *options, const char *pointer, double *value);
  int32_t (*option_text)(const guard_options *options, const char *pointer, const char **value);
};

/* The plugin's functions. */
typedef struct guard_plugin {
  /* Bytes of this table. */
  size_t size;
  /* The libtorch it was compiled against, e.g. `2.11.0`. */
  const char *torch_version;
  /* `_GLIBCXX_USE_CXX11_ABI`. */
  int32_t cxx11_abi;
  /* libtorch's undefined tensor as the plugin sees it, `c10::UndefinedTensorImpl::singleton()`: there is one per libtorch. For C it is
   * the address of the symbol `_ZN3c1019UndefinedTensorImpl10_singletonE`. */
  const void *torch_symbol;

  /* The JSON Schema of a method's options, of kind GUARD_REGULARIZER or GUARD_ATTACK; null for a method that is not there.
   * The host holds options against it before `create`: unknown keys, types and ranges need no other check. */
  const char *(*schema)(int32_t kind, const char *name);
  /* Makes a method. `method` is whatever the other functions are to be given. */
  int32_t (*create)(int32_t kind, const char *name, const guard_options *options, const guard_host *host, void **method,
                    guard_error *error);
  /* Ends a method. It is called once, and nothing after it. */
  void (*release)(void *method);
  /* What the method needs to go on where it is, and back. Null where nothing is remembered. */
  int32_t (*save)(void *method, guard_state_writer *writer, guard_error *error);
  int32_t (*load)(void *method, const guard_state *state, guard_error *error);

  /* A regularizer's bare penalty, a scalar [] with graph to whatever requires gradients: the network's parameters or the
   * images. Null where there is no regularizer. */
  int32_t (*penalty)(void *method, const guard_step *step, const guard_network *network, const guard_batch *batch,
                     guard_tensor **penalty, guard_error *error);
  /* JSON: `guarantee` (`bounded` or `minimum-norm`), `norms` (of `linf`, `l2`), `knowledge` (`white-box` or `black-box`),
   * `caveat`; what is left out has these first values, and both norms. Null where there is no attack, or all is so. */
  const char *(*attack_info)(void *method);
  /* Adversarial images [N,C,H,W] in [0,1] within the budget, of the batch's dtype, without graph. Each example on its own: no
   * result depends on batch mates. Null where there is no attack. */
  int32_t (*perturb)(void *method, const guard_step *step, const guard_network *network, const guard_batch *batch,
                     const guard_budget *budget, guard_tensor **adversarial, guard_error *error);
} guard_plugin;

/* The one function that a plugin exports. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const guard_plugin *guard_plugin_0_1(void);

#ifdef __cplusplus
}
#endif

#endif
