// SPDX-License-Identifier: MIT
//
// The number of threads changes no bit of attention in any mode, and no scratch is read before it is written.
#include <gtest/gtest.h>

#include <hsm/core/threaded_executor.hpp>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test {
namespace {

template <class Scalar>
class AttentionThreads : public testing::Test {};
TYPED_TEST_SUITE(AttentionThreads, AttentionScalars);

TYPED_TEST(AttentionThreads, ThreadsAndPoisonedScratchChangeNoBit) {
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

}  // namespace
}  // namespace hsm::test
