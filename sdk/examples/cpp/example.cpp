// An attack and a regularizer in C++. README.md here says how to build and check them.

#include "guard_plugin.hpp"

namespace {

// Iterated fast gradient sign (Kurakin et al., ICLR 2017 workshop; Madry et al., ICLR 2018):
//
//     x ← Π( x + α sign ∇ₓ CE(f(x), y) ),   Π onto the ε-ball around the clean image and [0,1]
class IteratedSign : public guard::Attack {
 public:
  static const char *schema() {
    return R"({
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "steps": { "description": "How often the images are changed.", "type": "integer", "minimum": 1, "default": 10 },
        "relative_step_size": { "description": "α as a share of ε.", "type": "number", "exclusiveMinimum": 0, "default": 0.25 },
        "random_start": { "description": "Start anywhere in the ball.", "type": "boolean", "default": true }
      }
    })";
  }

  explicit IteratedSign(const guard::Options &options)
      : steps_(static_cast<int64_t>(options.number("/steps"))),
        relative_step_size_(options.number("/relative_step_size")),
        random_start_(options.number("/random_start") != 0) {}

  std::string info() const override { return R"({ "norms": ["linf"] })"; }

  at::Tensor perturb(const guard::Step &step, const guard::Network &network, const guard::Batch &batch,
                     const guard_budget &budget) override {
    if (budget.norm != GUARD_LINF) throw guard::Error::unsupported("`iterated-sign` is defined for the norm linf");
    const at::Tensor &clean = batch.images();
    const at::Tensor lower = (clean - budget.epsilon).clamp_min(0), upper = (clean + budget.epsilon).clamp_max(1);
    at::Tensor images = clean;
    if (random_start_) {
      const at::Tensor offset = step.uniform("start", 0, batch, clean.sizes().slice(1)) * 2 - 1;
      images = at::min(at::max(clean + budget.epsilon * offset, lower), upper);
    }
    for (int64_t index = 0; index < steps_; ++index) {
      step.check_cancelled();
      images = images.detach().requires_grad_();
      const at::Tensor loss = batch.cross_entropy_each(network.logits(images));
      const at::Tensor ascent = guard::gradient(loss, images).sign();
      images = at::min(at::max(images.detach() + relative_step_size_ * budget.epsilon * ascent, lower), upper);
    }
    return images.detach();
  }

 private:
  int64_t steps_;
  double relative_step_size_;
  bool random_start_;
};

// The squared norm of the loss's gradient to the input, as in double backpropagation (Drucker & LeCun, 1992):
//
//     R = mean over examples of ‖∇ₓ CE(f(x), y)‖²
class InputGradient : public guard::Regularizer {
 public:
  static const char *schema() {
    return R"({
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "scale": { "description": "What the norm is multiplied by before it is squared.", "type": "number", "exclusiveMinimum": 0, "default": 1.0 }
      }
    })";
  }

  explicit InputGradient(const guard::Options &options) : scale_(options.number("/scale")) {}

  at::Tensor penalty(const guard::Step &step, const guard::Network &network, const guard::Batch &batch) override {
    // Images that are learned keep their graph; others become leaves.
    const at::Tensor images = batch.images().requires_grad() ? batch.images() : batch.images().detach().requires_grad_();
    const at::Tensor loss = batch.cross_entropy_each(network.logits(images, batch.space()));
    const at::Tensor gradient = scale_ * guard::gradient(loss, images, true);
    const at::Tensor penalty = gradient.square().flatten(1).sum(1).mean();
    step.metric("root", penalty.detach().sqrt());
    return penalty;
  }

 private:
  double scale_;
};

}  // namespace

GUARD_MANIFEST("example.cpp", "0.1.0",
               GUARD_OFFER("attack", "iterated-sign") "," GUARD_OFFER("regularizer", "input-gradient"))
GUARD_METHODS(guard::attack<IteratedSign>("iterated-sign"), guard::regularizer<InputGradient>("input-gradient"))
