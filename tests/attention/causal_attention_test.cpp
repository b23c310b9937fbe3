// SPDX-License-Identifier: MIT
//
// Attention against the definition in plain loops, its gradients against central differences, and what the
// modes promise of each other: causality to the bit, cuts of time, documents that do not leak, threads that
// change nothing.
#include <gtest/gtest.h>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <limits>
#include <string>
#include <vector>

#include "reference/attention_reference.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {
namespace {

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

template <class Scalar>
Matrix<Scalar> random_matrix(Index rows, Index cols, Random& random) {
  Matrix<Scalar> m(rows, cols);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<Scalar>(random.normal());
  return m;
}

/// Weights three times the usual ones, so that the softmax is far from flat, and biases that are not 0.
template <class Scalar>
CausalAttention<Scalar> make_attention(Index C, Index H, std::uint64_t seed = 5) {
  Random random(seed);
  Attention<Scalar> parameters(C, H, random);
  parameters.project.weight *= Scalar(3);
  for (Index i = 0; i < 3 * C; ++i) parameters.project.bias[i] = static_cast<Scalar>(random.normal(0.3));
  for (Index i = 0; i < C; ++i) parameters.output.bias[i] = static_cast<Scalar>(random.normal(0.3));
  return CausalAttention<Scalar>(parameters);
}

template <class Derived>
std::vector<double> to_double(const Eigen::MatrixBase<Derived>& m) {
  std::vector<double> values;
  for (Index j = 0; j < m.cols(); ++j) {
    for (Index i = 0; i < m.rows(); ++i) values.push_back(static_cast<double>(m(i, j)));
  }
  return values;
}

template <class Scalar>
std::vector<double> reference_forward(const CausalAttention<Scalar>& attention, const Matrix<Scalar>& x) {
  return AttentionReference(attention.parameters()).forward(to_double(x));
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no exception";
}

/// All parameters after one another, by visit.
template <class Scalar>
std::vector<Scalar> flatten(const Attention<Scalar>& parameters) {
  std::vector<Scalar> all;
  Attention<Scalar>::visit(
      [&](std::string_view, const auto& tensor) {
        all.insert(all.end(), tensor.data(), tensor.data() + tensor.size());
      },
      parameters);
  return all;
}

template <class Scalar>
class CausalAttentionTest : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(CausalAttentionTest, Scalars);

constexpr Index kLengths[] = {0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 96, 97, 127, 129, 200};

TYPED_TEST(CausalAttentionTest, ForwardIsTheDefinition) {
  struct Size {
    Index C, H;
  };
  for (const Size size : {Size{15, 1}, Size{10, 2}, Size{64, 4}, Size{7, 7}, Size{34, 1}}) {
    const auto attention = make_attention<TypeParam>(size.C, size.H);
    Random random(17);
    for (const Index T : kLengths) {
      const auto x = random_matrix<TypeParam>(size.C, T, random);
      Matrix<TypeParam> y(size.C, T);
      attention.forward(x, y);
      expect_close_to_scale(
          to_double(y), reference_forward(attention, x), Tolerance<TypeParam>::forward,
          "C " + std::to_string(size.C) + " H " + std::to_string(size.H) + " T " + std::to_string(T));
    }
  }
}

TYPED_TEST(CausalAttentionTest, LargeScoresStayFinite) {
  auto parameters = make_attention<TypeParam>(12, 2).parameters();
  parameters.project.weight *= TypeParam(30);
  const CausalAttention<TypeParam> attention(parameters);
  Random random(3);
  const auto x = random_matrix<TypeParam>(12, 150, random);
  Matrix<TypeParam> y(12, 150);
  attention.forward(x, y);
  // Scores of 1e4 carry a rounding of 1e4 epsilon, which exp turns into a relative one.
  expect_close_to_scale(to_double(y), reference_forward(attention, x), 3e4 * Tolerance<TypeParam>::epsilon,
                        "large scores");
}

TYPED_TEST(CausalAttentionTest, EverySequenceOfABatchIsOnItsOwnWhateverTheStrides) {
  const Index C = 12, T = 70, B = 3;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(9);
  // Sequences of T tokens in a buffer with room for T + 5, tokens C + 3 apart.
  const Index step = C + 3, batch_step = (T + 5) * step;
  auto x_memory = random_matrix<TypeParam>(batch_step, B, random);
  Matrix<TypeParam> y_memory = Matrix<TypeParam>::Constant(batch_step, B, TypeParam(-7));
  const Tokens<const TypeParam> x(x_memory.data(), B, T, C, step, batch_step);
  Workspace workspace;
  attention.forward(x, Tokens<TypeParam>(y_memory.data(), B, T, C, step, batch_step), workspace);
  for (Index b = 0; b < B; ++b) {
    const Matrix<TypeParam> own = x.sequence(b).columns(0, T);
    const Tokens<const TypeParam> y(y_memory.data() + b * batch_step, 1, T, C, step, batch_step);
    expect_close_to_scale(to_double(y.columns(0, T)), reference_forward(attention, own),
                          Tolerance<TypeParam>::forward, "sequence");
  }
  for (Index b = 0; b < B; ++b) {
    for (Index i = 0; i < batch_step; ++i) {
      if (i % step < C && i / step < T) continue;
      ASSERT_EQ(y_memory(i, b), TypeParam(-7)) << "written between tokens";
    }
  }
}

TYPED_TEST(CausalAttentionTest, GradientsAreThoseOfCentralDifferences) {
  struct Size {
    Index C, H, T;
  };
  for (const Size size : {Size{6, 2, 5}, Size{5, 1, 1}, Size{3, 3, 20}, Size{2, 1, 66}}) {
    const auto [C, H, T] = size;
    const auto attention = make_attention<TypeParam>(C, H);
    Random random(21);
    const auto x = random_matrix<TypeParam>(C, T, random);
    const auto dy = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), dx(C, T);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    attention.forward(x, y, saved, workspace);
    attention.backward(x, saved, dy, dx, gradients, workspace);

    AttentionReference reference(attention.parameters());
    auto values = to_double(x);
    const auto weights = to_double(dy);
    const auto loss = [&] { return reference.loss(values, weights); };
    const double tolerance = Tolerance<TypeParam>::difference;
    const auto differences = [&](std::vector<double>& of) {
      return central_differences(of, kDifferenceStep, loss);
    };
    const std::string label = " at C " + std::to_string(C) + " T " + std::to_string(T);
    // The bias of the keys shifts all scores of a query alike: its gradient is 0, so it is compared beside
    // the others of the bias and not to its own size.
    expect_close_to_scale(to_double(dx), differences(values), tolerance, "dx" + label);
    expect_close_to_scale(to_double(gradients.project.weight.transpose()), differences(reference.W),
                          tolerance, "project.weight" + label);
    expect_close_to_scale(to_double(gradients.project.bias), differences(reference.b), tolerance,
                          "project.bias" + label);
    expect_close_to_scale(to_double(gradients.output.weight.transpose()), differences(reference.Wo),
                          tolerance, "output.weight" + label);
    expect_close_to_scale(to_double(gradients.output.bias), differences(reference.bo), tolerance,
                          "output.bias" + label);
  }
}

