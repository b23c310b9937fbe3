// SPDX-License-Identifier: MIT
//
// What holds for every layer of layer/layer_list.hpp: each mode against the layer's definition or against each other, and
// states that are rewound, kept in files and left by calls that throw. Its adjoint is in every_layer_gradients_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/state_file.hpp>

#include "io/io_test_support.hpp"
#include "layer/layer_list.hpp"
#include "support/failing_executor.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::every_layer_test {
namespace {

template <class Case>
class EveryLayer : public ::testing::Test {};
TYPED_TEST_SUITE(EveryLayer, LayerCases::All, LayerCaseName);

TYPED_TEST(EveryLayer, IsItsDefinition) {
  using Scalar = typename TypeParam::Scalar;
  for (const LayerSize& size : TypeParam::definition()) {
    const auto mixer = TypeParam::make(size);
    const typename TypeParam::Reference reference(mixer.parameters());
    for (const Index T : {1, 2, 3, 4, 15, 31, 63, 64, 65, 97, 150}) {
      Random random(1);
      const auto x = random_matrix<Scalar>(size.channels, T, random);
      Matrix<Scalar> y = Matrix<Scalar>::Constant(size.channels, T, std::nanf(""));
      Workspace workspace;
      workspace.poison = true;
      mixer.forward(x, y, workspace);
      expect_close_to_scale(wide(y), reference.forward(wide(x)), Tolerance<Scalar>::forward,
                            text_of(size) + ", T " + std::to_string(T));
    }
  }
}

TYPED_TEST(EveryLayer, ModesAgree) {
  using Scalar = typename TypeParam::Scalar;
  const Index T = 150, first = 69, second = 80, third = 121;
  for (const LayerSize& size : TypeParam::small()) {
    const Index C = size.channels;
    const auto mixer = TypeParam::make(size);
    Random random(2);
    Workspace workspace;
    workspace.poison = true;
    const auto x = random_matrix<Scalar>(C, 3 * T, random);
    Matrix<Scalar> y(C, 3 * T), z(C, 3 * T);
    const Tokens<const Scalar> in(x.data(), 3, T, C);
    const Tokens<Scalar> whole(y.data(), 3, T, C), out(z.data(), 3, T, C);
    mixer.forward(in, whole, workspace);
    const auto expect_all = [&](const std::string& call) {
      expect_same<TypeParam>(z, y, call + " at " + text_of(size));
      z.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
    };
    const std::vector<Index> offsets{0, T, T, 2 * T, 3 * T};
    mixer.packed(x, offsets, z, workspace);
    expect_all("packed");
    for (const Index spare : {0, 1, 9, 200}) {
      const std::string with = " with spare " + std::to_string(spare);
      auto state = mixer.make_state({.streams = 3, .spare = spare});
      mixer.extend(in.slice(0, first), state, out.slice(0, first), workspace);
      mixer.extend(in.slice(first, 0), state, out.slice(first, 0), workspace);
      for (Index t = first; t < second; ++t) mixer.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
      auto filled = state, extended = state;
      mixer.extend(in.slice(second, T - second), extended, out.slice(second, T - second), workspace);
      expect_all("extend and step" + with);

      mixer.fill(in.slice(second, third - second), filled, workspace);
      EXPECT_EQ(filled.count(1), third);
      if (TypeParam::kSameBits) {
        mixer.extend(in.slice(second, third - second), state, out.slice(second, third - second), workspace);
        EXPECT_TRUE(filled == state) << "fill" << with;
      }
      const Index back = std::min(spare, third);
      ASSERT_TRUE(filled.can_rewind(1, back));
      EXPECT_EQ(filled.can_rewind(1, spare + 1), TypeParam::rewinds_all(size) && spare < third) << with;
      filled.rewind(1, back);
      const Index rest = T - third;
      Matrix<Scalar> own(C, 2 * rest + back), result(C, own.cols());
      own << x.middleCols(2 * T + third, rest), x.middleCols(T + third - back, rest + back);
      mixer.extend(own, std::vector<Index>{0, rest, own.cols()}, std::vector<Index>{2, 1}, filled, result,
                   workspace);
      z = y;
      z.middleCols(2 * T + third, rest) = result.leftCols(rest);
      z.middleCols(T + third - back, rest + back) = result.rightCols(rest + back);
      mixer.extend(x.middleCols(third, rest), std::vector<Index>{0, rest}, std::vector<Index>{0}, filled,
                   z.middleCols(third, rest), workspace);
      expect_all("fill, rewind and chosen streams" + with);
    }
  }
}

TYPED_TEST(EveryLayer, RewindGoesBackToWhatWasThere) {
  using Scalar = typename TypeParam::Scalar;
  const Index T = 90;
  for (const LayerSize& size : TypeParam::small()) {
    const Index C = size.channels;
    const auto mixer = TypeParam::make(size);
    Random random(4);
    const auto x = random_matrix<Scalar>(C, T, random);
    Matrix<Scalar> y(C, T), z(C, T), never(C, 6);
    Workspace workspace;
    mixer.forward(x, y, workspace);
    for (Index k = 0; k <= 5; ++k) {
      const std::string label = " " + std::to_string(k) + " at " + text_of(size);
      auto state = mixer.make_state({.streams = 1, .spare = 5});
      mixer.extend(x.leftCols(T - 6), state, z.leftCols(T - 6), workspace);
      auto other = state;
      mixer.extend(x.rightCols(6), other, never, workspace);
      mixer.fill(Matrix<Scalar>::Constant(C, k, std::nanf("")).eval(), state, workspace);
      state.rewind(0, k);
      mixer.extend(x.rightCols(6), state, z.rightCols(6), workspace);
      expect_same_bits(z.rightCols(6).eval(), never, "as if they had never been there" + label);
      expect_same<TypeParam>(z, y, "rewound" + label);
      state.rewind(0, k);  // tokens of one call
      mixer.extend(x.rightCols(k), state, z.rightCols(k), workspace);
      expect_same<TypeParam>(z, y, "again" + label);
      EXPECT_EQ(state.can_rewind(0, 6), TypeParam::rewinds_all(size));
      if (!TypeParam::rewinds_all(size)) {
        EXPECT_THROW(state.rewind(0, 6), std::out_of_range);
      }
      EXPECT_EQ(state.count(0), T);
      EXPECT_TRUE(state.can_rewind(0, T)) << "all of them";
    }
  }
}

TYPED_TEST(EveryLayer, ThreadsChangeNoBit) {
  expect_threads_change_no_bit(TypeParam::make(TypeParam::of(72)), 90, {1, 5, 20}, {2, 3, 7});
}

TYPED_TEST(EveryLayer, LaterTokensAndOtherDocumentsAreNotSeen) {
  expect_later_tokens_unseen(TypeParam::make(TypeParam::of(12)), 140,
                             {0, 1, 2, 3, 15, 16, 31, 46, 47, 62, 63, 64, 65, 95, 96, 127, 128, 139});
}

TYPED_TEST(EveryLayer, AStateGoesToAFileAndBack) {
  using Scalar = typename TypeParam::Scalar;
  const Index T = 13;
  for (const LayerSize& size : TypeParam::small()) {
    const Index C = size.channels;
    const auto mixer = TypeParam::make(size);
    Random random(9);
    const auto x = random_matrix<Scalar>(C, 2 * T, random);
    Matrix<Scalar> y(C, 6), z(C, 6);
    Workspace workspace;
    auto state = mixer.make_state({.streams = 2, .spare = 3});
    mixer.fill(x.leftCols(T + 3), std::vector<Index>{0, T, T + 3}, std::vector<Index>{1, 0}, state,
               workspace);
    const TemporaryDirectory directory;
    save_state(directory / "state", mixer, state);
    auto loaded = load_state(directory / "state", mixer);
    EXPECT_TRUE(loaded == state);
    for (auto* of : {&state, &loaded}) {
      of->rewind(1, 3);
      mixer.extend(x.leftCols(6), std::vector<Index>{0, 2, 6}, std::vector<Index>{0, 1}, *of,
                   of == &state ? y : z, workspace);
    }
    expect_same_bits(z, y, "goes on");
    for (const LayerSize& other : TypeParam::others(size))
      EXPECT_THROW(load_state(directory / "state", TypeParam::make(other)), std::runtime_error);
  }
}

TYPED_TEST(EveryLayer, ACallThatThrowsLeavesNoHalfState) {
  using Scalar = typename TypeParam::Scalar;
  const Index C = 40, T = 70, B = 17;  // enough for several tasks in every loop
  const std::string type(TypeParam::kType);
  const auto mixer = TypeParam::make(TypeParam::of(C));
  Random random(10);
  const auto x = random_matrix<Scalar>(C, B * T, random);
  Matrix<Scalar> y(C, B * T), expected(C, B * T);
  Workspace workspace;
  const Tokens<const Scalar> in(x.data(), B, T, C);
  const Tokens<Scalar> out(y.data(), B, T, C);
  auto before = mixer.make_state({.streams = B});
  mixer.fill(in.slice(0, 5), before, workspace);
  auto other = before, state = before;
  mixer.extend(in, other, Tokens<Scalar>(expected.data(), B, T, C), workspace);
  auto gradients = mixer.make_gradients();
  Index failed = 0;
  for (bool threw = true; threw; ++failed) {
    FailingExecutor executor;
    executor.fails_at = failed;
    Workspace failing(executor);
    auto saved = mixer.make_saved();
    threw = false;
    if (!TypeParam::kKeepsStreams) state = before;
    try {
      mixer.extend(in, state, out, saved, failing);
    } catch (const std::bad_alloc&) {
      threw = true;
      expect_refused([&] { mixer.backward(in, saved, in, out, gradients, workspace); },
                     type +
                         "::backward: saved must be the record of a forward, packed or extend, got one that "
                         "nothing was saved in");
      if (TypeParam::kKeepsStreams) {
        EXPECT_TRUE(state == before) << "loop " << failed;
        continue;
      }
      for (Index s = 0; s < B; ++s) EXPECT_FALSE(state.is_whole(s)) << "loop " << failed;
      expect_refused(
          [&] { mixer.step(in.slice(0, 1), state, out.slice(0, 1), workspace); },
          type +
              "::step: stream 0 of the state must be whole, got one that a call which threw has left "
              "in part; reset it");
    }
  }
  EXPECT_GT(failed, TypeParam::kLoops);
  expect_same_bits(y, expected, "goes on");
}

}  // namespace
}  // namespace hsm::test::every_layer_test
