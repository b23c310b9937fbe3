// SPDX-License-Identifier: MIT
//
// What attention refuses, and the sentence it says; nothing changes then.
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::errors_test {
namespace {

TEST(AttentionErrors, NoStreamsAreNothingToDoHoweverLong) {
  const auto attention = make_attention<float>(8, 2);
  auto state = attention.make_state({.streams = 0});
  Workspace workspace;
  const Tokens<float> nothing(nullptr, 0, 5000, 8);  // more than a pass takes
  attention.extend(nothing, state, nothing, workspace);
  attention.fill(nothing, state, workspace);
  EXPECT_EQ(state.streams(), 0);
}

TEST(AttentionErrors, SayWhatWasExpectedAndWhatCame) {
  const auto attention = make_attention<float>(8, 2);
  Workspace workspace;
  std::vector<float> memory(4096);
  const auto tokens = [&](Index B, Index T, Index C, Index at) {
    return Tokens<float>(memory.data() + at, B, T, C);
  };
  const auto forward = [&](Tokens<float> x, Tokens<float> y) {
    return message_of([&] { attention.forward(x, y, workspace); });
  };
  EXPECT_EQ(forward(tokens(2, 3, 8, 0), tokens(2, 3, 4, 1000)),
            "CausalAttention::forward: y must be [2,3,8], got [2,3,4]");
  EXPECT_EQ(forward(tokens(2, 3, 9, 0), tokens(2, 3, 9, 1000)),
            "CausalAttention::forward: the channels of x must be 8, got 9");
  EXPECT_EQ(forward(tokens(2, 3, 8, 0), tokens(2, 3, 8, 40)),
            "CausalAttention::forward: x and y must be apart in memory, got buffers that overlap");
  EXPECT_EQ(forward(tokens(2, 3, 8, 0), tokens(2, 3, 8, 48)), "nothing");

  auto state = attention.make_state({.streams = 4});
  EXPECT_EQ(message_of([&] { attention.step(tokens(3, 1, 8, 0), state, tokens(3, 1, 8, 1000), workspace); }),
            "CausalAttention::step: x must be one token for each of 4 streams, got [3,1,8]");
  EXPECT_EQ(message_of([&] { attention.step(tokens(1, 4, 8, 0), state, tokens(4, 1, 7, 1000), workspace); }),
            "CausalAttention::step: y must be [4,1,8], got [4,1,7]");
  EXPECT_EQ(
      message_of([&] { attention.extend(tokens(3, 5, 8, 0), state, tokens(3, 5, 8, 1000), workspace); }),
      "CausalAttention::extend: the batch of x (streams) must be 4, got 3");
  auto other = make_attention<float>(8, 4).make_state({.streams = 4});
  EXPECT_EQ(
      message_of([&] { attention.step(tokens(4, 1, 8, 0), other, tokens(4, 1, 8, 1000), workspace); }),
      "CausalAttention::step: the state must be one of this layer, with 8 channels, 2 heads, rotary base 0 "
      "and window 0, got one with 8 channels, 4 heads, rotary base 0 and window 0");

  const auto packed = [&](std::vector<Index> offsets) {
    return message_of(
        [&] { attention.packed(tokens(1, 6, 8, 0), offsets, tokens(1, 6, 8, 1000), workspace); });
  };
  EXPECT_EQ(packed({}),
            "CausalAttention::packed: offsets must be a list that begins with 0, got an empty one");
  EXPECT_EQ(packed({1, 6}), "CausalAttention::packed: offsets must be a list that begins with 0, got 1");
  EXPECT_EQ(packed({0, 4, 3, 6}),
            "CausalAttention::packed: offset 2 must be at least the one before, 4, got 3");
  EXPECT_EQ(packed({0, 5}), "CausalAttention::packed: the last offset must be 6, the tokens of x, got 5");
  EXPECT_EQ(packed({0, 2, 6}), "nothing");

  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  const auto backward = [&](Tokens<float> x, Tokens<float> dy, Tokens<float> dx) {
    return message_of([&] { attention.backward(x, saved, dy, dx, gradients, workspace); });
  };
  EXPECT_EQ(
      backward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), tokens(1, 6, 8, 2000)),
      "CausalAttention::backward: saved must be the record of a forward, packed or extend, got one that "
      "nothing was saved in");
  attention.forward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), saved, workspace);
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 5, 8, 1000), tokens(1, 6, 8, 2000)),
            "CausalAttention::backward: dy must be [1,6,8], got [1,5,8]");
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), tokens(1, 6, 8, 1000)),
            "CausalAttention::backward: dy and dx must be apart in memory, got buffers that overlap");
  gradients.output.bias.resize(3);
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), tokens(1, 6, 8, 2000)),
            "CausalAttention::backward: the gradient of output.bias must be [8,1], got [3,1]");
}

