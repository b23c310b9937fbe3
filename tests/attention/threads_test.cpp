// SPDX-License-Identifier: MIT
//
// The number of threads changes no bit of attention in any mode, and no scratch is read before it is written.
#include <gtest/gtest.h>

#include <hsm/core/threaded_executor.hpp>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::threads_test {
namespace {

template <class Scalar>
class AttentionThreads : public testing::Test {};
TYPED_TEST_SUITE(AttentionThreads, Scalars);

TYPED_TEST(AttentionThreads, ThreadsAndPoisonedScratchChangeNoBit) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 32, T = 150, B = 2;
    const auto attention = make_attention<TypeParam>(C, 4, form);
    Random random(19);
    const auto x = random_matrix<TypeParam>(C, B * T, random);
    const auto dy = random_matrix<TypeParam>(C, B * T, random);
    struct Result {
      Matrix<TypeParam> y, dx, extended, dx_extended;
      std::vector<TypeParam> gradients, gradients_extended, state, state_gradient;
    };
    const auto run = [&](Workspace& workspace) {
      const Matrix<TypeParam> empty(C, B * T);
      Result r{empty, empty, empty, empty, {}, {}, {}, {}};
      const Tokens<const TypeParam> in(x.data(), B, T, C), d_out(dy.data(), B, T, C);
      auto saved = attention.make_saved();
      auto gradients = attention.make_gradients();
      attention.forward(in, Tokens<TypeParam>(r.y.data(), B, T, C), saved, workspace);
      attention.backward(in, saved, d_out, Tokens<TypeParam>(r.dx.data(), B, T, C), gradients, workspace);
      r.gradients = flat(gradients);
      auto state = attention.make_state({.streams = B});
      const Tokens<TypeParam> out(r.extended.data(), B, T, C);
      attention.extend(in.slice(0, 100), state, out.slice(0, 100), workspace);
      for (Index t = 100; t < T; ++t) attention.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
      // Stream 1 alone, longer than a tile, with a record; then the gradient of the state that it leaves.
      const std::vector<Index> offsets = {0, T}, streams = {1};
      const Tokens<const TypeParam> again = in.sequence(0);
      attention.extend(again, offsets, streams, state, out.sequence(0), saved, workspace);
      auto state_gradient = state;
      set_zero(gradients);
      attention.backward(again, saved, d_out.sequence(0),
                         Tokens<TypeParam>(r.dx_extended.data(), B, T, C).sequence(0), gradients, workspace,
                         &state_gradient);
      r.dx_extended.rightCols(T).setZero();
      r.gradients_extended = flat(gradients);
      r.state = cache_of(state, 1);
      r.state_gradient = cache_of(state_gradient, 1);
      return r;
    };
    Workspace serial;
    const Result expected = run(serial);
    const auto compare_with = [&](const Result& r, const std::string& label) {
      expect_same_bits(r.y, expected.y, label + " y");
      expect_same_bits(r.dx, expected.dx, label + " dx");
      expect_same_bits(r.extended, expected.extended, label + " extend and step");
      expect_same_bits(r.gradients, expected.gradients, label + " gradients");
      expect_same_bits(r.dx_extended, expected.dx_extended, label + " dx after extend");
      expect_same_bits(r.gradients_extended, expected.gradients_extended, label + " gradients after extend");
      expect_same_bits(r.state, expected.state, label + " state");
      expect_same_bits(r.state_gradient, expected.state_gradient, label + " state gradient");
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
}

}  // namespace
}  // namespace hsm::test::threads_test
