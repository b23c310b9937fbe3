// SPDX-License-Identifier: MIT
//
// How well a model predicts a text: its loss, and the loss by position in the window.
//
//   loss        mean of -log p(token | the tokens before it in its window) over all tokens but the first
//   bits        loss / ln 2: bits per token, and per byte where tokens are bytes
//   perplexity  exp(loss)
//
// The text is read as windows of T tokens one after another, so a token at position t is predicted from t + 1
// tokens; nothing is read across a window's start. Cost: one forward pass over the text.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <vector>

#include <hsm/training/language_model_loss.hpp>
#include <hsm/training/token_windows.hpp>

namespace hsm::inline HSM_ABI {

/// The loss of a text.
struct Evaluation {
  /// Over all predicted tokens.
  CrossEntropy total;
  std::vector<CrossEntropy> by_position;  ///< entry t: the tokens predicted from t + 1 tokens

  /// Mean loss per token in nats.
  double nats() const { return total.mean(); }
  /// The same in bits: bits per byte for a model of bytes.
  double bits() const { return total.mean() / std::numbers::ln2; }
  /// exp of the loss.
  double perplexity() const { return std::exp(total.mean()); }

  /// The loss of the tokens predicted from `first` to `last` tokens, both counted, 1 <= first <= last <=
  /// by_position.size().
  /// Throws std::out_of_range.
  CrossEntropy between(Index first, Index last) const {
    if (first < 1 || last < first || last > static_cast<Index>(by_position.size())) {
      detail::raise<std::out_of_range>(
          "Evaluation::between: expected 1 <= first <= last <= " + std::to_string(by_position.size()) +
          ", got " + std::to_string(first) + " and " + std::to_string(last));
    }
    CrossEntropy sum;
    for (Index t = first; t <= last; ++t) sum += by_position[static_cast<std::size_t>(t - 1)];
    return sum;
  }
};

/// How to evaluate.
struct EvaluationConfig {
  Index batch = 16;   ///< windows at a time; changes nothing but speed
  Index context = 0;  ///< T; 0 = that of the model
};

/// The loss of `model` on `text`; progress(done, total) is called with counts of windows and returns whether
/// to go on. Stopped early, the result is that of the windows so far. Throws std::invalid_argument for a text
/// of fewer than 2 tokens or a config outside its bounds, std::out_of_range for a token id outside [0,V).
template <class Model, class Progress>
Evaluation evaluate(const Model& model, std::span<const std::int32_t> text, const EvaluationConfig& config,
                    Workspace& workspace, Progress&& progress) {
  detail::check_at_least("evaluate", "batch", config.batch, 1);
  detail::check_at_least("evaluate", "context", config.context, 0);
  // A window longer than the text would only hold padding.
  const Index T = (std::min)(config.context == 0 ? model.config().context : config.context,
                             std::max<Index>(1, static_cast<Index>(text.size()) - 1));
  const ValidationWindows windows(text, T);
  const Index most = (std::min)(config.batch, windows.count());
  std::vector<std::int32_t> ids(static_cast<std::size_t>(most * T)), targets(ids.size());
  std::vector<double> losses(ids.size());
  typename Model::Saved saved;
  Evaluation result;
  result.by_position.resize(static_cast<std::size_t>(T));
  for (Index first = 0; first < windows.count(); first += most) {
    const Index batch = (std::min)(most, windows.count() - first);
    const auto size = static_cast<std::size_t>(batch * T);
    const auto part_ids = std::span(ids).first(size), part_targets = std::span(targets).first(size);
    windows.fill(part_ids, part_targets, first, batch);
    result.total += language_model_loss(model, part_ids, part_targets, batch, T, saved, workspace,
                                        std::span(losses).first(size));
    for (std::size_t i = 0; i < size; ++i) {
      if (targets[i] != kIgnoredTarget) {
        result.by_position[i % static_cast<std::size_t>(T)] += CrossEntropy{losses[i], 1};
      }
    }
    if (!progress(first + batch, windows.count())) break;
  }
  return result;
}

/// The same without progress.
template <class Model>
Evaluation evaluate(const Model& model, std::span<const std::int32_t> text, const EvaluationConfig& config,
                    Workspace& workspace) {
  return evaluate(model, text, config, workspace, [](Index, Index) { return true; });
}

}  // namespace hsm::inline HSM_ABI