TEST(AttentionErrors, AStateHasChannels) {
  for (const Index C : {Index{0}, Index{-4}}) {
    EXPECT_EQ(message_of([&] { AttentionState<float>(C, 1, {}); }),
              "AttentionState: channels must be at least 1, got " + std::to_string(C));
  }
}

TEST(AttentionErrors, ChosenStreamsAreCheckedBeforeAnythingChanges) {
  const auto attention = make_attention<float>(4, 2);
  Workspace workspace;
  Random random(6);
  const auto x = random_matrix<float>(4, 6, random);
  Matrix<float> y = Matrix<float>::Constant(4, 6, 3.0f);
  const Matrix<float> y_before = y;
  auto state = attention.make_state({.streams = 3});
  Matrix<float> scratch(4, 3);
  attention.step(x.leftCols(3), state, scratch, workspace);
  const auto before = state;
  auto saved = attention.make_saved();
  const auto extend = [&](std::vector<Index> offsets, std::vector<Index> streams) {
    const auto plain = message_of([&] { attention.extend(x, offsets, streams, state, y, workspace); });
    EXPECT_EQ(message_of([&] { attention.extend(x, offsets, streams, state, y, saved, workspace); }), plain);
    return plain;
  };
  EXPECT_EQ(extend({0, 2, 6}, {1}),
            "CausalAttention::extend: the number of streams must be 2, one for each part of x, got 1");
  EXPECT_EQ(extend({0, 2, 6}, {1, 3}), "CausalAttention::extend: a stream must be 0 to 2, got 3");
  EXPECT_EQ(extend({0, 2, 6}, {-1, 2}), "CausalAttention::extend: a stream must be 0 to 2, got -1");
  EXPECT_EQ(extend({0, 2, 3, 6}, {2, 0, 2}),
            "CausalAttention::extend: the streams must be different ones, got stream 2 twice");
  EXPECT_EQ(extend({0, 2, 5}, {0, 1}),
            "CausalAttention::extend: the last offset must be 6, the tokens of x, got 5");
  EXPECT_EQ(extend({}, {}),
            "CausalAttention::extend: offsets must be a list that begins with 0, got an empty one");
  const auto step = [&](Index tokens, std::vector<Index> streams) {
    return message_of(
        [&] { attention.step(x.leftCols(tokens), streams, state, y.leftCols(tokens), workspace); });
  };
  EXPECT_EQ(step(3, {1, 2}), "CausalAttention::step: x must be one token for each of 2 streams, got [1,3,4]");
  EXPECT_EQ(step(2, {1, 1}), "CausalAttention::step: the streams must be different ones, got stream 1 twice");
  EXPECT_EQ(step(1, {3}), "CausalAttention::step: a stream must be 0 to 2, got 3");
  const Tokens<const float> batch(x.data(), 2, 3, 4);
  const std::vector<Index> offsets = {0, 3}, streams = {0};
  EXPECT_EQ(message_of([&] {
              attention.extend(batch, offsets, streams, state, Tokens<float>(y.data(), 2, 3, 4), workspace);
            }),
            "CausalAttention::extend: the batch of x must be 1, got 2");
  EXPECT_EQ(
      message_of([&] { attention.packed(batch, offsets, Tokens<float>(y.data(), 2, 3, 4), workspace); }),
      "CausalAttention::packed: the batch of x must be 1, got 2");
  expect_same_state(state, before, "after refusals");
  expect_same_bits(y, y_before, "y after refusals");
  EXPECT_EQ(extend({0, 0, 6, 6}, {2, 0, 1}), "nothing");
  Matrix<float> none(4, 0);
  EXPECT_EQ(message_of([&] { attention.step(none, {}, state, none, workspace); }), "nothing");
}

