// SPDX-License-Identifier: MIT
//
// Layers as Torch modules: gradients by central differences, states, memory that is shared, what is refused.
#include "torch/torch_cases.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <tuple>

#include <hsm/core/threaded_executor.hpp>

#include "support/matchers.hpp"
#include "support/message_of.hpp"

namespace hsm::test::torch_mixer_test {
namespace {

using torch::Tensor;

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.sizes() == b.sizes() &&
         std::memcmp(a.contiguous().data_ptr(), b.contiguous().data_ptr(), a.nbytes()) == 0;
}

TEST(TorchMixer, HasTheGradientsOfCentralDifferences) {
  for (const std::string& name : kTorchLayers) {
    const auto layer = torch_layer(name);
    const Tensor x = draw({2, 7, 4});
    std::vector<Tensor> inputs = layer->parameters();
    inputs.push_back(x);
    expect_gradients([&] { return std::vector<Tensor>{layer->forward(x)}; }, inputs, name);
  }
}

TEST(TorchMixer, HasTheGradientsOfStates) {
  for (const std::string& name : kTorchLayers) {
    const auto layer = torch_layer(name);
    const Tensor first = draw({2, 3, 4}), second = draw({2, 6, 4});
    TorchState start = layer->extend(draw({2, 5, 4}), layer->make_state(2)).second.detach();
    start.values.requires_grad_();
    std::vector<Tensor> inputs = layer->parameters();
    inputs.insert(inputs.end(), {first, second, start.values});
    const auto chunks = [&] {
      const auto [y, middle] = layer->extend(first, start);
      const auto [z, end] = layer->extend(second, middle);
      EXPECT_EQ(end.counts, (std::vector<Index>{14, 14}));
      return std::vector<Tensor>{y, z, end.values};
    };
    expect_gradients(chunks, inputs, name);
  }
}

TEST(TorchMixer, InChunksIsThatOfTheWholeSequence) {
  for (const std::string& name : kTorchLayers) {
    const auto layer = torch_layer(name);
    const Tensor x = draw({2, 9, 4}), weights = torch::randn({2, 9, 4}, torch::kDouble);
    std::vector<Tensor> inputs = layer->parameters();
    inputs.push_back(x);
    TorchState state = layer->make_state(2);
    std::vector<Tensor> parts;
    for (const Tensor& part : x.split({1, 0, 3, 5}, 1)) {
      auto [y, next] = layer->extend(part, state);
      parts.push_back(y);
      state = next;
    }
    const Tensor whole = layer->forward(x), chunks = torch::cat(parts, 1);
    EXPECT_TRUE(torch::allclose(chunks, whole, 1e-11, 1e-12)) << name;
    const auto expected = torch::autograd::grad({(whole * weights).sum()}, inputs);
    const auto got = torch::autograd::grad({(chunks * weights).sum()}, inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      EXPECT_TRUE(torch::allclose(got[i], expected[i], 1e-10, 1e-11)) << name << ": input " << i;
  }
}

TEST(TorchMixer, AddsTheGradientsOfForks) {
  const auto layer = torch_layer("ab:heads=2");
  const Tensor x = draw({1, 5, 4}), left = draw({1, 3, 4}), right = draw({1, 4, 4});
  const auto state = layer->extend(x, layer->make_state()).second;
  const auto of = [&](const Tensor& more) { return layer->extend(more, state).first.sum(); };
  const auto one = torch::autograd::grad({of(left)}, {x}, {}, true)[0];
  const auto other = torch::autograd::grad({of(right)}, {x}, {}, true)[0];
  const auto both = torch::autograd::grad({of(left) + of(right)}, {x})[0];
  EXPECT_GT(one.abs().sum().item<double>(), 0);
  EXPECT_TRUE(torch::allclose(both, one + other, 1e-12));
  const auto cut = layer->extend(left, state.detach()).first.sum();
  EXPECT_FALSE(torch::autograd::grad({cut}, {x}, {}, false, false, true)[0].defined());
}

TEST(TorchMixer, SharesTheMemoryOfTheMixer) {
  Random random(3);
  Mixer mixer(Gated<float>(4, random), 2);
  const auto layer = torch_mixer(mixer);
  std::vector<std::string> names;
  Gated<float>::visit(
      [&](std::string_view name, const auto& tensor) {
        names.emplace_back(name);
        const Tensor& parameter = layer->named_parameters()[names.back()];
        EXPECT_EQ(parameter.data_ptr(), tensor.data());
        EXPECT_TRUE(parameter.requires_grad());
        EXPECT_EQ(parameter.size(0), tensor.rows());
      },
      layer->mixer().parameters());
  EXPECT_EQ(layer->named_parameters().keys(), names);
  EXPECT_EQ(names, (std::vector<std::string>{"project.weight", "project.bias"}));

  const Tensor x = torch::randn({1, 6, 4});
  torch::optim::SGD optimizer(layer->parameters(), 0.5);
  layer->forward(x).sum().backward();
  optimizer.step();
  EXPECT_NE(layer->mixer().parameters().project.weight, mixer.parameters().project.weight);
  const Tensor y = layer->forward(x);
  Eigen::MatrixXf expected(4, 6);
  layer->mixer().forward(Tokens<const float>(x.data_ptr<float>(), 1, 6, 4), expected);
  EXPECT_EQ(std::memcmp(y.data_ptr(), expected.data(), y.nbytes()), 0);
}

TEST(TorchMixer, ReadsViewsAsTheyLie) {
  const auto layer = torch_layer("gated:heads=2");
  const Tensor buffer = draw({2, 12, 8}), weights = torch::randn({2, 6, 4}, torch::kDouble);
  const std::vector<Tensor> views{
      buffer.index(
          {torch::indexing::Slice(), torch::indexing::Slice(0, 12, 2), torch::indexing::Slice(4, 8)}),
      buffer.index({torch::indexing::Slice(), torch::indexing::Slice(0, 6), torch::indexing::Slice(0, 8, 2)}),
      buffer.view({6, 2, 16})
          .index({torch::indexing::Slice(), torch::indexing::Slice(), torch::indexing::Slice(0, 4)})
          .transpose(0, 1),
      buffer.transpose(1, 2).flatten().slice(0, 0, 6 * 4).view({4, 6}).t().expand({2, 6, 4}),
      buffer.select(0, 0).slice(0, 0, 1).slice(1, 0, 4).expand({2, 6, 4})};
  for (const Tensor& view : views) {
    EXPECT_FALSE(view.is_contiguous());
    const auto gradient = [&](const Tensor& x) {
      const Tensor y = layer->forward(x);
      EXPECT_TRUE(y.is_contiguous());
      // That of a transposed result lies otherwise, that of a sum is one value, expanded.
      const Tensor turned = (y.transpose(1, 2) * weights.transpose(1, 2)).sum();
      const Tensor dx = torch::autograd::grad({turned}, {buffer}, {}, true)[0];
      return std::tuple(y, dx, torch::autograd::grad({y.sum()}, {buffer})[0]);
    };
    const auto [y, dx, ones] = gradient(view);
    const auto [expected_y, expected_dx, expected_ones] = gradient(view.contiguous());
    EXPECT_TRUE(same_bits(y, expected_y));
    EXPECT_TRUE(same_bits(dx, expected_dx));
    EXPECT_TRUE(same_bits(ones, expected_ones));
  }
}

/// A layer that tells whether its last call was recorded.
struct WatchedSum : FadingSum<double> {
  using FadingSum::FadingSum;
  void run(const Tokens<const double>& x, std::span<const Segment> segments, const Tokens<double>& y,
           State* state, Saved* saved, Workspace& workspace) const {
    was_recorded = saved != nullptr;
    FadingSum::run(x, segments, y, state, saved, workspace);
  }
  static inline bool was_recorded = false;
};

TEST(TorchMixer, RecordsNothingWhereNobodyAsksForGradients) {
  const auto layer = torch_mixer(TokenMixer<WatchedSum>(WatchedSum(4)));
  const Tensor x = torch::randn({1, 5, 4}, torch::kDouble);
  const auto is_recorded = [&](const Tensor& input) {
    layer->forward(input);
    const bool forward = WatchedSum::was_recorded;
    layer->extend(input, layer->make_state());
    EXPECT_EQ(WatchedSum::was_recorded, forward);
    return forward;
  };
  EXPECT_TRUE(is_recorded(x));
  {
    const torch::NoGradGuard without;
    EXPECT_FALSE(is_recorded(x));
  }
  {
    const c10::InferenceMode inference;
    EXPECT_FALSE(is_recorded(x));
  }
  layer->parameters()[0].requires_grad_(false);
  EXPECT_FALSE(is_recorded(x));
  EXPECT_TRUE(is_recorded(x.clone().requires_grad_()));
}

TEST(TorchMixer, HasNoGraphWhereNobodyAsksForGradients) {
  const auto layer = torch_layer("attention:heads=2");
  const Tensor x = torch::randn({1, 5, 4}, torch::kDouble), expected = layer->forward(x);
  EXPECT_TRUE(expected.requires_grad());
  {
    const torch::NoGradGuard without;
    const Tensor y = layer->forward(x);
    EXPECT_FALSE(y.requires_grad());
    EXPECT_TRUE(same_bits(y, expected));
    EXPECT_FALSE(layer->extend(x, layer->make_state()).second.values.requires_grad());
  }
  {
    const c10::InferenceMode inference;
    const Tensor y = layer->forward(x.clone());
    EXPECT_TRUE(y.is_inference());
    EXPECT_TRUE(same_bits(y, expected));
  }
  for (Tensor& parameter : layer->parameters()) parameter.requires_grad_(false);
  EXPECT_FALSE(layer->forward(x).requires_grad());
  const Tensor input = x.clone().requires_grad_();
  layer->forward(input).sum().backward();
  EXPECT_GT(input.grad().abs().sum().item<double>(), 0);
  EXPECT_FALSE(layer->parameters()[0].grad().defined());
}

TEST(TorchMixer, LetsGoOfItsRecordAsTorchDoes) {
  const auto executor = std::make_shared<SerialExecutor>();
  Random random(3);
  auto layer = torch_mixer(Mixer(Gated<double>(4, random), 2), executor);
  for (Tensor& parameter : layer->parameters()) parameter.requires_grad_(false);
  const Tensor x = draw({1, 5, 4});
  const Tensor loss = layer->forward(x).square().sum();
  layer = nullptr;
  loss.backward({}, true);
  const Tensor once = x.grad().clone();
  EXPECT_EQ(executor.use_count(), 2) << "the record is gone, or is there twice";
  loss.backward();
  EXPECT_TRUE(torch::allclose(x.grad(), 2 * once));
  EXPECT_EQ(executor.use_count(), 1) << "the record is still there";
  EXPECT_NE(message_of([&] { loss.backward(); }).find("second time"), std::string::npos);
}

TEST(TorchMixer, RefusesSecondDerivatives) {
  const auto layer = torch_layer("gated:heads=2");
  const Tensor x = draw({1, 5, 4});
  const auto penalty = [&](const std::vector<Tensor>& gradients) {
    return message_of<std::logic_error>([&] { gradients[0].square().sum().backward(); });
  };
  const std::string expected =
      "TorchMixer: its gradients cannot be differentiated once more; a second derivative was asked of them "
      "(create_graph)";
  const auto create_graph = [](const Tensor& y, const Tensor& of) {
    return torch::autograd::grad({y.square().sum()}, {of}, {}, true, true);
  };
  EXPECT_EQ(penalty(create_graph(layer->forward(x), x)), expected);
  EXPECT_EQ(penalty(create_graph(layer->forward(x), layer->parameters()[0])), expected);
  const auto state = layer->extend(x, layer->make_state()).second;
  EXPECT_EQ(penalty(create_graph(layer->extend(x, state).first, state.values)), expected);
}

TEST(TorchMixer, RefusesGradientsForWeightsThatAreGone) {
  const auto layer = torch_layer("gated:heads=2");
  const auto changed = [&](const std::function<void()>& change) {
    const Tensor loss = layer->forward(draw({1, 5, 4})).sum();
    const torch::NoGradGuard without;
    change();
    return message_of([&] { loss.backward(); });
  };
  Tensor weight = layer->parameters()[0];
  EXPECT_NE(changed([&] { weight.add_(1); }).find("modified by an inplace operation"), std::string::npos);
  const auto replace = [&] {
    weight.set_data(weight.detach() + 1);
    layer->forward(draw({1, 5, 4}));
  };
  EXPECT_NE(changed(replace).find("modified by an inplace operation"), std::string::npos);
  EXPECT_EQ(changed([] {}), "nothing");
}

TEST(TorchMixer, TakesOverParametersThatWereReplaced) {
  const auto layer = torch_layer("gated:heads=2"), other = torch_layer("gated:heads=2", 2);
  const Tensor x = draw({1, 5, 4}), before = layer->forward(x);
  Tensor weight = layer->parameters()[0];
  const void* const memory = weight.data_ptr();
  weight.set_data(weight.detach() + 1);
  EXPECT_NE(weight.data_ptr(), memory);
  EXPECT_FALSE(torch::allclose(layer->forward(x), before));
  EXPECT_EQ(weight.data_ptr(), memory);
  EXPECT_EQ(layer->parameters()[0].data_ptr(), memory);

  std::stringstream file;
  torch::save(layer, file);
  const auto loaded = torch_layer("gated:heads=2");
  auto target = loaded;
  torch::load(target, file);
  EXPECT_TRUE(same_bits(loaded->forward(x), layer->forward(x)));

  layer->to(torch::kFloat);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { layer->forward(x); }),
            "TorchMixer::forward: the type of parameter project.weight must be Double, got Float");
  layer->to(torch::kDouble);
  EXPECT_TRUE(torch::allclose(layer->forward(x), loaded->forward(x), 1e-4, 1e-5));
  weight.set_data(torch::zeros({2, 4}, torch::kDouble));
  EXPECT_EQ(message_of<std::invalid_argument>([&] { layer->forward(x); }),
            "TorchMixer::forward: parameter project.weight must be [4,4], got [2,4]");
}

