// SPDX-License-Identifier: MIT
//
// Layers of attention over a hierarchy for tests, and what they read.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "hierarchical_attention/hierarchy_engine.hpp"
#include "layer/layer_cases.hpp"
#include "reference/hierarchical_attention_reference.hpp"

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

/// Sizes are C, H and L.
template <class S>
struct HierarchicalAttentionCase : LayerCase {
  using Scalar = S;
  using Reference = HierarchicalAttentionReference;
  static constexpr std::string_view kType = HierarchicalAttentionLayer<S>::kType;
  static constexpr bool kKeepsStreams = true;
  static constexpr Index kLoops = 2;  // pooling and attention

  static HierarchicalKernelAttention<S> make(const LayerSize& size) {
    return make_hierarchy<S>(size.channels, size.first, size.second);
  }
  static LayerSize of(Index C) { return {C, 4, 3}; }
  static std::vector<LayerSize> definition() {
    return {{1, 1, 2}, {6, 2, 3}, {4, 1, 1}, {33, 1, 4}, {8, 2, 6}, {34, 2, 3}};
  }
  static std::vector<LayerSize> small() { return {{6, 2, 1}, {12, 3, 2}, {6, 2, 3}, {12, 3, 5}, {6, 2, 6}}; }
  static std::vector<LayerSize> state() { return {{4, 2, 2}, {4, 2, 4}}; }
  static std::vector<Gradient> gradients() {
    return {{{1, 1, 2}, 5}, {{4, 2, 3}, 70}, {{6, 1, 4}, 18}, {{2, 1, 3}, 1}, {{2, 2, 6}, 67}};
  }
  static std::vector<LayerSize> others(const LayerSize& size) {
    return {{size.channels, 1, size.second}, {size.channels, size.first, size.second == 2 ? 3 : 2}};
  }
  static std::vector<Values*> tensors(Reference& r) {
    std::vector<Values*> all{&r.W, &r.bias};
    for (auto& level : r.levels) all.insert(all.end(), {&level.a, &level.b, &level.W, &level.bias});
    all.insert(all.end(), {&r.lambda, &r.Wo, &r.bo});
    return all;
  }
  static bool rewinds_all(const LayerSize& size) { return size.second == 1; }
  static bool counts(std::string_view name, Index T) { return name != "lambda" || T > 1; }
  /// The gradients of level 5 are small beside the terms of the loss, whose rounding the differences hold.
  static double difference_factor(const LayerSize& size) { return size.second == 6 ? 10 : 1; }
};

}  // namespace hsm::test