TEST(AttentionErrors, TheGradientOfAStateFitsTheStateThatWasExtended) {
  const auto attention = make_attention<float>(4, 2);
  Workspace workspace;
  Random random(7);
  const auto x = random_matrix<float>(4, 6, random);
  Matrix<float> y(4, 6), dx = Matrix<float>::Constant(4, 6, 3.0f);
  const Matrix<float> dx_before = dx;
  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  const auto backward = [&](AttentionState<float> state_gradient) {
    const auto before = state_gradient;
    const auto message =
        message_of([&] { attention.backward(x, saved, x, dx, gradients, workspace, &state_gradient); });
    expect_same_state(state_gradient, before, "after a refusal");
    return message;
  };
  attention.forward(x, y, saved, workspace);
  EXPECT_EQ(
      backward(attention.make_state()),
      "CausalAttention::backward: state_gradient must be absent unless saved is the record of an extend, "
      "got one");
  auto state = attention.make_state({.streams = 3});
  const std::vector<Index> offsets = {0, 4, 6}, streams = {2, 0};
  attention.extend(x, offsets, streams, state, y, saved, workspace);
  EXPECT_EQ(backward(attention.make_state({.streams = 2})),
            "CausalAttention::backward: the streams of state_gradient must be 3, got 2");
  EXPECT_EQ(backward(make_attention<float>(4, 4).make_state({.streams = 3})),
            "CausalAttention::backward: state_gradient must be one of this layer, with 4 channels, 2 heads, "
            "rotary base 0 and window 0, got one with 4 channels, 4 heads, rotary base 0 and window 0");
  auto longer = attention.make_state({.streams = 3});
  longer.resize(1, 100);  // not named by the call
  longer.resize(2, 5);
  EXPECT_EQ(backward(longer),
            "CausalAttention::backward: the tokens of stream 2 in state_gradient must be at most 4, what the "
            "call left, got 5");
  EXPECT_EQ(backward(attention.make_state({.streams = 3, .capacity = 3})),
            "CausalAttention::backward: the capacity of state_gradient must be at least 4, the tokens of "
            "stream 2, got 3");
  expect_same_bits(dx, dx_before, "dx after refusals");
  for (const float value : flat(gradients)) EXPECT_EQ(value, 0.0f);
  longer.rewind(2, 1);
  EXPECT_EQ(message_of([&] { attention.backward(x, saved, x, dx, gradients, workspace, &longer); }),
            "nothing");
  EXPECT_EQ(longer.count(1), 100);
}

TEST(AttentionErrors, StatesAndRecordsOfOtherRotaryPositionsAreRefused) {
  const auto attention = make_attention<float>(8, 2, {10000}), plain = make_attention<float>(8, 2);
  Workspace workspace;
  Random random(8);
  const auto x = random_matrix<float>(8, 6, random);
  Matrix<float> y(8, 6), dx(8, 6);
  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  auto state = plain.make_state();
  EXPECT_EQ(message_of([&] { attention.extend(x, state, y, workspace); }),
            "CausalAttention::extend: the state must be one of this layer, with 8 channels, 2 heads, "
            "rotary base 10000 and window 0, got one with 8 channels, 2 heads, rotary base 0 and window 0");
  EXPECT_EQ(message_of([&] { attention.step(x.col(0), state, y.col(0), workspace); }),
            "CausalAttention::step: the state must be one of this layer, with 8 channels, 2 heads, rotary "
            "base 10000 and window 0, got one with 8 channels, 2 heads, rotary base 0 and window 0");
  plain.forward(x, y, saved, workspace);
  const auto backward = [&](AttentionState<float>* state_gradient) {
    return message_of([&] { attention.backward(x, saved, x, dx, gradients, workspace, state_gradient); });
  };
  EXPECT_EQ(backward(nullptr),
            "CausalAttention::backward: saved must be the record of this layer, got another's");
  plain.extend(x, state, y, saved, workspace);
  EXPECT_EQ(backward(nullptr),
            "CausalAttention::backward: saved must be the record of this layer, got another's");
  auto own = attention.make_state();
  attention.extend(x, own, y, saved, workspace);
  state.reset();
  EXPECT_EQ(backward(&state),
            "CausalAttention::backward: state_gradient must be one of this layer, with 8 channels, 2 heads, "
            "rotary base 10000 and window 0, got one with 8 channels, 2 heads, rotary base 0 and window 0");
  for (const float value : flat(gradients)) EXPECT_EQ(value, 0.0f);
  EXPECT_EQ(backward(&own), "nothing");
}

