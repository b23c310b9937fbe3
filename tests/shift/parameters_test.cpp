// SPDX-License-Identifier: MIT
//
// The policy of a mixer that exists: its values may change and be stored otherwise, its sizes may not.
#include <stdexcept>

#include "shift/mixer_cases.hpp"
#include "support/message_of.hpp"

namespace hsm::test::parameters_test {
namespace {

using Pair = ScalarPair<float>;
using Data = Activations<float>;

TEST(MixerParameters, OfAPolicyMustFitTogether) {
  ScalarPair<float> heads(8, 4);
  heads.b.resize(1);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { Mixer(heads, 2); }),
            "Mixer: the size of b must be 4, got 1");
  ChannelPair<float> channels(16);
  channels.b.resize(4);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { Mixer(channels, 2); }),
            "Mixer: the size of b must be 16, got 4");
}

TEST(MixerParameters, AMixerThatWasMovedFromSaysSo) {
  Mixer from(ScalarPair<float>(8, 4), 2), to(ScalarPair<float>(8, 4), 3);
  to = std::move(from);
  Eigen::MatrixXf x = Eigen::MatrixXf::Ones(8, 5), y(8, 5);
  to.forward(x, y);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { from.forward(x, y); }),  // NOLINT: that is the question
            "Mixer::forward: the mixer must be one that has its parts, got one that was moved from");
}

TEST(MixerParameters, OfAnotherSizeAreRefused) {
  Random random(9);
  Workspace workspace;
  Data x(1, 6, 8, random), y(1, 6, 8), dx(1, 6, 8);
  Mixer mixer(Pair(8), 2);
  auto saved = mixer.make_saved();
  auto state = mixer.make_state();
  auto gradients = mixer.make_gradients();
  mixer.forward(x.view(), y.view(), saved, workspace);
  mixer.parameters() = Pair(8);
  mixer.forward(x.view(), y.view(), workspace);
  mixer.parameters() = Pair(8, 2);
  const std::string tail =
      ": the parameters must be of 8 channels, 1 head, 2 taps and 2 sums, as when the mixer "
      "was made, got 8 channels, 2 heads, 2 taps and 4 sums";
  expect_refused([&] { mixer.forward(x.view(), y.view()); }, "Mixer::forward" + tail);
  expect_refused([&] { mixer.forward_in_place(x.view(), workspace); }, "Mixer::forward_in_place" + tail);
  expect_refused([&] { mixer.packed(x.view(), Shifts{0, 6}, y.view(), workspace); }, "Mixer::packed" + tail);
  expect_refused([&] { mixer.extend(x.view(), state, y.view(), workspace); }, "Mixer::extend" + tail);
  expect_refused([&] { mixer.step(x.part(0, 1), state, y.part(0, 1), workspace); }, "Mixer::step" + tail);
  expect_refused([&] { mixer.backward(x.view(), saved, y.view(), dx.view(), gradients, workspace); },
                 "Mixer::backward" + tail);
  mixer.parameters() = Pair(4);
  EXPECT_THROW(mixer.forward(x.view(), y.view()), std::invalid_argument);

  Mixer soft(SoftmaxLocal<float>(8, random, 2, 3), 2);
  soft.parameters() = SoftmaxLocal<float>(8, random, 2, 4);
  EXPECT_THROW(soft.forward(x.view(), y.view()), std::invalid_argument);
  soft.parameters() = SoftmaxLocal<float>(8, random, 2, 3);
  soft.forward(x.view(), y.view());
  soft.parameters().project.weight.resize(23, 8);
  expect_refused(
      [&] { soft.forward(x.view(), y.view()); },
      "Mixer::forward: project must be [24,8] with a bias of at most 24 rows, got [23,8] with a bias "
      "of 0 rows");
  soft.parameters() = SoftmaxLocal<float>(8, random, 2, 3);
  soft.parameters().output.bias.setZero(9);
  EXPECT_THROW(soft.forward(x.view(), y.view()), std::invalid_argument);
  EXPECT_THROW(Mixer(soft.parameters(), 1), std::invalid_argument);
}

TEST(MixerParameters, KeepTheShapeOfEachTensor) {
  Data x(1, 6, 8), y(1, 6, 8, 7.0F);
  const Data untouched = y;
  Mixer channel(ChannelPair<float>(8), 2);
  channel.parameters().b.resize(3);
  expect_refused(
      [&] { channel.forward(x.view(), y.view()); },
      "Mixer::forward: the parameter b must be of the shape [8,1], as when the mixer was made, got [3,1]");
  Mixer scalar(Pair(8, 4), 2);
  Workspace workspace;
  auto state = scalar.make_state();
  scalar.parameters().b.resize(1);
  EXPECT_TRUE(scalar.fits(state));
  EXPECT_THROW(scalar.make_state(), std::invalid_argument);
  expect_refused(
      [&] { scalar.extend(x.view(), state, y.view(), workspace); },
      "Mixer::extend: the parameter b must be of the shape [4,1], as when the mixer was made, got [1,1]");
  expect_same_bits(y.values, untouched.values, "y");
}

TEST(MixerParameters, MayBeStoredInFewerBytes) {
  Random random(9);
  Gated<float> gated(32, random);
  const Mixer before(gated, 2);
  Data x(1, 6, 32, random), y(1, 6, 32), expected(1, 6, 32);
  before.forward(x.view(), expected.view());
  gated.project.store(Storage::kBfloat16);
  Mixer(gated, 2).forward(x.view(), y.view());
  expect_close_to_scale(y.values, expected.values, 0.02, "y");
  SoftmaxLocal<float> soft(32, random, 2, 3);
  soft.project.store(Storage::kInt8);
  soft.output.store(Storage::kInt8);
  EXPECT_EQ(Mixer(soft, 1).channels(), 32);
  Mixer moved_from(soft, 1);
  const SoftmaxLocal<float> moved = std::move(moved_from.parameters());
  EXPECT_EQ(moved.project.out(), soft.project.out());
  EXPECT_THROW(moved_from.forward(x.view(), y.view()), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::test::parameters_test
