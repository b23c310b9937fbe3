// SPDX-License-Identifier: MIT
//
// Backpropagation through time: chunks forward from the first to the last, backward from the last to the
// first with the gradient of the state between them, give the gradients of the whole sequence.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::through_time_test {
namespace {

template <class Scalar>
class AttentionThroughTime : public testing::Test {};
TYPED_TEST_SUITE(AttentionThroughTime, Scalars);

enum class Across { kGradient, kNothing };

/// What B sequences of T tokens give, chunk by chunk; `ends` are the ends of the chunks.
template <class Scalar>
struct Chunked {
  Matrix<Scalar> dx;
  Attention<Scalar> gradients;
  AttentionState<Scalar> state_gradient;

  Chunked(const CausalAttention<Scalar>& attention, const Matrix<Scalar>& x, const Matrix<Scalar>& dy,
          Index B, const std::vector<Index>& ends, Across across)
      : dx(x.rows(), x.cols()), gradients(attention.make_gradients()) {
    const Index C = x.rows(), T = x.cols() / B;
    const Tokens<const Scalar> in(x.data(), B, T, C), d_out(dy.data(), B, T, C);
    const Tokens<Scalar> d_in(dx.data(), B, T, C);
    Workspace workspace;
    Matrix<Scalar> y(C, B * T);
    auto state = attention.make_state({.streams = B});
    state_gradient = attention.make_state({.streams = B});
    std::vector<AttentionSaved<Scalar>> saved(ends.size());
    for (std::size_t i = 0; i < ends.size(); ++i) {
      const Index first = i > 0 ? ends[i - 1] : 0, count = ends[i] - first;
      attention.extend(in.slice(first, count), state, Tokens<Scalar>(y.data(), B, count, C), saved[i],
                       workspace);
    }
    for (std::size_t i = ends.size(); i-- > 0;) {
      const Index first = i > 0 ? ends[i - 1] : 0, count = ends[i] - first;
      attention.backward(in.slice(first, count), saved[i], d_out.slice(first, count),
                         d_in.slice(first, count), gradients, workspace,
                         across == Across::kGradient ? &state_gradient : nullptr);
    }
  }
};

TYPED_TEST(AttentionThroughTime, AnyCutHasTheGradientsOfTheWhole) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 20, H = form.rotary > 0 ? 2 : 4, T = 150, B = 2;
    const auto attention = make_attention<TypeParam>(C, H, form);
    Random random(51);
    const auto x = random_matrix<TypeParam>(C, B * T, random);
    const auto dy = random_matrix<TypeParam>(C, B * T, random);
    Matrix<TypeParam> y(C, B * T), dx(C, B * T);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    const Tokens<const TypeParam> in(x.data(), B, T, C);
    attention.forward(in, Tokens<TypeParam>(y.data(), B, T, C), saved, workspace);
    attention.backward(in, saved, Tokens<const TypeParam>(dy.data(), B, T, C),
                       Tokens<TypeParam>(dx.data(), B, T, C), gradients, workspace);

    constexpr Index kRandom = -1;
    for (const Index chunk : {Index{1}, Index{2}, Index{3}, Index{7}, Index{64}, T, kRandom, kRandom}) {
      std::vector<Index> ends;
      for (Index t = 0; t < T; ends.push_back(t))
        t = std::min(T, t + (chunk == kRandom ? static_cast<Index>(random.below(70)) : chunk));
      const std::string label = " in chunks of " + std::to_string(chunk);
      const Chunked<TypeParam> cut(attention, x, dy, B, ends, Across::kGradient);
      expect_close_to_scale(cut.dx, dx, Tolerance<TypeParam>::gradient, "dx" + label);
      const auto check = [&](std::string_view name, const auto& got, const auto& expected) {
        expect_close_to_scale(got, expected, Tolerance<TypeParam>::gradient, std::string(name) + label);
      };
      Attention<TypeParam>::visit(check, cut.gradients, gradients);
      for (Index b = 0; b < B; ++b) EXPECT_EQ(cut.state_gradient.count(b), 0) << "before the first token";
    }
  }
}