// Central differences would take too long for long sequences: the derivative along one direction says the
// same.
TYPED_TEST(CausalAttentionTest, GradientsOfLongSequencesAreRightAlongARandomDirection) {
  for (const Index T : {63, 64, 65, 127, 129, 200}) {
    const Index C = 20, H = 2;
    const auto attention = make_attention<TypeParam>(C, H);
    Random random(31);
    const auto x = random_matrix<TypeParam>(C, T, random);
    const auto dy = random_matrix<TypeParam>(C, T, random);
    const auto direction = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), dx(C, T);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    attention.forward(x, y, saved, workspace);
    attention.backward(x, saved, dy, dx, gradients, workspace);

    const auto moved = [&](AttentionReference reference, double step) {
      auto values = to_double(x);
      const auto along = to_double(direction);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * along[i];
      return reference.loss(values, to_double(dy));
    };
    const AttentionReference reference(attention.parameters());
    const double h = kDifferenceStep;
    const double expected = (moved(reference, h) - moved(reference, -h)) / (2 * h);
    const double got = dx.template cast<double>().cwiseProduct(direction.template cast<double>()).sum();
    const double scale = dx.template cast<double>().norm() * direction.template cast<double>().norm();
    expect_close(got, expected, Tolerance<TypeParam>::difference * scale, 0, "T " + std::to_string(T));

    // Along the gradient itself the loss must rise by the gradient's squared length.
    AttentionReference up = reference, down = reference;
    double squares = 0;
    for (Index i = 0; i < 3 * C; ++i) {
      for (Index j = 0; j < C; ++j) {
        const double g =
            static_cast<double>(gradients.project.weight(i, j)) / gradients.project.weight.norm();
        up.W[static_cast<std::size_t>(i * C + j)] += h * g;
        down.W[static_cast<std::size_t>(i * C + j)] -= h * g;
        squares += g * static_cast<double>(gradients.project.weight(i, j));
      }
    }
    const double slope = (moved(up, 0) - moved(down, 0)) / (2 * h);
    expect_close(slope, squares, 0, 10 * Tolerance<TypeParam>::difference, "weights, T " + std::to_string(T));
  }
}