TEST(AttentionErrors, StatesAndRecordsOfAnotherWindowAreRefused) {
  const auto attention = make_attention<float>(8, 2, {0, 5}), other = make_attention<float>(8, 2, {0, 6});
  const auto dense = make_attention<float>(8, 2);
  Workspace workspace;
  Random random(9);
  const auto x = random_matrix<float>(8, 6, random);
  Matrix<float> y(8, 6), dx(8, 6);
  auto gradients = attention.make_gradients();
  for (const auto* layer : {&other, &dense}) {
    const std::string theirs = std::to_string(layer->window());
    auto saved = attention.make_saved();
    auto state = layer->make_state();
    EXPECT_EQ(
        message_of([&] { attention.extend(x, state, y, workspace); }),
        "CausalAttention::extend: the state must be one of this layer, with 8 channels, 2 heads, rotary "
        "base 0 and window 5, got one with 8 channels, 2 heads, rotary base 0 and window " +
            theirs);
    const auto backward = [&] {
      return message_of([&] { attention.backward(x, saved, x, dx, gradients, workspace); });
    };
    layer->forward(x, y, saved, workspace);
    EXPECT_EQ(backward(), "CausalAttention::backward: saved must be the record of this layer, got another's");
    layer->extend(x, state, y, saved, workspace);
    EXPECT_EQ(backward(), "CausalAttention::backward: saved must be the record of this layer, got another's");
    auto own = attention.make_state();
    attention.extend(x, own, y, saved, workspace);
    EXPECT_EQ(backward(), "nothing");
  }
}

TEST(AttentionErrors, StatesOfOtherBlocksAndRecordsOfAnotherChoiceAreRefused) {
  const auto attention = make_attention<float>(8, 2, {0, 0, 5, 2});
  Workspace workspace;
  Random random(9);
  const auto x = random_matrix<float>(8, 6, random);
  Matrix<float> y(8, 6), dx(8, 6);
  auto gradients = attention.make_gradients();
  for (const Form& form : {Form{}, Form{0, 0, 6, 2}, Form{0, 0, 5, 1}}) {
    const auto other = make_attention<float>(8, 2, form);
    auto saved = attention.make_saved();
    auto state = other.make_state();
    EXPECT_EQ(message_of([&] { attention.extend(x, state, y, workspace); }),
              form.block == 5
                  ? "nothing"
                  : "CausalAttention::extend: the state must be one of this layer, with 8 channels, 2 "
                    "heads, rotary base 0 and window 0 and blocks of 5 tokens, got one with 8 channels, "
                    "2 heads, rotary base 0 and window 0" +
                        std::string(form.block > 0 ? " and blocks of 6 tokens" : ""));
    other.forward(x, y, saved, workspace);
    EXPECT_EQ(message_of([&] { attention.backward(x, saved, x, dx, gradients, workspace); }),
              "CausalAttention::backward: saved must be the record of this layer, got another's");
  }
}

