// SPDX-License-Identifier: MIT
//
// The moving average in every mode against its convolution, and its modes against each other.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <hsm/core/threaded_executor.hpp>
#include <hsm/io/state_file.hpp>

#include "io/io_test_support.hpp"
#include "layer/layer_cases.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "reference/attention_reference.hpp"
#include "reference/ema_reference.hpp"
#include "support/failing_executor.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::moving_average_test {
namespace {

/// All tensors random, so that memories fade at rates far apart.
template <class Scalar>
MovingAverage<Scalar> make_ema(Index C, Index n, std::uint64_t seed = 5) {
  Random random(seed);
  Ema<Scalar> parameters(C, n, random);
  Ema<Scalar>::visit(
      [&](std::string_view name, auto& tensor) {
        const double deviation = name == "alpha" ? 2 : 1;
        for (Index i = 0; i < tensor.size(); ++i)
          tensor.data()[i] = static_cast<Scalar>(random.normal(deviation));
      },
      parameters);
  return MovingAverage<Scalar>(EmaLayer<Scalar>(parameters));
}

template <class Scalar>
class MovingAverageTest : public ::testing::Test {};
TYPED_TEST_SUITE(MovingAverageTest, Scalars);

TYPED_TEST(MovingAverageTest, IsItsConvolution) {
  for (const Index C : {1, 3, 8, 37, 100}) {
    for (const Index n : {1, 2, 5}) {
      const auto mixer = make_ema<TypeParam>(C, n);
      Random random(1);
      const auto x = random_matrix<TypeParam>(C, 150, random);
      Matrix<TypeParam> y = Matrix<TypeParam>::Constant(C, 150, std::nanf(""));
      mixer.forward(x, y);
      // Each memory is a sum of products in a row, and the oracle's powers are not rounded so.
      expect_close_to_scale(wide(y), EmaReference(mixer.parameters()).forward(wide(x)),
                            Tolerance<TypeParam>::forward,
                            "C " + std::to_string(C) + ", n " + std::to_string(n));
    }
  }
}

TYPED_TEST(MovingAverageTest, EveryModeHasTheBitsOfForward) {
  const Index C = 21, T = 75;
  const auto mixer = make_ema<TypeParam>(C, 3);
  Random random(2);
  Workspace workspace;
  workspace.poison = true;
  const auto x = random_matrix<TypeParam>(C, 3 * T, random);
  Matrix<TypeParam> y(C, 3 * T), z(C, 3 * T);
  const Tokens<const TypeParam> in(x.data(), 3, T, C);
  const Tokens<TypeParam> whole(y.data(), 3, T, C), out(z.data(), 3, T, C);
  mixer.forward(in, whole, workspace);
  const std::vector<Index> offsets{0, T, T, 3 * T};
  mixer.packed(x, offsets, z, workspace);
  expect_same_bits(z.leftCols(2 * T).eval(), y.leftCols(2 * T).eval(), "packed");
  for (const Index spare : {0, 1, 9, 100}) {
    auto state = mixer.make_state({.streams = 3, .spare = spare});
    z.setConstant(TypeParam(0));
    mixer.extend(in.slice(0, 13), state, out.slice(0, 13), workspace);
    mixer.extend(in.slice(13, 0), state, out.slice(13, 0), workspace);
    for (Index t = 13; t < 20; ++t) mixer.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
    auto filled = state;
    mixer.fill(in.slice(20, 40), filled, workspace);
    mixer.extend(in.slice(20, 40), state, out.slice(20, 40), workspace);
    EXPECT_TRUE(filled == state) << "spare " << spare;
    EXPECT_EQ(filled.count(1), 60);
    const Index back = std::min<Index>(spare, 60);
    ASSERT_TRUE(state.can_rewind(1, back));
    state.rewind(1, back);
    const std::vector<Index> own{0, T - 60, 2 * (T - 60) + back}, streams{2, 1};
    Matrix<TypeParam> rest(C, 2 * (T - 60) + back), result(C, rest.cols());
    rest << x.middleCols(2 * T + 60, T - 60), x.middleCols(T + 60 - back, T - 60 + back);
    mixer.extend(rest, own, streams, state, result, workspace);
    z.middleCols(2 * T + 60, T - 60) = result.leftCols(T - 60);
    z.middleCols(T + 60 - back, T - 60 + back) = result.rightCols(T - 60 + back);
    mixer.extend(Tokens<const TypeParam>(x.data() + 60 * C, 1, T - 60, C), std::vector<Index>{0, T - 60},
                 std::vector<Index>{0}, state, Tokens<TypeParam>(z.data() + 60 * C, 1, T - 60, C), workspace);
    expect_same_bits(z, y, "states with spare " + std::to_string(spare));
  }
}

TYPED_TEST(MovingAverageTest, GradientsAreThoseOfCentralDifferences) {
  struct Size {
    Index C, n, T;
  };
  for (const auto& [C, n, T] : {Size{1, 1, 5}, Size{3, 2, 40}, Size{17, 3, 70}, Size{2, 4, 1}}) {
    const auto mixer = make_ema<TypeParam>(C, n);
    const std::string label = " at C " + std::to_string(C) + ", T " + std::to_string(T);
    Random random(3);
    const auto x = random_matrix<TypeParam>(C, T, random), dy = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), dx = Matrix<TypeParam>::Constant(C, T, std::nanf(""));
    Workspace workspace;
    workspace.poison = true;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, dy, dx, gradients, workspace);
    EmaReference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    const auto differences = [&](Values& of) {
      return central_differences(of, kDifferenceStep, [&] { return reference.loss(values, weights); });
    };
    const double tolerance = Tolerance<TypeParam>::difference;
    expect_close_to_scale(wide(dx), differences(values), tolerance, "dx" + label);
    const auto plain = [](const auto& tensor) {
      return Values(tensor.data(), tensor.data() + tensor.size());
    };
    expect_close_to_scale(plain(gradients.alpha), differences(reference.alpha), tolerance, "alpha" + label);
    expect_close_to_scale(plain(gradients.beta), differences(reference.beta), tolerance, "beta" + label);
    expect_close_to_scale(plain(gradients.delta), differences(reference.delta), tolerance, "delta" + label);
    expect_close_to_scale(plain(gradients.eta), differences(reference.eta), tolerance, "eta" + label);
    auto twice = gradients;
    mixer.backward(x, saved, dy, dx, twice, workspace);
    for (Index i = 0; i < twice.eta.size(); ++i)
      EXPECT_EQ(twice.eta.data()[i], 2 * gradients.eta.data()[i]) << "is added to";
  }
}