TYPED_TEST(CausalAttentionTest, BackwardOverwritesDxAndAddsToGradients) {
  const Index C = 8, T = 33;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(4);
  const auto x = random_matrix<TypeParam>(C, T, random);
  const auto dy = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), dx(C, T), again = Matrix<TypeParam>::Constant(C, T, TypeParam(100));
  Workspace workspace;
  auto saved = attention.make_saved();
  attention.forward(x, y, saved, workspace);
  auto once = attention.make_gradients(), twice = attention.make_gradients();
  attention.backward(x, saved, dy, dx, once, workspace);
  attention.backward(x, saved, dy, again, twice, workspace);
  attention.backward(x, saved, dy, again, twice, workspace);
  expect_same_bits(dx, again, "dx");
  auto doubled = flatten(once);
  for (auto& value : doubled) value *= TypeParam(2);
  expect_close_to_scale(flatten(twice), doubled, Tolerance<TypeParam>::gradient, "gradients");
}

TYPED_TEST(CausalAttentionTest, LaterTokensChangeNoBitOfEarlierOutputs) {
  const Index C = 24, T = 140;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(8);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), poisoned(C, T);
  attention.forward(x, y);
  for (Index t = 0; t < T; ++t) {
    Matrix<TypeParam> bad = x;
    bad.rightCols(T - t - 1).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
    attention.forward(bad, poisoned);
    ASSERT_TRUE(expect_same_bits(Matrix<TypeParam>(poisoned.leftCols(t + 1)),
                                 Matrix<TypeParam>(y.leftCols(t + 1)), "outputs up to " + std::to_string(t)));
    ASSERT_TRUE(poisoned.rightCols(T - t - 1).array().isNaN().all()) << "NaN is lost after " << t;
  }
}

