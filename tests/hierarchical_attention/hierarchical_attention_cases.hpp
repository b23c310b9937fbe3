// SPDX-License-Identifier: MIT
//
// Layers of attention over a hierarchy for tests, and what they read.
#pragma once

#include <gtest/gtest.h>

#include <string_view>

#include "hierarchical_attention/hierarchy_engine.hpp"
#include "layer/layer_cases.hpp"
#include "reference/attention_reference.hpp"
#include "reference/hierarchical_attention_reference.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

/// All tensors random, with levels of different weights: queries, keys and values of deviation 1 for tokens of that.
template <class Scalar>
HierarchicalAttention<Scalar> hierarchy_parameters(Index C, Index H, Index L) {
  Random random(5);
  HierarchicalAttention<Scalar> parameters(C, H, random, L);
  const double deviation = 1 / std::sqrt(static_cast<double>(C));
  HierarchicalAttention<Scalar>::visit(
      [&](std::string_view name, auto& tensor) {
        const bool pools = name.ends_with(".a") || name.ends_with(".b");
        for (Index i = 0; i < tensor.size(); ++i)
          tensor.data()[i] = static_cast<Scalar>(random.normal(pools || name == "lambda" ? 0.7 : deviation));
      },
      parameters);
  return parameters;
}

template <class Scalar>
HierarchicalKernelAttention<Scalar> make_hierarchy(Index C, Index H, Index L) {
  return HierarchicalKernelAttention<Scalar>(
      HierarchicalAttentionLayer<Scalar>(hierarchy_parameters<Scalar>(C, H, L)));
}

}  // namespace hsm::test
