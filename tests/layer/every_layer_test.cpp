// SPDX-License-Identifier: MIT
//
// What holds for every layer of layer/layer_list.hpp: each mode against the layer's definition or against each other, its
// adjoint against central differences of the definition and through states, states that are rewound, kept in files and
// left by calls that throw.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <hsm/io/state_file.hpp>

#include "io/io_test_support.hpp"
#include "layer/layer_list.hpp"
#include "support/failing_executor.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::every_layer_test {
namespace {

/// Of two ways to one result.
template <class Case, class Got, class Expected>
void expect_same(const Got& got, const Expected& expected, const std::string& label,
                 double tolerance = Tolerance<typename Case::Scalar>::mode) {
  if constexpr (Case::kSameBits) {
    expect_same_bits(got, expected, label);
  } else {
    expect_close_to_scale(wide(got), wide(expected), tolerance, label);
  }
}

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

TYPED_TEST(EveryLayer, GradientsAreThoseOfCentralDifferences) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& [size, T] : TypeParam::gradients()) {
    const Index C = size.channels, tokens = T;
    const auto mixer = TypeParam::make(size);
    const std::string label = " at " + text_of(size) + ", T " + std::to_string(T);
    Random random(3);
    const auto x = random_matrix<Scalar>(C, T, random), dy = random_matrix<Scalar>(C, T, random);
    Matrix<Scalar> y(C, T), dx = Matrix<Scalar>::Constant(C, T, std::nanf(""));
    Workspace workspace;
    workspace.poison = true;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, dy, dx, gradients, workspace);
    auto twice = gradients;
    mixer.backward(x, saved, dy, dx, twice, workspace);

    typename TypeParam::Reference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    const double tolerance = TypeParam::difference_factor(size) * Tolerance<Scalar>::difference;
    const auto expect_slope = [&](const Values& got, Values& of, const std::string& what) {
      const Values slope =
          central_differences(of, kDifferenceStep, [&] { return reference.loss(values, weights); });
      expect_close_to_scale(got, slope, tolerance, what + label);
    };
    expect_slope(wide(dx), values, "dx");
    const std::vector<Values*> tensors = TypeParam::tensors(reference);
    std::size_t next = 0;
    mixer.visit(
        [&](std::string_view name, const auto& once, const auto& both) {
          Values& tensor = *tensors.at(next++);
          if (!TypeParam::counts(name, tokens)) return;
          expect_slope(plain(once), tensor, std::string(name));
          expect_close_to_scale(plain(both), plain((2 * once).eval()), 10 * Tolerance<Scalar>::mode,
                                std::string(name) + " is added to" + label);
        },
        gradients, twice);
    EXPECT_EQ(next, tensors.size());
  }
}

TYPED_TEST(EveryLayer, ChunksWithTheGradientOfTheStateAreTheWhole) {
  using Scalar = typename TypeParam::Scalar;
  const Index T = 200, B = 2;
  const std::vector<Index> cuts{0, 1, 3, 33, 34, 34, 66, 66, 67, 80, T};
  for (const LayerSize& size : TypeParam::small()) {
    const Index C = size.channels;
    const auto mixer = TypeParam::make(size);
    Random random(4);
    const auto x = random_matrix<Scalar>(C, B * T, random), dy = random_matrix<Scalar>(C, B * T, random);
    Matrix<Scalar> y(C, B * T), dx(C, B * T), chunked(C, B * T);
    const Tokens<const Scalar> in(x.data(), B, T, C), given(dy.data(), B, T, C);
    const Tokens<Scalar> out(y.data(), B, T, C), d(dx.data(), B, T, C), d_chunked(chunked.data(), B, T, C);
    Workspace workspace;
    workspace.poison = true;
    auto whole = mixer.make_saved();
    auto gradients = mixer.make_gradients(), sums = gradients;
    mixer.forward(in, out, whole, workspace);
    mixer.backward(in, whole, given, d, gradients, workspace);
    for (const Index spare : {0, 5}) {
      set_zero(sums);
      std::vector<decltype(whole)> saved(cuts.size() - 1);
      auto state = mixer.make_state({.streams = B, .spare = spare});
      for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        const Index first = cuts[i], n = cuts[i + 1] - first;
        mixer.extend(in.slice(first, n), state, out.slice(first, n), saved[i], workspace);
      }
      auto d_state = mixer.make_state({.streams = B, .spare = spare});
      for (std::size_t i = saved.size(); i-- > 0;) {
        const Index first = cuts[i], n = cuts[i + 1] - first;
        mixer.backward(in.slice(first, n), saved[i], given.slice(first, n), d_chunked.slice(first, n), sums,
                       workspace, &d_state);
      }
      expect_same<TypeParam>(chunked, dx, "dx at " + text_of(size), Tolerance<Scalar>::gradient);
      EXPECT_TRUE(d_state == mixer.make_state({.streams = B, .spare = spare}))
          << "nothing is before the start";
      const double tolerance = TypeParam::kSameBits ? Tolerance<Scalar>::mode : Tolerance<Scalar>::gradient;
      mixer.visit([&](std::string_view name, const auto& got,
                      const auto& expected) { expect_close_to_scale(got, expected, tolerance, name); },
                  sums, gradients);
    }
  }
}

