// SPDX-License-Identifier: MIT
//
// The memory of a language model between calls: the state of each layer, for some streams at the same number
// of tokens. A plain value: copy it to fork its streams. Shift mixers hold (K-1) s_l columns per stream and
// layer however long the text is, attention 2 C values per token.
#pragma once

#include <cstddef>
#include <variant>
#include <vector>

#include <hsm/model/any_mixer.hpp>

namespace hsm {

/// What a model remembers of its streams between calls to extend.
template <ComputeScalar Scalar>
struct LanguageModelState {
  /// One state per layer.
  std::vector<AnyState<Scalar>> layers;
  /// Independent texts.
  Index streams = 0;
  Index count = 0;  ///< tokens that every stream has seen

  /// Bytes held by all layers.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& layer : layers)
      sum += std::visit([](const auto& state) { return state.bytes(); }, layer);
    return sum;
  }
};

}  // namespace hsm
