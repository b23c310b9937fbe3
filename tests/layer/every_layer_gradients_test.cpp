// SPDX-License-Identifier: MIT
//
// The adjoint of every layer of layer/layer_list.hpp: against central differences of the layer's definition, in chunks
// against the whole, and through states.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "layer/layer_list.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::every_layer_gradients_test {
namespace {

template <class Case>
class EveryLayerGradients : public ::testing::Test {};
TYPED_TEST_SUITE(EveryLayerGradients, LayerCases::All, LayerCaseName);

TYPED_TEST(EveryLayerGradients, GradientsAreThoseOfCentralDifferences) {
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

TYPED_TEST(EveryLayerGradients, ChunksWithTheGradientOfTheStateAreTheWhole) {
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

TYPED_TEST(EveryLayerGradients, TheGradientOfTheStateIsThatOfTheTokensBefore) {
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
}  // namespace hsm::test::every_layer_gradients_test