TYPED_TEST(CausalAttentionTest, PackedDocumentsAreThoseOnTheirOwn) {
  const Index C = 12;
  const auto attention = make_attention<TypeParam>(C, 2);
  const std::vector<Index> offsets = {0, 0, 1, 6, 6, 71, 200, 201, 201};
  const Index N = offsets.back();
  Random random(12);
  const auto x = random_matrix<TypeParam>(C, N, random);
  const auto dy = random_matrix<TypeParam>(C, N, random);
  Matrix<TypeParam> y(C, N), dx(C, N);
  Workspace workspace;
  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients(), sum = attention.make_gradients();
  attention.packed(x, offsets, y, saved, workspace);
  attention.backward(x, saved, dy, dx, gradients, workspace);
  Matrix<TypeParam> unsaved(C, N);
  attention.packed(x, offsets, unsaved, workspace);
  expect_same_bits(unsaved, y, "without saved");
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    const Index first = offsets[i], count = offsets[i + 1] - first;
    const Matrix<TypeParam> own = x.middleCols(first, count), own_dy = dy.middleCols(first, count);
    Matrix<TypeParam> own_y(C, count), own_dx(C, count);
    attention.forward(own, own_y, saved, workspace);
    attention.backward(own, saved, own_dy, own_dx, sum, workspace);
    const std::string label = "document " + std::to_string(i);
    expect_close_to_scale(Matrix<TypeParam>(y.middleCols(first, count)), own_y, Tolerance<TypeParam>::mode,
                          label);
    expect_close_to_scale(Matrix<TypeParam>(dx.middleCols(first, count)), own_dx,
                          Tolerance<TypeParam>::gradient, label + " dx");
  }
  expect_close_to_scale(flatten(gradients), flatten(sum), Tolerance<TypeParam>::gradient, "gradients");
}

TYPED_TEST(CausalAttentionTest, PackedDocumentsDoNotLeakEvenNaN) {
  const Index C = 12;
  const auto attention = make_attention<TypeParam>(C, 2);
  const std::vector<Index> offsets = {0, 37, 50, 120};
  Random random(13);
  auto x = random_matrix<TypeParam>(C, 120, random);
  Matrix<TypeParam> y(C, 120), poisoned(C, 120);
  Workspace workspace;
  attention.packed(x, offsets, y, workspace);
  x.middleCols(37, 13).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
  attention.packed(x, offsets, poisoned, workspace);
  expect_same_bits(Matrix<TypeParam>(poisoned.leftCols(37)), Matrix<TypeParam>(y.leftCols(37)), "before");
  expect_same_bits(Matrix<TypeParam>(poisoned.rightCols(70)), Matrix<TypeParam>(y.rightCols(70)), "behind");
}

TYPED_TEST(CausalAttentionTest, AnyCutOfTimeIsForward) {
  const Index C = 20, T = 230, B = 2;
  const auto attention = make_attention<TypeParam>(C, 4);
  Random random(14);
  const auto x = random_matrix<TypeParam>(C, B * T, random);
  Matrix<TypeParam> y(C, B * T);
  Workspace workspace;
  const Tokens<const TypeParam> in(x.data(), B, T, C);
  attention.forward(in, Tokens<TypeParam>(y.data(), B, T, C), workspace);
  for (int round = 0; round < 6; ++round) {
    auto state = attention.make_state({.streams = B, .capacity = round % 2 ? T : 0});
    Matrix<TypeParam> cut(C, B * T);
    const Tokens<TypeParam> out(cut.data(), B, T, C);
    for (Index t = 0; t < T;) {
      const Index count = std::min<Index>(T - t, round == 0 ? 1 : static_cast<Index>(random.below(90)));
      if (round == 0) {  // tokens of B streams one after another, as [1,B,C]
        Matrix<TypeParam> now(C, B), result(C, B);
        for (Index b = 0; b < B; ++b) now.col(b) = x.col(b * T + t);
        attention.step(now, state, result, workspace);
        for (Index b = 0; b < B; ++b) cut.col(b * T + t) = result.col(b);
      } else if (count == 1) {
        attention.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
      } else {
        attention.extend(in.slice(t, count), state, out.slice(t, count), workspace);
      }
      t += count;
      for (Index b = 0; b < B; ++b) ASSERT_EQ(state.count(b), t);
    }
    expect_close_to_scale(cut, y, Tolerance<TypeParam>::mode, "round " + std::to_string(round));
  }
}

