// SPDX-License-Identifier: MIT
//
// Moving averages for tests.
#pragma once

#include <string_view>
#include <vector>

#include "layer/layer_cases.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "reference/ema_reference.hpp"

namespace hsm::test {

/// All tensors random, so that memories fade at rates far apart.
template <class Scalar>
MovingAverage<Scalar> make_ema(Index C, Index n) {
  Random random(5);
  Ema<Scalar> parameters(C, n, random);
  Ema<Scalar>::visit(
      [&](std::string_view name, auto& tensor) {
        const double deviation = name == "alpha" ? 2 : 1;
        for (Index i = 0; i < tensor.size(); ++i)
          tensor.data()[i] = static_cast<Scalar>(random.normal(deviation));
      },
      parameters);
  return MovingAverage<Scalar>(EmaLayer<Scalar>(parameters));
}

/// Sizes are C and n.
template <class S>
struct MovingAverageCase : LayerCase {
  using Scalar = S;
  using Reference = EmaReference;
  static constexpr std::string_view kType = EmaLayer<S>::kType;
  static constexpr bool kSameBits = true;

  static MovingAverage<S> make(const LayerSize& size) { return make_ema<S>(size.channels, size.first); }
  static LayerSize of(Index C) { return {C, 3}; }
  static std::vector<LayerSize> definition() {
    std::vector<LayerSize> sizes;
    for (const Index C : {1, 3, 8, 37, 100})
      for (const Index n : {1, 2, 5}) sizes.push_back({C, n});
    return sizes;
  }
  static std::vector<LayerSize> small() { return {{19, 2}, {21, 3}}; }
  static std::vector<LayerSize> state() { return {{5, 2}}; }
  static std::vector<Gradient> gradients() { return {{{1, 1}, 5}, {{3, 2}, 40}, {{17, 3}, 70}, {{2, 4}, 1}}; }
  static std::vector<LayerSize> others(const LayerSize& size) { return {{size.channels, size.first + 1}}; }
  static std::vector<Values*> tensors(Reference& r) { return {&r.alpha, &r.beta, &r.delta, &r.eta}; }
};

}  // namespace hsm::test