// Truncated, each chunk is the adjoint of itself alone: the gradient of a direction of x in the last chunk is
// whole, while that of the first misses what the second one reads from the cache.
TYPED_TEST(AttentionThroughTime, TruncatedItStopsAtTheStartOfAChunk) {
  const Index C = 12, T = 100;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(52);
  const auto x = random_matrix<TypeParam>(C, T, random);
  const auto dy = random_matrix<TypeParam>(C, T, random);
  const std::vector<Index> ends = {40, T};
  const Chunked<TypeParam> whole(attention, x, dy, 1, ends, Across::kGradient);
  const Chunked<TypeParam> cut(attention, x, dy, 1, ends, Across::kNothing);
  expect_same_bits(Matrix<TypeParam>(cut.dx.rightCols(60)), Matrix<TypeParam>(whole.dx.rightCols(60)),
                   "the last chunk");
  const Matrix<TypeParam> first_x = x.leftCols(40), first_dy = dy.leftCols(40);
  const Chunked<TypeParam> first(attention, first_x, first_dy, 1, {40}, Across::kGradient);
  expect_same_bits(Matrix<TypeParam>(cut.dx.leftCols(40)), first.dx, "the first chunk");
  const TypeParam missing = (cut.dx - whole.dx).leftCols(40).norm();
  EXPECT_GT(missing, TypeParam(0.01) * whole.dx.norm()) << "nothing was cut off";
}

// Streams that go on by different lengths, in different calls, and one that a call does not name.
TYPED_TEST(AttentionThroughTime, ChosenStreamsHaveTheGradientsOfTheirDocuments) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, S = 3;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    struct Call {
      std::vector<Index> streams, counts;
    };
    const std::vector<Call> calls = {
        {{2, 0}, {30, 70}}, {{1}, {5}}, {{0, 1, 2}, {1, 66, 0}}, {{2, 1}, {64, 3}}};
    Random random(53);
    Workspace workspace;
    auto state = attention.make_state({.streams = S}), state_gradient = state;
    std::vector<AttentionSaved<TypeParam>> saved(calls.size());
    std::vector<Matrix<TypeParam>> x(S, Matrix<TypeParam>(C, 0)), dy = x, dx = x, now(calls.size()),
                                                                  d_now = now;
    const auto append = [](Matrix<TypeParam>& to, const auto& columns) {
      Matrix<TypeParam> both(to.rows(), to.cols() + columns.cols());
      both << to, columns;
      to = both;
    };
    const auto offsets_of = [](const Call& call) {
      std::vector<Index> offsets = {0};
      for (const Index count : call.counts) offsets.push_back(offsets.back() + count);
      return offsets;
    };
    for (std::size_t c = 0; c < calls.size(); ++c) {
      const auto offsets = offsets_of(calls[c]);
      now[c] = random_matrix<TypeParam>(C, offsets.back(), random);
      d_now[c] = random_matrix<TypeParam>(C, offsets.back(), random);
      Matrix<TypeParam> y(C, offsets.back());
      attention.extend(now[c], offsets, calls[c].streams, state, y, saved[c], workspace);
      for (std::size_t i = 0; i < calls[c].streams.size(); ++i) {
        const auto s = static_cast<std::size_t>(calls[c].streams[i]);
        append(x[s], now[c].middleCols(offsets[i], calls[c].counts[i]));
        append(dy[s], d_now[c].middleCols(offsets[i], calls[c].counts[i]));
      }
    }
    auto gradients = attention.make_gradients(), expected = gradients;
    std::vector<Index> ends;
    for (Index s = 0; s < S; ++s) {
      const auto i = static_cast<std::size_t>(s);
      const Index T = x[i].cols();
      dx[i].resize(C, T);
      ends.push_back(T);
      Matrix<TypeParam> y(C, T);
      auto own = attention.make_saved();
      attention.forward(x[i], y, own, workspace);
      attention.backward(x[i], own, dy[i], dx[i], expected, workspace);
    }
    for (std::size_t c = calls.size(); c-- > 0;) {
      const auto offsets = offsets_of(calls[c]);
      Matrix<TypeParam> d_in(C, offsets.back());
      attention.backward(now[c], saved[c], d_now[c], d_in, gradients, workspace, &state_gradient);
      for (std::size_t i = 0; i < calls[c].streams.size(); ++i) {
        const auto s = static_cast<std::size_t>(calls[c].streams[i]);
        ends[s] -= calls[c].counts[i];
        const double scale = Tolerance<TypeParam>::gradient * largest(dx[s]);
        expect_close(Matrix<TypeParam>(d_in.middleCols(offsets[i], calls[c].counts[i])),
                     Matrix<TypeParam>(dx[s].middleCols(ends[s], calls[c].counts[i])), scale, 0,
                     "dx of stream " + std::to_string(s) + " in call " + std::to_string(c));
      }
    }
    expect_close_to_scale(flat(gradients), flat(expected), Tolerance<TypeParam>::gradient, "gradients");
    for (Index s = 0; s < S; ++s) EXPECT_EQ(state_gradient.count(s), 0);
  }
}

}  // namespace
}  // namespace hsm::test::through_time_test
