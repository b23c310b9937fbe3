// SPDX-License-Identifier: MIT
//
// What rotary positions promise beyond the definition, which the other tests of attention compare with: they turn
// keys by the place of the token and by nothing else, outputs depend on distances alone, and places stay exact
// however far a stream has come.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <span>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"
#include "attention/cached_attention_reference.hpp"

namespace hsm::test::rotary_test {
namespace {

template <class Scalar>
class AttentionRotary : public testing::Test {};
TYPED_TEST_SUITE(AttentionRotary, Scalars);

TYPED_TEST(AttentionRotary, TheFirstTokenIsNotTurnedAndTheNextAre) {
  const Index C = 12, T = 3;
  const auto plain = make_attention<TypeParam>(C, 2), turned = make_attention<TypeParam>(C, 2, {10000});
  Random random(71);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), other(C, T);
  plain.forward(x, y);
  turned.forward(x, other);
  expect_same_bits(Matrix<TypeParam>(other.leftCols(1)), Matrix<TypeParam>(y.leftCols(1)), "the first");
  for (Index t = 1; t < T; ++t)
    EXPECT_GT((other.col(t) - y.col(t)).norm(), TypeParam(0.01) * y.col(t).norm()) << t;
}

TYPED_TEST(AttentionRotary, ABaseOfItsOwnGivesOutputsOfItsOwn) {
  const Index C = 12, T = 30;
  Random random(72);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), other(C, T);
  make_attention<TypeParam>(C, 2, {10000}).forward(x, y);
  make_attention<TypeParam>(C, 2, {1000}).forward(x, other);
  EXPECT_GT((other - y).norm(), TypeParam(0.01) * y.norm());
}

// The tokens before are ones that no query looks at: in the second pair of values, which hardly turns, their keys
// point away from where the bias of the queries points.
TYPED_TEST(AttentionRotary, OutputsDependOnDistancesAlone) {
  const Index C = 8, H = 2, D = 4, T = 40;
  auto parameters = make_attention<TypeParam>(C, H, {1 << 20}).parameters();
  for (Index h = 0; h < H; ++h) parameters.project.bias[h * D + 1] = 30;
  const CausalAttention<TypeParam> attention(parameters);
  Random random(73);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), later(C, T);
  Workspace workspace;
  attention.forward(x, y, workspace);
  for (const Index past : {1, 7, 64, 300}) {
    auto state = attention.make_state();
    state.resize(0, past);
    state.visit([&](Index, CachePart part, Index, std::span<TypeParam> values) {
      for (std::size_t i = 1; part == CachePart::kKeys && i < values.size(); i += D) values[i] = -30;
    });
    attention.extend(x, state, later, workspace);
    // Scores of some 50 round by as much more than those of size 1.
    expect_close_to_scale(later, y, 10 * Tolerance<TypeParam>::mode, std::to_string(past) + " before");
  }
}

TYPED_TEST(AttentionRotary, KeysOfAMillionthTokenAreTurnedAsExactly) {
  const Index C = 4, H = 1, D = 4, base = 10000;
  const auto attention = make_attention<TypeParam>(C, H, {base});
  const Attention<TypeParam>& p = attention.parameters();
  Random random(74);
  const auto x = random_matrix<TypeParam>(C, 1, random);
  Matrix<TypeParam> y(C, 1);
  Workspace workspace;
  auto state = attention.make_state();
  for (const Index position : {0, 1, 1000, 1000000}) {
    state.resize(0, position);
    attention.step(x, state, y, workspace);
    std::vector<TypeParam> got;
    std::vector<double> expected;
    state.visit([&](Index, CachePart part, Index h, std::span<TypeParam> values) {
      if (part != CachePart::kKeys) return;
      got.insert(got.end(), values.end() - D, values.end());
      const auto key = [&](Index d) {
        const Index row = C + h * D + d;
        long double sum = p.project.bias[row];
        for (Index c = 0; c < C; ++c)
          sum += static_cast<long double>(p.project.weight(row, c)) * static_cast<long double>(x(c, 0));
        return sum;
      };
      std::vector<double> turned(static_cast<std::size_t>(D));
      for (Index i = 0; i < D / 2; ++i) {
        const long double angle =
            static_cast<long double>(position) *
            std::pow(static_cast<long double>(base), -2.0L * static_cast<long double>(i) / D);
        const auto z = std::complex<long double>(key(i), key(i + D / 2)) * std::polar(1.0L, angle);
        turned[static_cast<std::size_t>(i)] = static_cast<double>(z.real());
        turned[static_cast<std::size_t>(i + D / 2)] = static_cast<double>(z.imag());
      }
      expected.insert(expected.end(), turned.begin(), turned.end());
    });
    const double angles = 8 * Tolerance<double>::epsilon * static_cast<double>(position);
    expect_close_to_scale(got, expected, Tolerance<TypeParam>::forward + angles,
                          "position " + std::to_string(position));
  }
}