TEST(TorchMixer, OverwritesNothingThatAnotherTensorSees) {
  const auto layer = torch_layer("ab:heads=2");
  const Tensor x = draw({1, 5, 4}), before = layer->forward(x);
  Tensor a = layer->parameters()[0], b = layer->parameters()[1];
  // Weights of another kind for a while, and back.
  const Tensor kept = a.data(), values = kept.clone(), other = torch::ones_like(kept);
  a.set_data(other);
  const std::string refused = message_of<std::invalid_argument>([&] { layer->forward(x); });
  EXPECT_NE(refused.find("keep a clone()"), std::string::npos) << refused;
  EXPECT_TRUE(same_bits(kept, values));
  a.set_data(kept);
  EXPECT_TRUE(same_bits(layer->forward(x), before));
  // Each other's memory.
  const Tensor a_memory = a.data();
  a.set_data(b.data());
  b.set_data(a_memory);
  EXPECT_NE(message_of<std::invalid_argument>([&] { layer->forward(x); }), "nothing");
  EXPECT_TRUE(same_bits(b, values));
}

TEST(TorchMixer, ComparesAStateBeforeItTakesMemory) {
  const auto layer = torch_layer("attention:heads=2");
  const auto extend = [&](std::vector<Index> counts) {
    return message_of<std::invalid_argument>([&] {
      layer->extend(draw({1, 3, 4}), {torch::zeros({16}, torch::kDouble), std::move(counts)});
    });
  };
  EXPECT_EQ(extend({Index{1} << 40}),
            "TorchMixer::extend: the values of the state must be those of as many tokens as its counts say, "
            "got [16]");
  EXPECT_EQ(extend({3}),
            "TorchMixer::extend: the values of the state must be those of as many tokens as its counts say, "
            "got [16]");
  EXPECT_EQ(extend({1}), "TorchMixer::extend: the values of the state must be [8], got [16]");
  const std::string far = extend({std::numeric_limits<Index>::max()});
  EXPECT_NE(far.find("a count of the state must be at most"), std::string::npos) << far;
}

