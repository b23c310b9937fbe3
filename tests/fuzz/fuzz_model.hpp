// SPDX-License-Identifier: MIT
//
// The small models that the fuzz targets of model and session files stand on. Their weights are multiples of
// 1/8, not drawn: fingerprints are the same on every machine, and the corpus stays valid.
#pragma once

#include <hsm/model/language_model.hpp>

namespace hsm::test {

using FuzzModel = LanguageModel<float>;

inline LanguageModelConfig fuzz_config(Positions positions) {
  return {.vocabulary = 5,
          .width = 4,
          .feed_forward = 3,
          .context = 6,
          .positions = positions,
          .layers = "ab:heads=2,softmax-local:heads=2:taps=3,attention:heads=1",
          .schedule = "cyclic=2"};
}

/// Replaces every weight by a multiple of 1/8 from -1 to 1.
template <class Parameters>
void set_exact(Parameters& parameters) {
  int next = 0;
  Parameters::visit(
      [&](std::string_view, auto& tensor) {
        using Scalar = typename std::remove_cvref_t<decltype(tensor)>::Scalar;
        for (Index i = 0; i < tensor.size(); ++i, next += 5) tensor.data()[i] = Scalar(next % 17 - 8) / 8;
      },
      parameters);
}

inline FuzzModel fuzz_model(Positions positions) {
  Random random(1);
  FuzzModel model(fuzz_config(positions), random);
  set_exact(model);
  return model;
}

}  // namespace hsm::test
