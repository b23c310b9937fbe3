// SPDX-License-Identifier: MIT
//
// What is refused, in which words, and that a refused call changes nothing.
#include <hsm/shift/stack.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::errors_test {
namespace {

using Pair = ScalarPair<float>;
using Data = Activations<float>;

TEST(MixerErrors, ShiftsAndHeadsAreChecked) {
  const Pair pair(12, 3);
  expect_refused([&] { Mixer(pair, 0); }, "Mixer: shift must be at least 1, got 0");
  expect_refused([&] { Mixer(pair, -1); }, "Mixer: shift must be at least 1, got -1");
  const Index most = Index{1} << (kIndexBits - 6);  // 2^57, or 2^25
  EXPECT_EQ(Mixer(pair, most).shift(0), most);
  expect_refused([&] { Mixer(pair, most + 1); }, "Mixer: shift must be at most 2^" +
                                                     std::to_string(kIndexBits - 6) + ", got " +
                                                     std::to_string(most + 1));
  expect_refused([&] { Mixer(pair, Shifts{1, 2}); }, "Mixer: the shifts must be 3, one per head, got 2");
  expect_refused([&] { Mixer(pair, Shifts{1, 2, 0}); }, "Mixer: shift must be at least 1, got 0");
  EXPECT_THROW(Mixer(pair, 1).shift(3), std::out_of_range);
  EXPECT_THROW(Mixer(pair, 1).shift(-1), std::out_of_range);
}

// Rings of the same size, of other values.
TEST(MixerErrors, TheStateOfAnotherPolicyIsRefused) {
  Random random(1);
  const Mixer pair(Pair(4), 2);
  const Mixer matrix(MatrixPair<float>(4, random), 2);
  Data x(1, 3, 4, random), y(1, 3, 4);
  Workspace workspace;
  auto state = matrix.make_state();
  expect_refused(
      [&] { pair.extend(x.view(), state, y.view(), workspace); },
      "Mixer::extend: the state must be one of this layer, with rings of 4 x 2 values of ab, got one "
      "with rings of 4 x 2 values of matrix");
  EXPECT_EQ(state.count(0), 0);
  auto own = pair.make_state();
  auto saved = pair.make_saved();
  auto gradients = pair.make_gradients();
  pair.extend(x.view(), own, y.view(), saved, workspace);
  EXPECT_THROW(pair.backward(x.view(), saved, x.view(), y.view(), gradients, workspace, &state),
               std::invalid_argument);
}

/// A pair of no channels.
struct Hollow : Pair {
  Hollow() : Pair(1) {}
  Index channels() const { return 0; }
};

TEST(MixerErrors, APolicyOfNoChannelsIsRefused) {
  expect_refused([] { Mixer<Hollow>(Hollow(), 1); }, "Mixer: channels must be at least 1, got 0");
}

TEST(MixerErrors, SizesOfPoliciesAreChecked) {
  Random random(1);
  expect_refused([] { Pair(12, 5); }, "ScalarPair: heads must be a divisor of 12 channels, got 5");
  expect_refused([] { Pair(12, 0); }, "ScalarPair: heads must be at least 1, got 0");
  expect_refused([] { Pair(0); }, "ScalarPair: channels must be at least 1, got 0");
  expect_refused([&] { Gated<float>(-2, random); }, "Gated: channels must be at least 1, got -2");
  expect_refused([&] { Gated<float>(8, random, 3); }, "Gated: heads must be a divisor of 8 channels, got 3");
  expect_refused([&] { GatedPair<float>(8, random, 16); },
                 "GatedPair: heads must be a divisor of 8 channels, got 16");
  expect_refused([&] { SoftmaxLocal<float>(8, random, 3); },
                 "SoftmaxLocal: heads must be a divisor of 8 channels, got 3");
  expect_refused([&] { SoftmaxLocal<float>(8, random, 2, 1); }, "SoftmaxLocal: taps must be 2 to 16, got 1");
  expect_refused([&] { SoftmaxLocal<float>(8, random, 2, 17); },
                 "SoftmaxLocal: taps must be 2 to 16, got 17");
}

TEST(MixerErrors, ForwardNamesTheShapesThatDiffer) {
  const Mixer mixer(Pair(4), 1);
  Data x(2, 5, 4), y(2, 5, 4), narrow(2, 5, 3), shorter(2, 4, 4), fewer(1, 5, 4);
  expect_refused([&] { mixer.forward(narrow.view(), y.view()); },
                 "Mixer::forward: the channels of x must be 4, got 3");
  expect_refused([&] { mixer.forward(x.view(), narrow.view()); },
                 "Mixer::forward: y must be [2,5,4], got [2,5,3]");
  expect_refused([&] { mixer.forward(x.view(), shorter.view()); },
                 "Mixer::forward: y must be [2,5,4], got [2,4,4]");
  expect_refused([&] { mixer.forward(x.view(), fewer.view()); },
                 "Mixer::forward: y must be [2,5,4], got [1,5,4]");
}

TEST(MixerErrors, ViewsThatMakeNoSenseAreRefused) {
  const Mixer mixer(Pair(4), 1);
  Data x(2, 5, 4), y(2, 5, 4);
  const auto forward_x = [&](Tokens<const float> view) { mixer.forward(view, y.view()); };
  expect_refused(
      [&] {
        forward_x({x.values.data(), -1, 5, 4});
      },
      "Mixer::forward: x: batch must be at least 0, got -1");
  expect_refused(
      [&] {
        forward_x({x.values.data(), 2, -5, 4});
      },
      "Mixer::forward: x: time must be at least 0, got -5");
  expect_refused(
      [&] {
        forward_x({x.values.data(), 2, 5, -4});
      },
      "Mixer::forward: x: channels must be at least 0, got -4");
  expect_refused(
      [&] {
        forward_x({x.values.data(), 2, 5, 4, -4, 20});
      },
      "Mixer::forward: x: token_stride must be at least 0, got -4");
  expect_refused(
      [&] {
        forward_x({x.values.data(), 2, 5, 4, 4, -20});
      },
      "Mixer::forward: x: batch_stride must be at least 0, got -20");
  const Tokens<const float> nowhere(nullptr, 2, 5, 4);
  Workspace workspace;
  expect_refused([&] { forward_x(nowhere); }, "Mixer::forward: x must be memory to read from, got none");
  expect_refused([&] { mixer.forward_in_place(Tokens<float>(nullptr, 2, 5, 4), workspace); },
                 "Mixer::forward_in_place: x must be memory to read from, got none");
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(x.view(), y.view(), saved, workspace);
  expect_refused([&] { mixer.backward(x.view(), saved, nowhere, y.view(), gradients, workspace); },
                 "Mixer::backward: dy must be memory to read from, got none");
  expect_refused(
      [&] {
        mixer.backward(x.view(), saved, y.view(), Tokens<float>(nullptr, 2, 5, 4), gradients, workspace);
      },
      "Mixer::backward: dx must be memory to write to, got none");
}

TEST(MixerErrors, ResultsWhoseTokensOverlapAreRefusedByEveryCall) {
  const Mixer mixer(Pair(4), 1);
  Workspace workspace;
  Data x(2, 5, 4), y(2, 5, 4, 7);
  const auto before = y.values;
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  auto state = mixer.make_state({.streams = 2});
  mixer.forward(x.view(), y.view(), saved, workspace);
  y.values = before;
  for (const auto& [token, batch] :
       {std::pair<Index, Index>{4, 0}, {4, 16}, {0, 20}, {3, 20}, {8, 6}, {6, 9}}) {
    Tokens<float> out(y.values.data(), 2, 5, 4, token, batch);
    const std::string tail =
        ": the tokens of what is written must be apart in memory: each of 4 channels of its "
        "own, got [2,5,4] with token_stride " +
        std::to_string(token) + " and batch_stride " + std::to_string(batch) + ", where tokens overlap";
    expect_refused([&] { mixer.forward(x.view(), out, workspace); }, "Mixer::forward: y" + tail);
    expect_refused([&] { mixer.forward(x.view(), out, saved, workspace); }, "Mixer::forward: y" + tail);
    expect_refused([&] { mixer.extend(x.view(), state, out, workspace); }, "Mixer::extend: y" + tail);
    expect_refused([&] { mixer.forward_in_place(out, workspace); }, "Mixer::forward_in_place: x" + tail);
    expect_refused([&] { mixer.backward(x.view(), saved, x.view(), out, gradients, workspace); },
                   "Mixer::backward: dx" + tail);
  }
  Tokens<float> both(y.values.data(), 2, 1, 4, 4, 0);
  EXPECT_THROW(mixer.step(x.part(0, 1), state, both, workspace), std::invalid_argument);
  EXPECT_EQ(state.count(0), 0);
  Eigen::MatrixXf columns = Eigen::MatrixXf::Ones(4, 6);
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> same(y.values.data(), 4, 6, Eigen::OuterStride<>(0));
  EXPECT_THROW(mixer.forward(columns, same, workspace), std::invalid_argument);
  EXPECT_THROW(mixer.packed(columns, Shifts{0, 6}, same, workspace), std::invalid_argument);
  EXPECT_EQ(y.values, before);
}

// Values may be changed, and another policy of the same sizes moved in; another size is refused by every call.
TEST(MixerErrors, OverlappingBuffersAreRefused) {
  const Mixer mixer(Pair(4), 1);
  Workspace workspace;
  Data x(1, 20, 4), dy(1, 20, 4), y(1, 20, 4);
  const std::string message = "Mixer::forward: x and y must be apart in memory, got buffers that overlap";
  expect_refused([&] { mixer.forward(x.view(), x.view()); }, message);
  expect_refused([&] { mixer.forward(x.part(0, 10), x.part(9, 10)); }, message);
  mixer.forward(x.part(0, 10), x.part(10, 10));  // side by side
  auto state = mixer.make_state();
  EXPECT_THROW(mixer.step(x.part(0, 1), state, x.part(0, 1), workspace), std::invalid_argument);
  EXPECT_THROW(mixer.extend(x.view(), state, x.view(), workspace), std::invalid_argument);
  EXPECT_THROW(mixer.packed(x.view(), Shifts{0, 20}, x.view(), workspace), std::invalid_argument);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(x.view(), y.view(), saved, workspace);
  expect_refused([&] { mixer.backward(x.view(), saved, dy.view(), x.view(), gradients, workspace); },
                 "Mixer::backward: x and dx must be apart in memory, got buffers that overlap");
  expect_refused([&] { mixer.backward(x.view(), saved, dy.view(), dy.view(), gradients, workspace); },
                 "Mixer::backward: dy and dx must be apart in memory, got buffers that overlap");
}

TEST(MixerErrors, PackedChecksItsOffsets) {
  const Mixer mixer(Pair(4), 1);
  Workspace workspace;
  Data x(1, 9, 4), y(1, 9, 4), two(2, 9, 4), y_two(2, 9, 4);
  const auto packed = [&](const std::vector<Index>& offsets) {
    mixer.packed(x.view(), offsets, y.view(), workspace);
  };
  packed({0, 4, 4, 9});
  expect_refused([&] { packed({}); },
                 "Mixer::packed: offsets must be a list that begins with 0, got an empty one");
  expect_refused([&] { packed({1, 9}); }, "Mixer::packed: offsets must be a list that begins with 0, got 1");
  expect_refused(
      [&] {
        packed({0, 5, 4, 9});
      },
      "Mixer::packed: offset 2 must be at least the one before, 5, got 4");
  expect_refused([&] { packed({0, 4}); }, "Mixer::packed: the last offset must be 9, the tokens of x, got 4");
  expect_refused(
      [&] {
        packed({0, 10});
      },
      "Mixer::packed: the last offset must be 9, the tokens of x, got 10");
  expect_refused(
      [&] {
        mixer.packed(two.view(), Shifts{0, 9}, y_two.view(), workspace);
      },
      "Mixer::packed: the batch of x must be 1, got 2");
}

TEST(MixerErrors, StepAndExtendCheckStateAndStreams) {
  Random random(2);
  Workspace workspace;
  const Mixer mixer(Pair(4, 2), 3);
  auto state = mixer.make_state({.streams = 2});
  Data x(2, 1, 4, random), y(2, 1, 4), three(3, 1, 4), wide(2, 1, 6), long_x(2, 2, 4);
  expect_refused([&] { mixer.step(three.view(), state, y.view(), workspace); },
                 "Mixer::step: x must be one token for each of 2 streams, got [3,1,4]");
  expect_refused([&] { mixer.step(long_x.view(), state, y.view(), workspace); },
                 "Mixer::step: x must be one token for each of 2 streams, got [2,2,4]");
  expect_refused([&] { mixer.step(x.view(), state, three.view(), workspace); },
                 "Mixer::step: y must be one token for each of 2 streams, got [3,1,4]");
  expect_refused([&] { mixer.step(wide.view(), state, y.view(), workspace); },
                 "Mixer::step: the channels of x must be 4, got 6");
  expect_refused([&] { mixer.step(x.view(), state, wide.view(), workspace); },
                 "Mixer::step: y must be [2,1,4], got [2,1,6]");
  Data y_three(3, 1, 4);
  expect_refused([&] { mixer.extend(three.view(), state, y_three.view(), workspace); },
                 "Mixer::extend: the batch of x (streams) must be 2, got 3");

  auto smaller = Mixer(Pair(4, 2), 2).make_state({.streams = 2});
  auto other_heads = Mixer(Pair(4, 2), Shifts{3, 5}).make_state({.streams = 2});
  auto other_channels = Mixer(Pair(6, 2), 3).make_state({.streams = 2});
  auto other_planes = Mixer(GatedPair<float>(4, random, 2), 3).make_state({.streams = 2});
  auto larger =
      Mixer(Pair(4, 2), 4).make_state({.streams = 2});  // its rings would do; its tokens lie elsewhere
  for (auto* bad : {&smaller, &other_heads, &other_channels, &other_planes, &larger}) {
    const std::string wrong =
        ": the state must be one of this layer, with rings of 4 x 3 values of ab, got one with " +
        bad->shape_text();
    expect_refused([&] { mixer.step(x.view(), *bad, y.view(), workspace); }, "Mixer::step" + wrong);
    expect_refused([&] { mixer.extend(x.view(), *bad, y.view(), workspace); }, "Mixer::extend" + wrong);
    EXPECT_EQ(bad->count(0), 0);
  }
  MixerState<float> empty;
  Data none(0, 1, 4);
  EXPECT_THROW(mixer.extend(none.view(), empty, none.view(), workspace), std::invalid_argument);
}

TEST(MixerErrors, ARefusedCallLeavesTheStateAndTheResultAsTheyWere) {
  Random random(3);
  Workspace workspace;
  const Mixer mixer(GatedPair<float>(4, random, 2), 3);
  const Data x(2, 6, 4, random);
  Data y(2, 6, 4, -7.0f), expected = y;
  auto state = mixer.make_state({.streams = 2});
  mixer.extend(x.part(0, 4), state, y.part(0, 4), workspace);
  auto copy = state;
  const Data before = y;
  EXPECT_THROW(mixer.extend(x.part(4, 2), state, y.part(3, 3), workspace), std::invalid_argument);
  EXPECT_THROW(mixer.step(x.part(4, 2), state, y.part(4, 2), workspace), std::invalid_argument);
  EXPECT_THROW(mixer.extend(x.view().sequence(0), state, y.view().sequence(0), workspace),
               std::invalid_argument);
  expect_same_bits(y.values, before.values, "y");
  EXPECT_EQ(state.count(0), 4);
  mixer.extend(x.part(4, 2), state, y.part(4, 2), workspace);
  expected = before;
  mixer.extend(x.part(4, 2), copy, expected.part(4, 2), workspace);
  expect_same_bits(y.values, expected.values, "y of the next call");
}

TEST(MixerErrors, BackwardChecksTheRecordTheShapesAndTheGradients) {
  Random random(4);
  Workspace workspace;
  const Mixer mixer(Gated<float>(4, random, 2), 3);
  const Mixer other(Pair(4, 2), 3);
  Data x(2, 6, 4, random), y(2, 6, 4), dy(2, 6, 4), dx(2, 6, 4), shorter(2, 5, 4), y_shorter(2, 5, 4);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  const auto backward = [&](const Data& from, const Data& from_dy, Data& to) {
    mixer.backward(from.view(), saved, from_dy.view(), to.view(), gradients, workspace);
  };
  expect_refused([&] { backward(x, dy, dx); },
                 "Mixer::backward: saved must be the record of a forward, packed or extend, got one that "
                 "nothing was saved in");
  mixer.forward(x.view(), y.view(), saved, workspace);
  expect_refused([&] { backward(shorter, shorter, y_shorter); },
                 "Mixer::backward: x must be [2,6,4], got [2,5,4]");
  expect_refused([&] { backward(x, shorter, dx); }, "Mixer::backward: dy must be [2,6,4], got [2,5,4]");
  expect_refused([&] { backward(x, dy, shorter); }, "Mixer::backward: dx must be [2,6,4], got [2,5,4]");

  auto own = mixer;
  expect_refused([&] { own.backward(x.view(), saved, dy.view(), dx.view(), own.parameters(), workspace); },
                 "Mixer::backward: gradients must be apart from the parameters of the layer, got these");
  Gated<float> too_small(2, random, 2);
  expect_refused([&] { mixer.backward(x.view(), saved, dy.view(), dx.view(), too_small, workspace); },
                 "Mixer::backward: the gradient of project.weight must be [4,4], got [2,2]");

  const std::string another = "Mixer::backward: saved must be the record of this layer, got another's";
  other.forward(x.view(), y.view(), saved, workspace);  // a record has one type for all policies
  expect_refused([&] { backward(x, dy, dx); }, another);
  Mixer(Gated<float>(4, random, 2), 2).forward(x.view(), y.view(), saved, workspace);  // of the same sizes
  expect_refused([&] { backward(x, dy, dx); }, another);
  Mixer(Gated<float>(4, random, 2), Shifts{3, 4}).forward(x.view(), y.view(), saved, workspace);
  expect_refused([&] { backward(x, dy, dx); }, another);
}

TEST(MixerErrors, BackwardChecksTheGradientOfTheState) {
  Workspace workspace;
  const Mixer mixer(Pair(4), 3);
  Data x(2, 6, 4), y(2, 6, 4), dx(2, 6, 4);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  auto state = mixer.make_state({.streams = 2}), one = mixer.make_state();
  auto spare = mixer.make_state({.streams = 2, .spare = 1});
  auto other = Mixer(Pair(4), 2).make_state({.streams = 2});
  const auto backward = [&](MixerState<float>& gradient) {
    mixer.backward(x.view(), saved, y.view(), dx.view(), gradients, workspace, &gradient);
  };
  mixer.extend(x.view(), state, y.view(), saved, workspace);
  for (auto* bad : {&one, &spare, &other}) EXPECT_THROW(backward(*bad), std::invalid_argument);
  auto good = mixer.make_state({.streams = 2});
  backward(good);
  mixer.forward(x.view(), y.view(), saved, workspace);  // had no state
  EXPECT_THROW(backward(good), std::invalid_argument);
}

// The count of a stream is an Index, which a program on a small processor can run to its end.
TEST(MixerErrors, AStreamThatHasSeenAllItCanCountIsRefused) {
  const Mixer mixer(Pair(4), 2);
  auto state = mixer.make_state();
  const Index most = decltype(state)::kMostTokens;
  const auto set = [&](Index count) {
    decltype(state)::visit(
        [&](const std::string& name, auto values, const auto&) {
          if (name == "counts" || name == "highest") values[0] = static_cast<decltype(values[0] + 0)>(count);
        },
        state);
    ASSERT_TRUE(state.is_sound());
  };
  set(most - 3);
  const Data x(1, 3, 4, 1.0f), one(1, 1, 4, 1.0f);
  Data y(1, 3, 4, 0.0f), y_one(1, 1, 4, 0.0f);
  Workspace workspace;
  mixer.extend(x.view(), state, y.view(), workspace);
  EXPECT_EQ(state.count(0), most);
  const auto before = state;
  EXPECT_THROW(mixer.step(one.view(), state, y_one.view(), workspace), std::out_of_range);
  EXPECT_THROW(mixer.extend(one.view(), state, y_one.view(), workspace), std::out_of_range);
  EXPECT_THROW(mixer.extend(one.view(), Shifts{0, 1}, Shifts{0}, state, y_one.view(), workspace),
               std::out_of_range);
  std::vector<decltype(state)> states{state};
  const std::vector<Mixer<Pair>> layers{mixer};
  EXPECT_THROW(hsm::extend(layers, one.view(), states, y_one.view(), workspace), std::out_of_range);
  EXPECT_TRUE(state == before && states[0] == before);
  EXPECT_EQ(y_one.values[0], 0.0f);
}

TEST(MixerErrors, StatesThatCannotBeAreRefused) {
  const Mixer mixer(Pair(4), Index{1} << (kIndexBits - 6));
  EXPECT_THROW(mixer.make_state({.streams = -1}), std::invalid_argument);
  EXPECT_THROW(mixer.make_state({.spare = -1}), std::invalid_argument);
  expect_refused([&] { mixer.make_state({.streams = std::numeric_limits<Index>::max()}); },
                 "Mixer::make_state: the state must be small enough to address, got " +
                     std::to_string(sizeof(Index)) + " rows x 1 slot x " +
                     std::to_string(std::numeric_limits<Index>::max()) + " streams");
  EXPECT_THROW(mixer.make_state({.spare = std::numeric_limits<Index>::max()}), std::invalid_argument);
  auto far = mixer.make_state({.streams = 1000});  // nothing until it is read, and then what is read
  EXPECT_THROW(far.make_room(std::numeric_limits<Index>::max()), std::invalid_argument);
  auto state = Mixer(Pair(4), 1).make_state({.streams = 2});
  EXPECT_THROW(state.count(2), std::out_of_range);
  EXPECT_THROW(state.count(-1), std::out_of_range);
  EXPECT_THROW(state.reset(2), std::out_of_range);
}

}  // namespace
}  // namespace hsm::test::errors_test
