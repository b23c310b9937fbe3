// SPDX-License-Identifier: MIT
//
// Layers of linear attention for tests, and what they read.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "layer/layer_cases.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "reference/linear_attention_reference.hpp"

namespace hsm::test {

/// All tensors random: queries, keys and values of deviation 1 for tokens of that.
template <class Scalar>
CausalLinearAttention<Scalar> make_linear(Index C, Index H, Index decay) {
  Random random(5);
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

/// Sizes are C, H and whether heads forget.
template <class S>
struct LinearAttentionCase : LayerCase {
  using Scalar = S;
  using Reference = LinearAttentionReference;
  static constexpr std::string_view kType = LinearAttentionLayer<S>::kType;

  static CausalLinearAttention<S> make(const LayerSize& size) {
    return make_linear<S>(size.channels, size.first, size.second);
  }
  static LayerSize of(Index C) { return {C, 4, 1}; }
  static std::vector<LayerSize> definition() {
    std::vector<LayerSize> sizes;
    for (const LayerSize& size : {LayerSize{1, 1}, {6, 2}, {24, 8}, {33, 1}, {66, 2}})
      for (const Index decay : {0, 1}) sizes.push_back({size.channels, size.first, decay});
    return sizes;
  }
  static std::vector<LayerSize> small() { return {{18, 2, 0}, {18, 2, 1}, {12, 3, 0}}; }
  static std::vector<LayerSize> state() { return {{6, 2, 0}, {6, 2, 1}}; }
  static std::vector<Gradient> gradients() {
    return {{{1, 1, 0}, 5}, {{4, 2, 1}, 70}, {{6, 1, 0}, 68}, {{2, 1, 1}, 1}, {{17, 1, 0}, 18}};
  }
  static std::vector<LayerSize> others(const LayerSize& size) {
    return {{size.channels, 6, size.second}, {size.channels, size.first, 1 - size.second}};
  }
  static std::vector<Values*> tensors(Reference& r) { return {&r.W, &r.b, &r.Wo, &r.bo}; }
};

}  // namespace hsm::test
