// SPDX-License-Identifier: MIT
//
// Decode: one token of one stream through a pure (a,b) model of 285 MB of floats (V 4096, L 8, C 1024, F 4096), whose time
// is that of reading the weights. As floats it stands beside a plain sum over as many bytes of memory; with its matrices
// in bf16 and int8 beside the floats, in turns: the figure is how many times as many tokens a second it gives.
#include <hsm/model/language_model.hpp>

#include <array>
#include <cmath>

#include "bench/model/last_logits.hpp"
#include "bench/suites.hpp"
#include "bench/support/registry.hpp"
#include "bench/support/threads.hpp"

namespace hsm::bench {
namespace {

using Model = LanguageModel<float>;

/// The model in floats, made once while any case holds it.
std::shared_ptr<const Model> float_model(bool quick) {
  static std::weak_ptr<const Model> last;
  std::shared_ptr<const Model> model = last.lock();
  if (!model) {
    Random random(7);
    model = std::make_shared<const Model>(LanguageModelConfig{.vocabulary = quick ? 256 : 4096,
                                                              .width = quick ? 64 : 1024,
                                                              .feed_forward = quick ? 256 : 4096,
                                                              .context = 256,
                                                              .positions = Positions::kNone,
                                                              .layers = "8*ab",
                                                              .schedule = "dyadic"},
                                          random);
    last = model;
  }
  return model;
}

std::shared_ptr<const Model> stored_model(bool quick, Storage storage) {
  if (storage == Storage::kFloat) return float_model(quick);
  auto model = std::make_shared<Model>(*float_model(quick));
  store_matrices(*model, storage);
  return model;
}

/// A stream that goes on.
struct Decode {
  Decode(std::shared_ptr<const Model> of, int threads)
      : model(std::move(of)),
        workspace(executor(threads)),
        state(model->make_state()),
        logits(model->config().vocabulary, 1) {}

  void step() {
    model->extend(std::span(&id, 1), state,
                  Columns<float>(logits.data(), logits.rows(), 1, Eigen::OuterStride<>(logits.rows())),
                  workspace);
    id = (id + 1) % 256;
  }

  std::shared_ptr<const Model> model;
  Workspace workspace;
  Model::State state;
  OwnedColumns<float> logits;
  std::int32_t id = 0;
};

void add_decode_case(Storage storage, int threads, bool quick, Target target) {
  const std::string name =
      "decode/8*ab/" + std::string(storage_name(storage)) + "/threads=" + std::to_string(threads);
  add_case(name, target, [=] {
    auto floats = std::make_shared<Decode>(float_model(quick), threads);
    auto subject =
        storage == Storage::kFloat ? floats : std::make_shared<Decode>(stored_model(quick, storage), threads);
    auto c = std::make_unique<Case>();
    c->work = [subject] { subject->step(); };
    c->verify =
        [=] {  // the logits of a few tokens are those of floats read at once, but for what was rounded off
          Decode got(subject->model, threads);
          for (int i = 0; i < 5; ++i) got.step();
          const OwnedColumns<float> expected =
              logits_of(*float_model(quick), std::array{0, 1, 2, 3, 4}, got.workspace);
          const float error = (got.logits - expected).norm() / expected.norm();
          return error <= (storage == Storage::kFloat ? 1e-4F : 0.05F)
                     ? std::string()
                     : "the logits are off by " + std::to_string(error);
        };
    c->tokens = 1;
    c->bytes = static_cast<double>(parameter_bytes(*subject->model));
    if (storage == Storage::kFloat) {
      auto read = std::make_shared<Read>(team(threads), parameter_bytes(*subject->model));
      c->yardstick = [read] { (*read)(); };
      c->yardstick_name = "read";
    } else {
      c->yardstick = [floats] { floats->step(); };
      c->yardstick_name = "float";
    }
    c->budget = 4;
    return c;
  });
}

}  // namespace

void add_decode(const Selection& selection) {
  const auto target = [&](double least) { return Target{selection.quick ? 0 : least}; };
  for (const int threads : selection.thread_counts()) {
    add_decode_case(Storage::kFloat, threads, selection.quick, target(0.85));
    add_decode_case(Storage::kBfloat16, threads, selection.quick, target(1.8));
    add_decode_case(Storage::kInt8, threads, selection.quick, target(3));
  }
}

}  // namespace hsm::bench