TEST(TorchMixer, ClonesIntoMemoryOfItsOwn) {
  const auto layer = torch_layer("hkt:heads=2:levels=3");
  layer->parameters()[0].requires_grad_(false);
  const auto copy = std::dynamic_pointer_cast<TorchModule>(layer->clone());
  const Tensor x = draw({1, 5, 4}), expected = layer->forward(x);
  EXPECT_TRUE(same_bits(copy->forward(x), expected));
  EXPECT_FALSE(copy->parameters()[0].requires_grad());
  EXPECT_TRUE(copy->parameters()[1].requires_grad());
  const torch::NoGradGuard without;
  copy->parameters()[1].add_(1);
  EXPECT_TRUE(same_bits(layer->forward(x), expected));
  EXPECT_EQ(message_of<std::invalid_argument>([&] { layer->clone(torch::Device(torch::kMeta)); }),
            "TorchMixer::clone: the device must be cpu, got meta");
}

TEST(TorchMixer, SaysWhatItExpected) {
  const auto layer = torch_layer("ab:heads=2");
  const auto state = layer->make_state(2);
  const auto forward = [&](const Tensor& x) {
    return message_of<std::invalid_argument>([&] { layer->forward(x); });
  };
  const auto extend = [&](const Tensor& x, const TorchState& from) {
    return message_of<std::invalid_argument>([&] { layer->extend(x, from); });
  };
  const std::string who = "TorchMixer::forward: ";
  EXPECT_EQ(forward(torch::zeros({2, 3, 4})), who + "the type of x must be Double, got Float");
  EXPECT_EQ(forward(torch::zeros({3, 4}, torch::kDouble)), who + "x must be [B,T,4], got [3,4]");
  EXPECT_EQ(forward(torch::zeros({2, 3, 5}, torch::kDouble)), who + "x must be [B,T,4], got [2,3,5]");
  EXPECT_EQ(forward(Tensor()), who + "x must be a tensor, got an undefined one");
  EXPECT_EQ(forward(torch::zeros({2, 3, 4}, torch::TensorOptions(torch::kDouble).device(torch::kMeta))),
            who + "the device of x must be cpu, got meta");
  EXPECT_EQ(forward(torch::zeros({2, 3, 4}, torch::kDouble).to_sparse()),
            who + "the layout of x must be Strided, got Sparse");
  const Tensor x = torch::zeros({2, 3, 4}, torch::kDouble);
  const std::string more = "TorchMixer::extend: ";
  EXPECT_EQ(extend(x.slice(0, 0, 1), state), more + "the batch of x (streams) must be 2, got 1");
  EXPECT_EQ(extend(x, {state.values, {1, 0}}), more + "the values of the state must be [4], got [0]");
  EXPECT_EQ(extend(x, {state.values, {-1, 0}}), more + "a count of the state must be at least 0, got -1");
  EXPECT_EQ(extend(x, {torch::empty({0}), {0, 0}}),
            more + "the type of the values of the state must be Double, got Float");
  EXPECT_EQ(extend(x, {Tensor(), {0, 0}}),
            more + "the values of the state must be a tensor, got an undefined one");
  EXPECT_EQ(message_of<std::invalid_argument>([&] { layer->make_state(-1); }),
            "TorchMixer::make_state: streams must be at least 0, got -1");
}

