// SPDX-License-Identifier: MIT
//
// What the tests of the language model share: small models with every tensor random, and token ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/model/language_model.hpp>

#include "support/models.hpp"

namespace hsm::test {

using Ids = std::vector<std::int32_t>;

/// One layer of every kind, attention also with rotary positions, with a window and over blocks, and one of them twice.
const std::string kEveryKind =
    "ab:heads=2,gated,attention:heads=2,gated-pair,softmax-local:heads=2:taps=3,channel,matrix,fusion,"
    "attention:heads=2:rotary=100,attention:heads=2:window=4,"
    "attention:heads=2:block=2:top=1,ab";

/// The vocabulary of small_config.
inline constexpr Index kVocabulary = 11;

inline LanguageModelConfig small_config(std::string layers = kEveryKind) {
  return {.vocabulary = kVocabulary,
          .width = 8,
          .feed_forward = 12,
          .context = 24,
          .layers = std::move(layers),
          .schedule = "cyclic=4"};
}

inline Ids random_ids(Index count, Index vocabulary, Random& random) {
  Ids ids;
  for (Index i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocabulary))));
  }
  return ids;
}

/// A model whose gains, biases and scalars are not the ones it starts with, drawn in double so that both
/// scalars get the same.
template <class Scalar>
LanguageModel<Scalar> random_model(const LanguageModelConfig& config, std::uint64_t seed) {
  Random random(seed);
  LanguageModel<Scalar> model(config, random);
  Random values(seed + 1);
  LanguageModel<Scalar>::visit(
      [&](std::string_view name, auto& tensor) {
        const bool matrix = name.ends_with("weight");
        const double centre = matrix || name.ends_with("bias") ? 0.0 : 1.0;
        for (Index i = 0; i < tensor.size(); ++i) {
          tensor.data()[i] = static_cast<Scalar>(centre + values.normal(matrix ? 0.4 : 0.3));
        }
      },
      model);
  return model;
}

/// The same for small_config with these positions.
template <class Scalar>
LanguageModel<Scalar> small_model(Positions positions, const std::string& layers = kEveryKind) {
  LanguageModelConfig config = small_config(layers);
  config.positions = positions;
  return random_model<Scalar>(config, 7);
}

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

template <class Scalar>
Columns<Scalar> block_of(Matrix<Scalar>& m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}
template <class Scalar>
ConstColumns<Scalar> read(const Matrix<Scalar>& m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}

/// h [C, B T] of whole sequences.
template <class Scalar>
Matrix<Scalar> hidden_of(const LanguageModel<Scalar>& model, const Ids& ids, Index B, Index T) {
  Workspace workspace;
  workspace.poison = true;
  LanguageModelSaved<Scalar> saved;
  model.hidden(ids, B, T, saved, workspace);
  return saved.hidden;
}

/// logits [V, n] of hidden columns [C, n].
template <class Scalar>
Matrix<Scalar> logits_of(const LanguageModel<Scalar>& model, const Matrix<Scalar>& h) {
  Workspace workspace;
  Matrix<Scalar> logits(model.config().vocabulary, h.cols());
  model.logits(read(h), block_of(logits), workspace);
  return logits;
}

}  // namespace hsm::test
