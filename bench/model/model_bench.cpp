// SPDX-License-Identifier: MIT
//
// Whole models. Training: one step (forward, loss, backward, clip, AdamW) of a GPT of 7.4 M parameters (V
// 4096, L 8, C 256, F 1024, T 128, B 16) and of the HSM model with the same number of parameters, in 6 flop
// per parameter and token. Reading a prompt: tokens through all layers chunk by chunk.
#include <hsm/training/adamw.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/language_model_loss.hpp>

#include "bench/model/last_logits.hpp"
#include "bench/support/layer_cases.hpp"

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

/// Reading a prompt of T tokens: 8 layers of (a,b), C 256, F 1024, a state and the last logits out.
void add_prefill(Index T, int threads, Target target, double budget) {
  const std::string name =
      "prefill/8*ab/extend/T=" + std::to_string(T) + "/threads=" + std::to_string(threads);
  add_case(name, target, [=] {
    struct Prefill {
      Random random{5};
      Model model{{.vocabulary = 256,
                   .width = 256,
                   .feed_forward = 1024,
                   .context = 256,
                   .positions = Positions::kNone,
                   .layers = "8*ab",
                   .schedule = "dyadic"},
                  random};
      Workspace workspace;
      std::vector<std::int32_t> ids;
      Eigen::MatrixXf logits{256, 1};

      explicit Prefill(int n) : workspace(executor(n)) {}
      void read(std::span<const std::int32_t> prompt) {
        auto state = model.make_state({});
        model.extend(prompt, state, Columns<float>(logits.data(), 256, 1, Eigen::OuterStride<>(256)),
                     workspace);
      }
    };
    auto subject = std::make_shared<Prefill>(threads);
    for (Index i = 0; i < T; ++i)
      subject->ids.push_back(static_cast<std::int32_t>(subject->random.below(256)));
    auto c = std::make_unique<Case>();
    c->work = [subject] { subject->read(subject->ids); };
    c->verify = [=] {  // the stack reaches 255 tokens back: what lies further changes nothing
      subject->read(subject->ids);
      const OwnedColumns<float> whole =
          logits_of(subject->model, std::span(subject->ids).last(256), subject->workspace);
      const float error = (whole - subject->logits).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
      return error <= 1e-4F * (1 + whole.cwiseAbs().maxCoeff())
                 ? std::string()
                 : "the last logits differ from those of a pass over the last 256 tokens by " +
                       std::to_string(error);
    };
    c->tokens = static_cast<double>(T);
    c->flop = 2 * 8 * 2 * 256.0 * 1024.0 * c->tokens;
    c->scale = c->flop / Sgemm::kFlop;
    c->yardstick = [threads] { sgemm(threads)(); };
    c->yardstick_name = "sgemm";
    c->budget = budget;
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
  for (const int threads : selection.thread_counts())
    add_prefill(selection.quick ? 256 : 10000, threads, product_target(selection.quick ? 0 : 0.6), 4);
  if (selection.lengthy) add_prefill(1000000, selection.threads, product_target(0.6), 0);
}

}  // namespace hsm::bench