// After a hundred thousand tokens that weigh nothing beside them: their keys are 0, the scores of the next tokens some 30.
TYPED_TEST(AttentionRotary, AHundredThousandTokensLaterItIsStillTheDefinition) {
  const Index C = 4, T = 4, past = 100000;
  auto parameters = make_attention<TypeParam>(C, 1, {100}).parameters();
  parameters.project.weight.middleRows(C, C) = parameters.project.weight.topRows(C);
  parameters.project.bias.setZero();
  Random random(75);
  Matrix<TypeParam> x = random_matrix<TypeParam>(C, T, random) * TypeParam(0.2);
  x.colwise() += Matrix<TypeParam>(random_matrix<TypeParam>(C, 1, random)).col(0);
  x *= std::sqrt(TypeParam(60)) / (parameters.project.weight.topRows(C) * x.col(0)).norm();
  const CausalAttention<TypeParam> attention(parameters);
  auto state = attention.make_state();
  state.resize(0, past);
  const CachedAttentionReference reference{AttentionReference(parameters),
                                           std::vector<double>(static_cast<std::size_t>(2 * C * past))};
  const auto expected = reference.forward(to_double(x)).y;
  Workspace workspace;
  Matrix<TypeParam> extended(C, T), stepped(C, T);
  attention.extend(x, state, extended, workspace);
  state.rewind(0, T);
  for (Index t = 0; t < T; ++t) attention.step(x.col(t), state, stepped.col(t), workspace);
  // Scores of 30 to 60 round by as much more.
  const double tolerance = 30 * Tolerance<TypeParam>::forward;
  expect_close_to_scale(to_double(extended), expected, tolerance, "extend");
  expect_close_to_scale(to_double(stepped), expected, tolerance, "step");
}

TYPED_TEST(AttentionRotary, AForkAndARewoundStreamGoOnFromTheirPlace) {
  const Index C = 12, T = 90;
  const auto attention = make_attention<TypeParam>(C, 2, {10000});
  Random random(76);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), out(C, T);
  Workspace workspace;
  attention.forward(x, y, workspace);
  auto state = attention.make_state({.streams = 2});
  const std::vector<Index> parent = {0}, child = {1}, offsets = {0, 60}, rest = {0, T - 50};
  attention.extend(x.leftCols(60), offsets, parent, state, out.leftCols(60), workspace);
  state.rewind(0, 10);
  state.copy_stream(0, 1);
  for (const auto& stream : {parent, child}) {
    out.setZero();
    attention.extend(x.rightCols(T - 50), rest, stream, state, out.rightCols(T - 50), workspace);
    expect_close_to_scale(Matrix<TypeParam>(out.rightCols(T - 50)), Matrix<TypeParam>(y.rightCols(T - 50)),
                          Tolerance<TypeParam>::mode, "stream " + std::to_string(stream[0]));
  }
  state.reset(1);
  const std::vector<Index> all = {0, T};
  attention.extend(x, all, child, state, out, workspace);
  expect_close_to_scale(out, y, Tolerance<TypeParam>::mode, "after reset");
}

}  // namespace
}  // namespace hsm::test::rotary_test