TYPED_TEST(MovingAverageTest, ChunksWithTheGradientOfTheStateAreTheWhole) {
  const Index C = 19, T = 100, B = 2;
  const auto mixer = make_ema<TypeParam>(C, 2);
  Random random(4);
  const auto x = random_matrix<TypeParam>(C, B * T, random), dy = random_matrix<TypeParam>(C, B * T, random);
  Matrix<TypeParam> y(C, B * T), dx(C, B * T), chunked(C, B * T);
  const Tokens<const TypeParam> in(x.data(), B, T, C), given(dy.data(), B, T, C);
  const Tokens<TypeParam> out(y.data(), B, T, C), d(dx.data(), B, T, C), d_chunked(chunked.data(), B, T, C);
  Workspace workspace;
  auto whole = mixer.make_saved();
  auto gradients = mixer.make_gradients(), sums = gradients;
  mixer.forward(in, out, whole, workspace);
  mixer.backward(in, whole, given, d, gradients, workspace);
  for (const Index spare : {0, 5}) {
    set_zero(sums);
    const std::vector<Index> cuts{0, 33, 34, 34, 80, T};
    std::vector<EmaSaved<TypeParam>> saved(cuts.size() - 1);
    auto state = mixer.make_state({.streams = B, .spare = spare});
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
      mixer.extend(in.slice(cuts[i], cuts[i + 1] - cuts[i]), state, out.slice(cuts[i], cuts[i + 1] - cuts[i]),
                   saved[i], workspace);
    auto d_state = mixer.make_state({.streams = B, .spare = spare});
    for (std::size_t i = saved.size(); i-- > 0;) {
      const Index first = cuts[i], n = cuts[i + 1] - first;
      mixer.backward(in.slice(first, n), saved[i], given.slice(first, n), d_chunked.slice(first, n), sums,
                     workspace, &d_state);
    }
    expect_same_bits(chunked, dx, "dx");
    EXPECT_TRUE(d_state == mixer.make_state({.streams = B, .spare = spare})) << "nothing is before the start";
    Ema<TypeParam>::visit(
        [&](std::string_view name, const auto& got, const auto& expected) {
          expect_close_to_scale(got, expected, Tolerance<TypeParam>::mode, name);
        },
        sums, gradients);
  }
}