// Longer than a stretch of the projection (4096) and two passes of extend (2048).
TYPED_TEST(CausalAttentionTest, LongSequencesAreWorkedThroughInPieces) {
  const Index C = 2, T = 4200;
  const auto attention = make_attention<TypeParam>(C, 1);
  Random random(23);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), extended(C, T);
  Workspace workspace;
  attention.forward(x, y, workspace);
  expect_close_to_scale(to_double(y), reference_forward(attention, x), Tolerance<TypeParam>::forward,
                        "forward");
  auto state = attention.make_state();
  attention.extend(x, state, extended, workspace);
  EXPECT_EQ(state.count(0), T);
  expect_close_to_scale(extended, y, Tolerance<TypeParam>::mode, "extend");
}

TYPED_TEST(CausalAttentionTest, BackwardIsTheSameThroughStrides) {
  const Index C = 12, T = 70, B = 3, step = C + 3, batch_step = (T + 5) * step;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(24);
  const auto x = random_matrix<TypeParam>(C, B * T, random);
  const auto dy = random_matrix<TypeParam>(C, B * T, random);
  Matrix<TypeParam> y(C, B * T), dx(C, B * T);
  Workspace workspace;
  auto saved = attention.make_saved();
  auto dense = attention.make_gradients(), strided = attention.make_gradients();
  const auto view = [&](auto& m) { return Tokens<TypeParam>(m.data(), B, T, C, step, batch_step); };
  const Tokens<const TypeParam> x_dense(x.data(), B, T, C), dy_dense(dy.data(), B, T, C);
  attention.forward(x_dense, Tokens<TypeParam>(y.data(), B, T, C), saved, workspace);
  attention.backward(x_dense, saved, dy_dense, Tokens<TypeParam>(dx.data(), B, T, C), dense, workspace);

  const TypeParam canary(-7);
  Matrix<TypeParam> x_wide = Matrix<TypeParam>::Constant(batch_step, B, canary);
  Matrix<TypeParam> y_wide = x_wide, dy_wide = x_wide, dx_wide = x_wide;
  for (Index i = 0; i < B * T; ++i) {
    view(x_wide).columns(i, 1) = x.col(i);
    view(dy_wide).columns(i, 1) = dy.col(i);
  }
  attention.forward(view(x_wide), view(y_wide), saved, workspace);
  attention.backward(view(x_wide), saved, view(dy_wide), view(dx_wide), strided, workspace);
  Matrix<TypeParam> got(C, B * T);
  for (Index i = 0; i < B * T; ++i) got.col(i) = view(dx_wide).columns(i, 1);
  expect_close_to_scale(got, dx, Tolerance<TypeParam>::gradient, "dx");
  expect_close_to_scale(flatten(strided), flatten(dense), Tolerance<TypeParam>::gradient, "gradients");
  for (Index b = 0; b < B; ++b) {
    for (Index i = 0; i < batch_step; ++i) {
      if (i % step < C && i / step < T) continue;
      ASSERT_EQ(dx_wide(i, b), canary) << "written between tokens";
    }
  }
}

TYPED_TEST(CausalAttentionTest, AStateCanBeCopiedResetAndRewound) {
  const Index C = 10, T = 90;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(15);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Workspace workspace;
  const auto steps = [&](auto& state, Index first, Index count) {
    Matrix<TypeParam> y(C, count);
    for (Index t = 0; t < count; ++t) attention.step(x.col(first + t), state, y.col(t), workspace);
    return y;
  };
  auto state = attention.make_state();
  const auto start = steps(state, 0, 50);
  auto copy = state;
  const auto end = steps(state, 50, 40);
  expect_same_bits(steps(copy, 50, 40), end, "copy");
  state.rewind(0, 40);
  EXPECT_EQ(state.count(0), 50);
  expect_same_bits(steps(state, 50, 40), end, "after rewind");
  state.reset(0);
  EXPECT_EQ(state.count(0), 0);
  expect_same_bits(steps(state, 0, 50), start, "after reset");
  EXPECT_THROW(state.rewind(0, 51), std::out_of_range);
  EXPECT_THROW(state.rewind(0, -1), std::out_of_range);
  EXPECT_THROW(state.rewind(1, 0), std::out_of_range);
  EXPECT_THROW(state.reset(-1), std::out_of_range);
  EXPECT_EQ(state.count(0), 50);
}

