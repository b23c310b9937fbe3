// SPDX-License-Identifier: MIT
//
// A layer of one's own that is no shift mixer: a sum of all tokens that fades, one decay for each channel. It states one
// call and its adjoint, and is run in every mode, in a model beside others, and from files.
#include <gtest/gtest.h>

#include <hsm/io/state_file.hpp>
#include <hsm/model/session.hpp>
#include <hsm/testing/check_layer.hpp>

#include "io/io_test_support.hpp"
#include "layer/fading_sum.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::own_layer_test {
namespace {

using List = LayerList<ScalarPair, FadingSum, AttentionLayer>;

TEST(OwnLayer, IsRunInEveryModeByTheOneFront) {
  const TokenMixer<FadingSum<double>> mixer(FadingSum<double>(4));
  Workspace workspace;
  Random random(1);
  Eigen::MatrixXd x(4, 30), y(4, 30), dx(4, 30);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = random.normal();
  mixer.forward(x, y, workspace);
  for (Index t = 0; t < 30; ++t) {
    for (Index c = 0; c < 4; ++c) {
      double sum = 0;
      for (Index j = 0; j <= t; ++j) sum += std::ldexp(x(c, j), static_cast<int>(j - t));
      EXPECT_NEAR(y(c, t), sum, 1e-12);
    }
  }
  EXPECT_EQ(check_layer(mixer).what(), "");
  EXPECT_EQ(check_layer(FadingSum<float>(3)).what(), "");
  auto gradients = mixer.make_gradients();
  EXPECT_THROW(mixer.backward(x, decltype(mixer)::Saved(), y, dx, gradients, workspace),
               std::invalid_argument);
}

TEST(OwnLayer, AStackHoldsItBesideOthersAndItsStateGoesToAFileAndBack) {
  Random random(1);
  Workspace workspace;
  const LanguageModel<float, List> model(
      {.vocabulary = 11, .width = 8, .feed_forward = 16, .layers = "ab,fading-sum,attention:heads=2"},
      random);
  EXPECT_EQ((std::variant_size_v<AnyState<float, List>>), 2u);  // rings serve two of the three
  const std::vector<std::int32_t> ids{1, 5, 3, 10, 0, 7, 7};
  LanguageModel<float, List>::Saved saved;
  model.hidden(ids, 1, 7, saved, workspace);
  Eigen::MatrixXf all(11, 7), last(11, 1);
  model.logits(saved, {all.data(), 11, 7, Eigen::OuterStride<>(11)}, workspace);
  auto state = model.make_state();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    model.extend({&ids[t], 1}, state, {last.data(), 11, 1, Eigen::OuterStride<>(11)}, workspace);
    EXPECT_LE((last.col(0) - all.col(static_cast<Index>(t))).norm(),
              1e-5f * all.col(static_cast<Index>(t)).norm());
  }
  EXPECT_EQ(state.count(0), 7);

  const TokenMixer<FadingSum<float>> mixer(FadingSum<float>(4));
  auto kept = mixer.make_state({.streams = 2});
  const Eigen::MatrixXf x = Eigen::MatrixXf::Constant(4, 2, 0.25f);
  Eigen::MatrixXf y(4, 2);
  mixer.step(x, kept, y, workspace);
  const TemporaryDirectory directory;
  save_state(directory / "state.safetensors", mixer, kept);
  EXPECT_TRUE(load_state(directory / "state.safetensors", mixer) == kept);
}

}  // namespace
}  // namespace hsm::test::own_layer_test