TEST(AttentionErrors, RefuseParametersThatDoNotFit) {
  Random random(1);
  EXPECT_EQ(message_of([&] { Attention<float>(10, 4, random); }),
            "Attention: heads must be a divisor of 10 channels, got 4");
  EXPECT_EQ(message_of([&] { Attention<float>(0, 1, random); }),
            "Attention: channels must be at least 1, got 0");
  EXPECT_EQ(message_of([&] { Attention<float>(6, 2, random, {.rotary = 10000}); }),
            "Attention: the width of a head with rotary positions must be even, got 3 (6 channels, 2 heads)");
  EXPECT_EQ(message_of([&] { Attention<float>(8, 2, random, {.rotary = 1}); }),
            "Attention: rotary must be 0 for none or a base of at least 2, got 1");
  EXPECT_EQ(message_of([&] { Attention<float>(8, 2, random, {.rotary = -2}); }),
            "Attention: rotary must be 0 for none or a base of at least 2, got -2");
  EXPECT_EQ(message_of([&] { Attention<float>(8, 2, random, {.window = -1}); }),
            "Attention: window must be 0 for all tokens or at least 1, at most " +
                std::to_string(std::numeric_limits<Index>::max() / 4) + ", got -1");
  const std::string most = std::to_string(std::numeric_limits<Index>::max() / 4);
  EXPECT_EQ(message_of([&] { Attention<float>(8, 2, random, {.block = -1, .top = 1}); }),
            "Attention: block must be 0 for none or at least 1, at most " + most + ", got -1");
  EXPECT_EQ(message_of([&] { Attention<float>(8, 2, random, {.block = 4, .top = -2}); }),
            "Attention: top must be 0 for none or at least 1, at most " + most + ", got -2");
  EXPECT_EQ(
      message_of([&] { Attention<float>(8, 2, random, {.block = 4}); }),
      "Attention: block and top must be both 0, for no blocks, or both at least 1, got block 4 and top 0");
  EXPECT_EQ(
      message_of([&] { Attention<float>(8, 2, random, {.top = 3}); }),
      "Attention: block and top must be both 0, for no blocks, or both at least 1, got block 0 and top 3");
  EXPECT_EQ(message_of([&] { Attention<float>(8, 2, random, {.window = 7, .block = 4, .top = 2}); }),
            "Attention: one of block and window must be 0, got block 4 and window 7");
  auto windowed = make_attention<float>(8, 2, {0, 3});
  EXPECT_EQ(message_of([&] { windowed.make_state({.spare = -1}); }),
            "AttentionState: spare must be at least 0, got -1");
  EXPECT_THROW(windowed.make_state({.spare = std::numeric_limits<Index>::max() / 2}), std::invalid_argument);
  windowed.parameters().window = -3;
  EXPECT_THROW(windowed.make_state(), std::invalid_argument);
  Attention<float> odd(6, 2, random);
  odd.rotary = 2;
  EXPECT_EQ(message_of([&] { CausalAttention<float> attention(odd); }),
            "CausalAttention: the width of a head with rotary positions must be even, got 3 (6 channels, 2 "
            "heads)");
  Attention<float> parameters(8, 2, random);
  parameters.project.weight.resize(20, 8);
  EXPECT_EQ(
      message_of([&] { CausalAttention<float> attention(parameters); }),
      "CausalAttention: project must be [24,8] with a bias of 24 rows, got [20,8] with a bias of 24 rows");
  const auto attention = make_attention<float>(8, 2);
  EXPECT_EQ(message_of([&] { attention.make_state({.streams = -1}); }),
            "AttentionState: streams must be at least 0, got -1");
  EXPECT_EQ(message_of([&] { attention.make_state({.spare = -1}); }),
            "AttentionState: spare must be at least 0, got -1");
  EXPECT_EQ(message_of([&] { attention.make_state({.capacity = -1}); }),
            "AttentionState: capacity must be at least 0, got -1");
  EXPECT_THROW(attention.make_state({.capacity = std::numeric_limits<Index>::max() / 4}), std::length_error);
}

TEST(AttentionParameters, AreVisitedUnderTheirNames) {
  const auto attention = make_attention<double>(6, 3);
  auto gradients = attention.make_gradients();
  std::vector<std::string> names;
  CausalAttention<double>::visit(
      [&](std::string_view name, const auto& tensor, auto& gradient) {
        names.emplace_back(name);
        EXPECT_EQ(tensor.size(), gradient.size());
        EXPECT_EQ(gradient.norm(), 0);
      },
      attention, gradients);
  EXPECT_EQ(names,
            (std::vector<std::string>{"project.weight", "project.bias", "output.weight", "output.bias"}));
  EXPECT_EQ(count_parameters(attention.parameters()), 4 * 6 * 6 + 4 * 6);
}

TEST(AttentionUsual, IsOneHeadThatSeesAll) {
  const Attention<float> plain;
  EXPECT_EQ(plain.heads, 1);
  EXPECT_TRUE(plain.rotary == 0 && plain.window == 0 && plain.block == 0 && plain.top == 0);
}

}  // namespace
}  // namespace hsm::test::errors_test