TYPED_TEST(EveryLayer, TheGradientOfTheStateIsThatOfTheTokensBefore) {
  using Scalar = typename TypeParam::Scalar;
  const Index before = 7, after = 9;
  for (const LayerSize& size : TypeParam::state()) {
    const Index C = size.channels;
    const auto mixer = TypeParam::make(size);
    Random random(6);
    const auto x = random_matrix<Scalar>(C, before + after, random);
    auto dy = random_matrix<Scalar>(C, before + after, random);
    dy.leftCols(before).setZero();  // all that the first tokens get comes through the state
    Matrix<Scalar> y(C, before + after), dx(C, before + after);
    Workspace workspace;
    auto state = mixer.make_state({.streams = 2}), d_state = state;
    auto early = mixer.make_saved(), late = early;
    const std::vector<Index> first{0, before}, rest{0, after}, stream{1};
    mixer.extend(x.leftCols(before), first, stream, state, y.leftCols(before), early, workspace);
    mixer.extend(x.rightCols(after), rest, stream, state, y.rightCols(after), late, workspace);
    auto gradients = mixer.make_gradients();
    mixer.backward(x.rightCols(after), late, dy.rightCols(after), dx.rightCols(after), gradients, workspace,
                   &d_state);
    mixer.backward(x.leftCols(before), early, dy.leftCols(before), dx.leftCols(before), gradients, workspace,
                   &d_state);
    const typename TypeParam::Reference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    const auto loss = [&] { return reference.loss(values, weights); };
    expect_close_to_scale(wide(dx), central_differences(values, kDifferenceStep, loss),
                          Tolerance<Scalar>::difference, "dx at " + text_of(size));
  }
}

/// All values that a state of one stream holds.
std::vector<std::span<double>> values_of(RingState<double>& state) {
  std::vector<std::span<double>> all;
  RingState<double>::visit(
      [&]<class S>(std::string_view, S span, const std::vector<Index>&) {
        if constexpr (std::is_same_v<S, std::span<double>>) all.push_back(span);
      },
      state);
  return all;
}
std::vector<std::span<double>> values_of(HierarchicalAttentionState<double>& state) {
  std::vector<std::span<double>> all = values_of(state.tails());
  HierarchicalAttentionState<double>::visit(
      [&](Index, Index, Index, std::span<double> values) { all.push_back(values); }, state);
  return all;
}

template <class Case>
class EveryLayerStateGradient : public ::testing::Test {};
TYPED_TEST_SUITE(EveryLayerStateGradient, LayerCases::Double, LayerCaseName);

TYPED_TEST(EveryLayerStateGradient, IsThatOfEveryValueOfTheState) {
  for (const LayerSize& size : TypeParam::state()) {
    const auto mixer = TypeParam::make(size);
    const Index C = size.channels;
    for (const Index before : {1, 6, 7, 8}) {
      for (const Index after : {1, 2, 70}) {
        Random random(12);
        const auto x = random_matrix<double>(C, before + after, random),
                   dy = random_matrix<double>(C, after, random);
        Matrix<double> y(C, after), dx(C, after);
        Workspace workspace;
        auto state = mixer.make_state();
        mixer.fill(x.leftCols(before), state, workspace);
        auto moved = state;
        auto saved = mixer.make_saved();
        mixer.extend(x.rightCols(after), moved, y, saved, workspace);
        auto gradients = mixer.make_gradients();
        auto d_state = moved;  // the gradient of what the call leaves: of every value another one
        for (const auto& span : values_of(d_state))
          for (double& value : span) value = random.normal();
        const auto given = d_state;
        mixer.backward(x.rightCols(after), saved, dy, dx, gradients, workspace, &d_state);
        const auto loss = [&] {
          auto own = state, weights = given;
          mixer.extend(x.rightCols(after), own, y, workspace);
          double sum = (y.array() * dy.array()).sum();
          const auto left = values_of(own), slope = values_of(weights);
          for (std::size_t i = 0; i < left.size(); ++i)
            for (std::size_t j = 0; j < left[i].size(); ++j) sum += left[i][j] * slope[i][j];
          return sum;
        };
        const auto got = values_of(d_state), at = values_of(state);
        ASSERT_EQ(got.size(), at.size());
        for (std::size_t i = 0; i < at.size(); ++i) {
          ASSERT_EQ(got[i].size(), at[i].size()) << "that of the state at entry";
          Values held(at[i].begin(), at[i].end());
          const auto loss_of_held = [&] {
            std::copy(held.begin(), held.end(), at[i].begin());
            return loss();
          };
          const Values slope = central_differences(held, kDifferenceStep, loss_of_held);
          std::copy(held.begin(), held.end(), at[i].begin());
          // A query that there is not yet, and a block that does not wait, have no effect.
          expect_close(Values(got[i].begin(), got[i].end()), slope, 100 * Tolerance<double>::difference, 0,
                       text_of(size) + ", after " + std::to_string(before) + " and " + std::to_string(after) +
                           ": part " + std::to_string(i));
        }
      }
    }
  }
}

}  // namespace
}  // namespace hsm::test::every_layer_test