TYPED_TEST(MovingAverageTest, TheGradientOfTheStateIsThatOfTheTokensBefore) {
  const Index C = 5, before = 7, after = 9;
  const auto mixer = make_ema<TypeParam>(C, 2);
  Random random(6);
  const auto x = random_matrix<TypeParam>(C, before + after, random);
  auto dy = random_matrix<TypeParam>(C, before + after, random);
  dy.leftCols(before).setZero();  // all that the first tokens get comes through the state
  Matrix<TypeParam> y(C, before + after), dx(C, before + after);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 2});
  std::vector<EmaSaved<TypeParam>> saved(2);
  const std::vector<Index> first{0, before}, rest{0, after}, stream{1};
  mixer.extend(x.leftCols(before), first, stream, state, y.leftCols(before), saved[0], workspace);
  mixer.extend(x.rightCols(after), rest, stream, state, y.rightCols(after), saved[1], workspace);
  auto gradients = mixer.make_gradients();
  auto d_state = mixer.make_state({.streams = 2});
  mixer.backward(x.rightCols(after), saved[1], dy.rightCols(after), dx.rightCols(after), gradients, workspace,
                 &d_state);
  mixer.backward(x.leftCols(before), saved[0], dy.leftCols(before), dx.leftCols(before), gradients, workspace,
                 &d_state);
  EmaReference reference(mixer.parameters());
  Values values = wide(x);
  const Values weights = wide(dy);
  expect_close_to_scale(
      wide(dx), central_differences(values, kDifferenceStep, [&] { return reference.loss(values, weights); }),
      Tolerance<TypeParam>::difference, "dx");
}

TYPED_TEST(MovingAverageTest, ThreadsChangeNoBit) {
  expect_threads_change_no_bit(make_ema<TypeParam>(70, 3), 90, {1, 3, 20}, {2, 3, 7});
}

TYPED_TEST(MovingAverageTest, LaterTokensOtherDocumentsAndStreamsAreNotSeen) {
  const Index C = 11, T = 40;
  const auto mixer = make_ema<TypeParam>(C, 2);
  Random random(8);
  auto x = random_matrix<TypeParam>(C, 2 * T, random);
  Matrix<TypeParam> y(C, 2 * T), z(C, 2 * T);
  const std::vector<Index> offsets{0, T, 2 * T};
  Workspace workspace;
  mixer.packed(x, offsets, y, workspace);
  x.col(T - 9).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
  mixer.packed(x, offsets, z, workspace);
  expect_same_bits(z.leftCols(T - 9).eval(), y.leftCols(T - 9).eval(), "before the NaN");
  expect_same_bits(z.rightCols(T).eval(), y.rightCols(T).eval(), "another document");
  EXPECT_TRUE((z.middleCols(T - 9, 9).array() != z.middleCols(T - 9, 9).array()).all());
}

