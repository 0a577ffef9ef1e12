// A function of one tensor whose forward and backward are replayed from recordings (CUDA graphs): each reads and writes the
// same memory every time, so inputs are copied in and results out. Which recorder made them is not known here.

#include "guarded.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

namespace {

using guard::guarded;

using Replay = char *(*)(void *);
using Free = void (*)(void *);

struct Recorded : torch::CustomClassHolder {
  // Where the recordings read and write: f(input) = output; slope, of the output, to gradient, of the input.
  at::Tensor input, output, slope, gradient;
  void *forward, *backward;
  Replay replay;
  Free free;
  // Changes whenever what the last forward left for its backward is overwritten.
  int64_t replayed = 0;

  ~Recorded() override {
    free(forward);
    free(backward);
  }

  void run(void *recording) const {
    if (char *message = replay(recording)) {
      const std::string text = message;
      std::free(message);
      throw std::runtime_error(text);
    }
  }

  void run_forward(const at::Tensor &x) {
    input.copy_(x);
    run(forward);
    ++replayed;
  }
};

struct Graphed : torch::autograd::Function<Graphed> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &x,
                            const c10::intrusive_ptr<Recorded> &recorded) {
    recorded->run_forward(x.detach());
    context->save_for_backward({x});
    context->saved_data["recorded"] = c10::IValue::make_capsule(recorded);
    context->saved_data["replayed"] = recorded->replayed;
    return recorded->output.clone();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list slopes) {
    if (at::GradMode::is_enabled())
      throw std::runtime_error("a network that is replayed from CUDA graphs has no second derivatives");
    const auto recorded = c10::static_intrusive_pointer_cast<Recorded>(context->saved_data["recorded"].toCapsule());
    // Another input has passed since.
    if (recorded->replayed != context->saved_data["replayed"].toInt())
      recorded->run_forward(context->get_saved_variables()[0].detach());
    recorded->slope.copy_(slopes[0]);
    recorded->run(recorded->backward);
    // Graphs share their memory: the backward has written over what the forward had left for it.
    ++recorded->replayed;
    return {recorded->gradient.clone(), at::Tensor()};
  }
};

} // namespace

extern "C" {

struct GuardRecorded {
  c10::intrusive_ptr<Recorded> recorded;
};

char *guard_device_recorded(const at::Tensor *const *tensors, void *forward, void *backward, Replay replay, Free free,
                            GuardRecorded **made) noexcept {
  return guarded([&] {
    auto recorded = c10::make_intrusive<Recorded>();
    recorded->input = *tensors[0], recorded->output = *tensors[1];
    recorded->slope = *tensors[2], recorded->gradient = *tensors[3];
    recorded->forward = forward, recorded->backward = backward;
    recorded->replay = replay, recorded->free = free;
    *made = new GuardRecorded{recorded};
  });
}

char *guard_device_replayed(const GuardRecorded *recorded, const at::Tensor *x, at::Tensor **output) noexcept {
  return guarded([&] { *output = new at::Tensor(Graphed::apply(*x, recorded->recorded)); });
}

void guard_device_recorded_free(GuardRecorded *recorded) noexcept { delete recorded; }
}
