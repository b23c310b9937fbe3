// SPDX-License-Identifier: MIT
//
// The gradient of a cache against central differences of a plain oracle: what comes in as the gradient of the
// state that a call left must go out as that of the state it started from, and reach x and the parameters.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"
#include "attention/cached_attention_reference.hpp"

namespace hsm::test::state_gradient_test {
namespace {

template <class Scalar>
class AttentionStateGradient : public testing::Test {};
TYPED_TEST_SUITE(AttentionStateGradient, Scalars);

/// Fills stream s with `count` tokens of random values.
template <class Scalar>
void fill_stream(AttentionState<Scalar>& state, Index s, Index count, Random& random) {
  state.resize(s, count);
  state.visit([&](Index stream, CachePart, Index, std::span<Scalar> values) {
    for (Scalar& value : values) value = stream == s ? static_cast<Scalar>(random.normal()) : value;
  });
}

TYPED_TEST(AttentionStateGradient, IsThatOfCentralDifferences) {
  struct Size {
    Index C, H, past, count;
    Form form;
    Index spare = 0;
  };
  for (const Size& size : {Size{6, 2, 5, 4, {}},
                           Size{4, 1, 0, 3, {}},
                           Size{3, 3, 9, 1, {}},
                           Size{2, 1, 66, 5, {}},
                           Size{2, 2, 3, 66, {}},
                           Size{8, 2, 5, 4, {100}},
                           Size{4, 1, 0, 3, {10000}},
                           Size{6, 3, 9, 1, {2}},
                           Size{2, 1, 66, 5, {10000}},
                           Size{4, 2, 3, 66, {10000}},
                           Size{6, 2, 5, 4, {0, 1}},
                           Size{6, 2, 5, 4, {0, 2}},
                           Size{8, 2, 5, 4, {100, 5}},
                           Size{3, 3, 9, 1, {0, 4}},
                           Size{2, 1, 66, 5, {10000, 17}},
                           Size{4, 2, 3, 66, {0, 33}},
                           Size{4, 2, 40, 30, {100, 20}},
                           Size{6, 2, 12, 2, {0, 4}, 5},
                           Size{4, 2, 40, 30, {100, 20}, 7},
                           Size{6, 2, 14, 5, {0, 0, 3, 2}},
                           Size{4, 2, 40, 30, {100, 0, 8, 3}},
                           Size{2, 1, 3, 40, {0, 0, 5, 1}}}) {
    const auto [C, H, past, count, form, spare] = size;
    const auto attention = make_attention<TypeParam>(C, H, form);
    Random random(41);
    const std::string label = " at C " + std::to_string(C) + " past " + std::to_string(past);
    SCOPED_TRACE(testing::Message() << form << " spare " << spare);
    // Stream 1 of two goes on; the state that the call leaves has a gradient of its own.
    auto state = attention.make_state({.streams = 2, .spare = spare}), gradient = state;
    fill_stream(state, 1, past, random);
    fill_stream(gradient, 1, past + count, random);
    const Index before = state.first(1), held = state.held(1);
    fill_stream(gradient, 0, 7, random);
    const auto x = random_matrix<TypeParam>(C, count, random);
    const auto dy = random_matrix<TypeParam>(C, count, random);
    const auto left = cache_of(gradient, 1, before, held + count), weights = to_double(dy);
    auto values = to_double(x);
    CachedAttentionReference reference{AttentionReference(attention.parameters()),
                                       to_double(cache_of(state, 1)), static_cast<std::size_t>(before)};

    const std::vector<Index> offsets = {0, count}, streams = {1};
    Matrix<TypeParam> y(C, count), dx(C, count);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    const auto other = gradient;
    attention.extend(x, offsets, streams, state, y, saved, workspace);
    expect_close_to_scale(to_double(y), reference.forward(values).y, Tolerance<TypeParam>::forward,
                          "y" + label);
    auto expected = state;  // what of the oracle's tokens it should hold
    expected.hold(1, before, past + count);
    std::size_t next = 0;
    const auto all = reference.forward(values).cache;
    expected.visit([&](Index s, CachePart, Index, std::span<TypeParam> block) {
      for (TypeParam& value : block) value = s == 1 ? static_cast<TypeParam>(all[next++]) : value;
    });
    EXPECT_EQ(state.first(1),
              form.window > 0 ? std::max<Index>(0, past + count - form.window + 1 - spare) : 0);
    expect_close_to_scale(cache_of(state, 1, state.first(1), state.held(1)),
                          cache_of(expected, 1, state.first(1), state.held(1)), Tolerance<TypeParam>::forward,
                          "the state" + label);
    attention.backward(x, saved, dy, dx, gradients, workspace, &gradient);

    const auto loss = [&] { return reference.loss(values, weights, left); };
    const double tolerance = Tolerance<TypeParam>::difference;
    const auto differences = [&](std::vector<double>& of) {
      return central_differences(of, kDifferenceStep, loss);
    };
    ASSERT_EQ(gradient.count(1), past);
    expect_same_stream(gradient, 0, other, 0, "the stream that was not named" + label);
    EXPECT_GE(gradient.first(1), before);
    expect_close_to_scale(cache_of(gradient, 1, before, held), differences(reference.cache), tolerance,
                          "state" + label);
    expect_close_to_scale(to_double(dx), differences(values), tolerance, "dx" + label);
    auto& p = reference.parameters;
    EXPECT_GT(p.margin, 2e-4) << "choices near to others" << label;
    expect_close_to_scale(to_double(gradients.project.weight.transpose()), differences(p.W), tolerance,
                          "project.weight" + label);
    expect_close_to_scale(to_double(gradients.project.bias), differences(p.b), tolerance,
                          "project.bias" + label);
    expect_close_to_scale(to_double(gradients.output.weight.transpose()), differences(p.Wo), tolerance,
                          "output.weight" + label);
    expect_close_to_scale(to_double(gradients.output.bias), differences(p.bo), tolerance,
                          "output.bias" + label);
  }
}

TYPED_TEST(AttentionStateGradient, OfFewerTokensIsZeroForTheRest) {
  const Index C = 6, past = 70, count = 10;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(42);
  auto state = attention.make_state();
  fill_stream(state, 0, past, random);
  const auto x = random_matrix<TypeParam>(C, count, random);
  const auto dy = random_matrix<TypeParam>(C, count, random);
  Matrix<TypeParam> y(C, count), dx(C, count), dx_padded(C, count), dx_cut(C, count);
  Workspace workspace;
  auto saved = attention.make_saved();
  attention.extend(x, state, y, saved, workspace);
  auto gradients = attention.make_gradients(), padded_gradients = gradients, cut_gradients = gradients;
  auto fresh = attention.make_state(), padded = fresh, room = attention.make_state({.capacity = 80});
  fill_stream(room, 0, 80, random);  // what it held before must not be read
  room.reset(0);
  padded.resize(0, past + count);
  attention.backward(x, saved, dy, dx_padded, padded_gradients, workspace, &padded);
  attention.backward(x, saved, dy, dx, gradients, workspace, &fresh);
  expect_same_bits(dx, dx_padded, "dx");
  expect_same_state(fresh, padded, "fresh");
  attention.backward(x, saved, dy, dx, gradients, workspace, &room);
  expect_same_bits(dx, dx_padded, "dx, used before");
  expect_same_state(room, padded, "used before");
  // Cut off, the chunk itself has the same gradients.
  attention.backward(x, saved, dy, dx_cut, cut_gradients, workspace);
  expect_same_bits(dx_cut, dx_padded, "dx, cut off");
  expect_same_bits(flat(cut_gradients), flat(padded_gradients), "gradients, cut off");
}

TYPED_TEST(AttentionStateGradient, NaNInOneStreamChangesNoBitOfTheOthers) {
  const Index C = 6;
  const auto attention = make_attention<TypeParam>(C, 2);
  const std::vector<Index> offsets = {0, 5, 30, 33}, streams = {2, 0, 1};
  Random random(43);
  auto state = attention.make_state({.streams = 3}), clean = state;
  for (Index s = 0; s < 3; ++s) fill_stream(state, s, 20 + s, random);
  for (Index s = 0; s < 3; ++s) fill_stream(clean, s, 10, random);
  auto poisoned = clean;
  const auto x = random_matrix<TypeParam>(C, 33, random);
  auto dy = random_matrix<TypeParam>(C, 33, random);
  Matrix<TypeParam> y(C, 33), dx(C, 33), dx_poisoned(C, 33);
  Workspace workspace;
  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  attention.extend(x, offsets, streams, state, y, saved, workspace);
  attention.backward(x, saved, dy, dx, gradients, workspace, &clean);
  dy.middleCols(5, 25).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
  attention.backward(x, saved, dy, dx_poisoned, gradients, workspace, &poisoned);
  expect_same_bits(Matrix<TypeParam>(dx_poisoned.leftCols(5)), Matrix<TypeParam>(dx.leftCols(5)), "dx of 2");
  expect_same_bits(Matrix<TypeParam>(dx_poisoned.rightCols(3)), Matrix<TypeParam>(dx.rightCols(3)),
                   "dx of 1");
  expect_same_stream(poisoned, 1, clean, 1, "state of 1");
  expect_same_stream(poisoned, 2, clean, 2, "state of 2");
  EXPECT_TRUE(dx_poisoned.middleCols(5, 25).array().isNaN().all());
}

}  // namespace
}  // namespace hsm::test::state_gradient_test
