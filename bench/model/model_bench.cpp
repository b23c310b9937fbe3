// SPDX-License-Identifier: MIT
//
// Whole models. Training: one step (forward, loss, backward, clip, AdamW) of a GPT of 7.4 M parameters (V
// 4096, L 8, C 256, F 1024, T 128, B 16) and of the HSM model with the same number of parameters, in 6 flop
// per parameter and token.
#include <hsm/training/adamw.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/language_model_loss.hpp>

#include "bench/suites.hpp"
#include "bench/support/registry.hpp"
#include "bench/support/threads.hpp"

namespace hsm::bench {
namespace {

using Model = LanguageModel<float>;

struct Training {
  Training(const LanguageModelConfig& config, Index batch, int threads)
      : random(3),
        model(config, random),
        gradients(zeros_like(model)),
        optimizer(model),
        workspace(executor(threads)),
        B(batch),
        T(config.context) {
    for (Index i = 0; i < B * T; ++i)
      ids.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(config.vocabulary))));
    targets.assign(ids.begin() + 1, ids.end());
    targets.push_back(-1);
  }

  double step() {
    set_zero(gradients);
    const CrossEntropy loss =
        language_model_gradients<Model>(model, ids, targets, B, T, saved, gradients, workspace);
    clip_global_norm(gradients, 1.0);
    optimizer.step(model, gradients, 1e-3, workspace.executor());
    return loss.mean();
  }

  Random random;
  Model model;
  Model gradients;
  AdamW<Model> optimizer;
  Workspace workspace;
  LanguageModelSaved<float> saved;
  Index B, T;
  std::vector<std::int32_t> ids, targets;
};

void add_training(const std::string& name, const LanguageModelConfig& config, Index batch, int threads,
                  Target target) {
  add_case("training/" + name + "/threads=" + std::to_string(threads), target, [=] {
    auto subject = std::make_shared<Training>(config, batch, threads);
    auto c = std::make_unique<Case>();
    c->work = [subject] { subject->step(); };
    c->verify = [subject] {
      const double first = subject->step();
      double last = first;
      for (int i = 0; i < 3; ++i) last = subject->step();
      return last < first ? std::string()
                          : "the loss did not fall: " + std::to_string(first) + " to " + std::to_string(last);
    };
    c->tokens = static_cast<double>(subject->B * subject->T);
    c->flop = 6 * static_cast<double>(count_parameters(subject->model)) * c->tokens;
    c->scale = c->flop / Sgemm::kFlop;
    c->yardstick = [threads] { sgemm(threads)(); };
    c->yardstick_name = "sgemm";
    c->budget = 6;
    return c;
  });
}

}  // namespace

void add_model(const Selection& selection) {
  LanguageModelConfig gpt{.vocabulary = 4096,
                          .width = 256,
                          .feed_forward = 1024,
                          .context = 128,
                          .positions = Positions::kLearned,
                          .layers = "8*attention:heads=4",
                          .schedule = "dyadic"};
  LanguageModelConfig ab = gpt;
  ab.positions = Positions::kNone;
  ab.layers = "8*ab";
  ab.feed_forward = 1536;
  if (selection.quick) gpt.vocabulary = ab.vocabulary = 512;
  add_training("gpt", gpt, selection.quick ? 2 : 16, selection.threads, {selection.quick ? 0.0 : 0.35});
  add_training("ab", ab, selection.quick ? 2 : 16, selection.threads, {});
}

}  // namespace hsm::bench