TYPED_TEST(CausalAttentionTest, StreamsOfDifferentLengthsGoOnByThemselves) {
  const Index C = 8;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(16);
  const auto x = random_matrix<TypeParam>(C, 40, random);
  Workspace workspace;
  auto both = attention.make_state({.streams = 2});
  Matrix<TypeParam> now(C, 2), y(C, 2);
  for (Index t = 0; t < 40; ++t) {  // stream 1 starts again at t = 25
    if (t == 25) both.reset(1);
    now.col(0) = x.col(t);
    now.col(1) = x.col(t >= 25 ? t - 25 : t);
    attention.step(now, both, y, workspace);
  }
  EXPECT_EQ(both.count(0), 40);
  EXPECT_EQ(both.count(1), 15);
  const auto expected = reference_forward(attention, x);
  const auto token = [&](Index t) {
    return std::vector<double>(expected.begin() + t * C, expected.begin() + (t + 1) * C);
  };
  expect_close_to_scale(to_double(y.col(0)), token(39), Tolerance<TypeParam>::forward, "stream 0");
  expect_close_to_scale(to_double(y.col(1)), token(14), Tolerance<TypeParam>::forward, "stream 1");
}

TYPED_TEST(CausalAttentionTest, TheCapacityIsRefusedBeforeAnythingChanges) {
  const Index C = 8;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(18);
  const auto x = random_matrix<TypeParam>(C, 12, random);
  Workspace workspace;
  auto state = attention.make_state({.streams = 1, .capacity = 10});
  const std::size_t bytes = state.bytes();
  EXPECT_EQ(bytes, 10 * 2 * C * sizeof(TypeParam));
  Matrix<TypeParam> y = Matrix<TypeParam>::Constant(C, 12, TypeParam(3));
  attention.extend(x.leftCols(7), state, y.leftCols(7), workspace);
  const Matrix<TypeParam> before = y;
  EXPECT_EQ(message_of([&] { attention.extend(x.leftCols(4), state, y.leftCols(4), workspace); }),
            "CausalAttention::extend: stream 0 holds 7 tokens of a capacity of 10, cannot take 4 more");
  EXPECT_THROW(attention.extend(x.leftCols(4), state, y.leftCols(4), workspace), std::out_of_range);
  EXPECT_EQ(state.count(0), 7);
  expect_same_bits(y, before, "y after a refusal");
  attention.extend(x.middleCols(7, 3), state, y.middleCols(7, 3), workspace);
  EXPECT_EQ(message_of([&] { attention.step(x.col(10), state, y.col(10), workspace); }),
            "CausalAttention::step: stream 0 holds 10 tokens of a capacity of 10, cannot take 1 more");
  EXPECT_EQ(state.bytes(), bytes);
  expect_close_to_scale(to_double(y.leftCols(10)),
                        reference_forward(attention, Matrix<TypeParam>(x.leftCols(10))),
                        Tolerance<TypeParam>::forward, "what fitted");
}