TEST(TorchMixer, TakesNothing) {
  for (const std::string& name : kTorchLayers) {
    const auto layer = torch_layer(name);
    for (const auto& sizes : {std::vector<std::int64_t>{0, 3, 4}, {2, 0, 4}}) {
      const Tensor x = draw(sizes);
      layer->forward(x).sum().backward();
      EXPECT_EQ(x.grad().sizes(), x.sizes());
      TorchState state = layer->extend(draw({sizes[0], 5, 4}), layer->make_state(sizes[0])).second.detach();
      state.values.requires_grad_();
      const auto [y, next] = layer->extend(x, state);
      EXPECT_TRUE(sizes[0] == 0 || same_bits(next.values, state.values)) << name;
      const Tensor unused = torch::autograd::grad({layer->extend(x, state).first.sum()}, {state.values})[0];
      EXPECT_TRUE(torch::equal(unused, torch::zeros_like(state.values))) << name;
      (y.sum() + (next.values * 3).sum()).backward();
      EXPECT_TRUE(torch::equal(state.values.grad(), 3 * torch::ones_like(state.values))) << name;
    }
  }
}

/// Threads, and how often they were asked.
struct CountingExecutor final : Executor {
  int workers() const override { return 2; }
  void run(Index tasks, TaskRef task) override {
    ++loops;
    own.run(tasks, task);
  }
  std::atomic<int> loops = 0;
  ThreadedExecutor own{2};
};

TEST(TorchMixer, RunsOnAnExecutorAndInThreads) {
  Random random(5);
  const Mixer mixer(Gated<float>(64, random), 8);
  const auto executor = std::make_shared<CountingExecutor>();
  const auto serial = torch_mixer(mixer), parallel = torch_mixer(mixer, executor);
  const Tensor x = torch::randn({4, 200, 64});
  const auto run = [&](const auto& layer) {
    const Tensor own = x.clone().requires_grad_();
    const Tensor y = layer->forward(own);
    const Tensor weight = layer->parameters()[0];
    const auto gradients = torch::autograd::grad({y.square().sum()}, {own, weight});
    return std::vector<Tensor>{y, gradients[0], gradients[1]};
  };
  const auto expected = run(serial);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::vector<Tensor>> results(2);
    std::thread thread([&] { results[0] = run(parallel); });
    results[1] = run(parallel);
    thread.join();
    for (const auto& result : results)
      for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(result[i], expected[i])) << i;
  }
  EXPECT_GT(executor->loops, 0);
}

}  // namespace
}  // namespace hsm::test::torch_mixer_test
