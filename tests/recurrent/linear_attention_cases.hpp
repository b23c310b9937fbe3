// SPDX-License-Identifier: MIT
//
// Layers of linear attention for tests, and what they read.
#pragma once

#include <gtest/gtest.h>

#include <string_view>

#include "layer/layer_cases.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "reference/attention_reference.hpp"
#include "reference/linear_attention_reference.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

/// All tensors random: queries, keys and values of deviation 1 for tokens of that.
template <class Scalar>
CausalLinearAttention<Scalar> make_linear(Index C, Index H, Index decay, std::uint64_t seed = 5) {
  Random random(seed);
  LinearAttention<Scalar> parameters(C, H, random, decay);
  const double deviation = 1 / std::sqrt(static_cast<double>(C));
  LinearAttention<Scalar>::visit(
      [&](std::string_view, auto& tensor) {
        for (Index i = 0; i < tensor.size(); ++i)
          tensor.data()[i] = static_cast<Scalar>(random.normal(deviation));
      },
      parameters);
  return CausalLinearAttention<Scalar>(LinearAttentionLayer<Scalar>(parameters));
}

}  // namespace hsm::test