TYPED_TEST(CausalAttentionTest, ThreadsAndPoisonedScratchChangeNoBit) {
  const Index C = 32, T = 150, B = 2;
  const auto attention = make_attention<TypeParam>(C, 4);
  Random random(19);
  const auto x = random_matrix<TypeParam>(C, B * T, random);
  const auto dy = random_matrix<TypeParam>(C, B * T, random);
  struct Result {
    Matrix<TypeParam> y, dx, extended;
    std::vector<TypeParam> gradients;
  };
  const auto run = [&](Workspace& workspace) {
    Result r{Matrix<TypeParam>(C, B * T), Matrix<TypeParam>(C, B * T), Matrix<TypeParam>(C, B * T), {}};
    const Tokens<const TypeParam> in(x.data(), B, T, C), d_out(dy.data(), B, T, C);
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    attention.forward(in, Tokens<TypeParam>(r.y.data(), B, T, C), saved, workspace);
    attention.backward(in, saved, d_out, Tokens<TypeParam>(r.dx.data(), B, T, C), gradients, workspace);
    r.gradients = flatten(gradients);
    auto state = attention.make_state({.streams = B});
    const Tokens<TypeParam> out(r.extended.data(), B, T, C);
    attention.extend(in.slice(0, 100), state, out.slice(0, 100), workspace);
    for (Index t = 100; t < T; ++t) attention.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
    return r;
  };
  Workspace serial;
  const Result expected = run(serial);
  const auto compare_with = [&](const Result& r, const std::string& label) {
    expect_same_bits(r.y, expected.y, label + " y");
    expect_same_bits(r.dx, expected.dx, label + " dx");
    expect_same_bits(r.extended, expected.extended, label + " extend and step");
    expect_same_bits(r.gradients, expected.gradients, label + " gradients");
  };
  for (const int threads : {2, 3}) {
    ThreadedExecutor executor(threads);
    Workspace threaded(executor);
    compare_with(run(threaded), std::to_string(threads) + " threads");
  }
  Workspace poisoned;
  poisoned.poison = true;
  compare_with(run(poisoned), "poison");
}

TEST(CausalAttentionChecks, SayWhatWasExpectedAndWhatCame) {
  const auto attention = make_attention<float>(8, 2);
  Workspace workspace;
  std::vector<float> memory(4096);
  const auto tokens = [&](Index B, Index T, Index C, Index at) {
    return Tokens<float>(memory.data() + at, B, T, C);
  };
  const auto forward = [&](Tokens<float> x, Tokens<float> y) {
    return message_of([&] { attention.forward(x, y, workspace); });
  };
  EXPECT_EQ(forward(tokens(2, 3, 8, 0), tokens(2, 3, 4, 1000)),
            "CausalAttention::forward: y must be [2,3,8], got [2,3,4]");
  EXPECT_EQ(forward(tokens(2, 3, 9, 0), tokens(2, 3, 9, 1000)),
            "CausalAttention::forward: x must be [2,3,8], got [2,3,9]");
  EXPECT_EQ(forward(tokens(2, 3, 8, 0), tokens(2, 3, 8, 40)),
            "CausalAttention::forward: y must be apart in memory, got buffers that overlap");
  EXPECT_EQ(forward(tokens(2, 3, 8, 0), tokens(2, 3, 8, 48)), "no exception");

  auto state = attention.make_state({.streams = 4});
  EXPECT_EQ(message_of([&] { attention.step(tokens(3, 1, 8, 0), state, tokens(3, 1, 8, 1000), workspace); }),
            "CausalAttention::step: x must be one token for each of 4 streams, got [3,1,8]");
  EXPECT_EQ(message_of([&] { attention.step(tokens(1, 4, 8, 0), state, tokens(4, 1, 7, 1000), workspace); }),
            "CausalAttention::step: y must be [4,1,8], got [4,1,7]");
  EXPECT_EQ(
      message_of([&] { attention.extend(tokens(3, 5, 8, 0), state, tokens(3, 5, 8, 1000), workspace); }),
      "CausalAttention::extend: x must be [4,5,8], got [3,5,8]");
  auto other = make_attention<float>(8, 4).make_state({.streams = 4});
  EXPECT_EQ(message_of([&] { attention.step(tokens(4, 1, 8, 0), other, tokens(4, 1, 8, 1000), workspace); }),
            "CausalAttention::step: heads of the state must be 2, got 4");

  const auto packed = [&](std::vector<Index> offsets) {
    return message_of(
        [&] { attention.packed(tokens(1, 6, 8, 0), offsets, tokens(1, 6, 8, 1000), workspace); });
  };
  EXPECT_EQ(packed({}),
            "CausalAttention::packed: offsets must be a list that begins with 0, got an empty one");
  EXPECT_EQ(packed({1, 6}), "CausalAttention::packed: offsets must be a list that begins with 0, got 1");
  EXPECT_EQ(packed({0, 4, 3, 6}),
            "CausalAttention::packed: offset 2 must be at least the one before, 4, got 3");
  EXPECT_EQ(packed({0, 5}), "CausalAttention::packed: the last offset must be 6, the tokens of x, got 5");
  EXPECT_EQ(packed({0, 2, 6}), "no exception");

  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  const auto backward = [&](Tokens<float> x, Tokens<float> dy, Tokens<float> dx) {
    return message_of([&] { attention.backward(x, saved, dy, dx, gradients, workspace); });
  };
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), tokens(1, 6, 8, 2000)),
            "CausalAttention::backward: the number of tokens in saved must be 6, got 0");
  attention.forward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), saved, workspace);
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 5, 8, 1000), tokens(1, 6, 8, 2000)),
            "CausalAttention::backward: dy must be [1,6,8], got [1,5,8]");
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), tokens(1, 6, 8, 1000)),
            "CausalAttention::backward: dx must be apart in memory, got buffers that overlap");
  gradients.output.bias.resize(3);
  EXPECT_EQ(backward(tokens(1, 6, 8, 0), tokens(1, 6, 8, 1000), tokens(1, 6, 8, 2000)),
            "CausalAttention::backward: gradients.output.bias must be [8], got [3]");
}