TYPED_TEST(MovingAverageTest, AStateGoesToAFileAndBack) {
  const Index C = 6;
  const auto mixer = make_ema<TypeParam>(C, 4);
  Random random(9);
  const auto x = random_matrix<TypeParam>(C, 8, random);
  Matrix<TypeParam> y(C, 8), z(C, 8);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 1, .spare = 1});
  mixer.extend(x.leftCols(5), state, y.leftCols(5), workspace);
  const TemporaryDirectory directory;
  save_state(directory / "state", mixer, state);
  auto loaded = load_state(directory / "state", mixer);
  EXPECT_TRUE(loaded == state);
  mixer.extend(x.rightCols(3), state, y.rightCols(3), workspace);
  mixer.extend(x.rightCols(3), loaded, z.rightCols(3), workspace);
  expect_same_bits(z.rightCols(3).eval(), y.rightCols(3).eval(), "goes on");
  const auto other = make_ema<TypeParam>(C, 3);
  EXPECT_THROW(load_state(directory / "state", other), std::runtime_error);
}

TYPED_TEST(MovingAverageTest, ACallThatThrowsLeavesNoHalfState) {
  const Index C = 40, T = 12;
  const auto mixer = make_ema<TypeParam>(C, 2);
  Random random(10);
  const auto x = random_matrix<TypeParam>(C, 17 * T, random);
  Matrix<TypeParam> y(C, 17 * T);
  FailingExecutor executor;
  executor.fails_at = 0;
  Workspace failing(executor), workspace;
  auto state = mixer.make_state({.streams = 17});
  const Tokens<const TypeParam> in(x.data(), 17, T, C);
  const Tokens<TypeParam> out(y.data(), 17, T, C);
  auto saved = mixer.make_saved();
  EXPECT_THROW(mixer.extend(in, state, out, saved, failing), std::bad_alloc);
  for (Index s = 0; s < 17; ++s) EXPECT_FALSE(state.is_whole(s));
  auto gradients = mixer.make_gradients();
  expect_refused([&] { mixer.step(in.slice(0, 1), state, out.slice(0, 1), workspace); },
                 "MovingAverage::step: stream 0 of the state must be whole, got one that a call which threw "
                 "has left in part; reset it");
  expect_refused([&] { mixer.backward(in, saved, in, out, gradients, workspace); },
                 "MovingAverage::backward: saved must be the record of a forward, packed or extend, got one "
                 "that nothing was saved in");
}

TEST(MovingAverageErrors, SayWhatWasExpected) {
  Random random(1);
  expect_refused([&] { Ema<float>(4, 0, random); }, "Ema: ndim must be 1 to 256, got 0");
  expect_refused([&] { Ema<float>(0, 1, random); }, "Ema: channels must be at least 1, got 0");
  auto mixer = make_ema<float>(4, 2);
  Workspace workspace;
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 3), y(4, 3);
  auto saved = mixer.make_saved();
  mixer.forward(x, y, saved, workspace);
  auto state = mixer.make_state();
  auto gradients = mixer.make_gradients();
  expect_refused([&] { mixer.backward(x, saved, x, y, gradients, workspace, &state); },
                 "MovingAverage::backward: state_gradient must be none, since the call that was recorded had "
                 "no state, got one");
  auto other = make_ema<float>(4, 3).make_state();
  expect_refused([&] { mixer.step(x.col(0), other, y.col(0), workspace); },
                 "MovingAverage::step: the state must be one of this layer, with rings of 8 x 1 values, got "
                 "one with rings of 12 x 1 values");
  mixer.parameters().beta.resize(2, 5);
  expect_refused([&] { mixer.forward(x, y); },
                 "MovingAverage::forward: beta must be [2,4], the shape of alpha, got [2,5]");
}

TEST(MovingAverage, FreshOnesRememberFewAndManyTokens) {
  Random random(1);
  const Ema<double> ema(64, 2, random);
  const auto q = [&](Index c) {
    return 1 - 1 / (1 + std::exp(-ema.alpha(0, c))) / (1 + std::exp(-ema.delta(0, c)));
  };
  EXPECT_LT(q(0), 0.6);
  EXPECT_GT(q(63), 0.98);
  EXPECT_LT(q(63), 1.0);
}

}  // namespace
}  // namespace hsm::test::moving_average_test
