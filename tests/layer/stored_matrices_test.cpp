// SPDX-License-Identifier: MIT
//
// Layers whose matrices are stored in fewer bytes: all modes agree within the bounds of hsm/guide/bits.md.
#include <gtest/gtest.h>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/hierarchical_attention/hierarchical_kernel_attention.hpp>
#include <hsm/recurrent/causal_linear_attention.hpp>
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies.hpp>
#include <utility>

#include "layer/layer_cases.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::stored_matrices_test {
namespace {

template <class Mixer>
void expect_modes_agree(Mixer mixer) {
  SCOPED_TRACE(mixer.layer().description());
  const Index C = 64, T = 60;
  Random random(5);
  const auto x = random_matrix<float>(C, T, random);
  for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
    SCOPED_TRACE(storage_name(storage));
    store_matrices(mixer.parameters(), storage);
    Workspace workspace;
    Matrix<float> whole(C, T), steps(C, T), parts(C, T);
    mixer.forward(x, whole, workspace);
    auto state = mixer.make_state(), other = mixer.make_state();
    for (Index t = 0; t < T; ++t) mixer.step(x.col(t), state, steps.col(t), workspace);
    for (const auto& [first, count] : {std::pair<Index, Index>{0, 7}, {7, 40}, {47, 13}})
      mixer.extend(x.middleCols(first, count), other, parts.middleCols(first, count), workspace);
    const double bound = storage == Storage::kInt8 ? Tolerance<float>::rounded : Tolerance<float>::mode;
    expect_close_to_scale(steps, whole, bound, "step");
    expect_close_to_scale(parts, whole, bound, "extend");
  }
}

TEST(StoredMatrices, AgreeInAllModes) {
  const Index C = 64;
  Random random(4);
  expect_modes_agree(Mixer(MatrixPair<float>(C, random), 3));
  expect_modes_agree(Mixer(Gated<float>(C, random), 3));
  expect_modes_agree(Mixer(GatedPair<float>(C, random), 3));
  expect_modes_agree(Mixer(Fusion<float>(C, random), 3));
  expect_modes_agree(Mixer(SoftmaxLocal<float>(C, random, 4), 3));
  expect_modes_agree(CausalAttention<float>(Attention<float>(C, 4, random)));
  expect_modes_agree(CausalLinearAttention<float>(LinearAttention<float>(C, 4, random)));
  expect_modes_agree(HierarchicalKernelAttention<float>(HierarchicalAttention<float>(C, 4, random, 3)));
}

}  // namespace
}  // namespace hsm::test::stored_matrices_test