TEST(CausalAttentionChecks, RefuseParametersThatDoNotFit) {
  Random random(1);
  EXPECT_EQ(message_of([&] { Attention<float>(10, 4, random); }),
            "Attention: heads must be a divisor of 10 channels, got 4");
  EXPECT_EQ(message_of([&] { Attention<float>(0, 1, random); }),
            "Attention: channels must be at least 1, got 0");
  Attention<float> parameters(8, 2, random);
  parameters.project.weight.resize(20, 8);
  EXPECT_EQ(message_of([&] { CausalAttention<float> attention(parameters); }),
            "CausalAttention: project.weight must be [24,8], got [20,8]");
  const auto attention = make_attention<float>(8, 2);
  EXPECT_EQ(message_of([&] { attention.make_state({.streams = -1}); }),
            "AttentionState: streams must be at least 0, got -1");
  EXPECT_EQ(message_of([&] { attention.make_state({.capacity = -1}); }),
            "AttentionState: capacity must be at least 0, got -1");
  EXPECT_THROW(attention.make_state({.capacity = std::numeric_limits<Index>::max() / 4}), std::length_error);
}

TEST(CausalAttentionParameters, AreVisitedUnderTheirNames) {
  const auto attention = make_attention<double>(6, 3);
  auto gradients = attention.make_gradients();
  std::vector<std::string> names;
  CausalAttention<double>::visit(
      [&](std::string_view name, const auto& tensor, auto& gradient) {
        names.emplace_back(name);
        EXPECT_EQ(tensor.size(), gradient.size());
        EXPECT_EQ(gradient.norm(), 0);
      },
      attention, gradients);
  EXPECT_EQ(names,
            (std::vector<std::string>{"project.weight", "project.bias", "output.weight", "output.bias"}));
  EXPECT_EQ(count_parameters(attention.parameters()), 4 * 6 * 6 + 4 * 6);
}

}  // namespace
}  // namespace hsm::test
