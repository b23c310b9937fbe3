// SPDX-License-Identifier: MIT
//
// How well a model predicts a text: its loss, and the loss by position in the window.
//
//   loss        mean of -log p(token | the tokens before it in its window) over all tokens but the first
//   bits        loss / ln 2: bits per token, and per byte where tokens are bytes
//   perplexity  exp(loss)
//
// The text is cut into windows of T tokens one after another, T the model's context: a token at position t of
// its window is predicted from t + 1 tokens, and nothing is read across a window's start, even by a model that
// has no positions and no largest context. So the first tokens of each window weigh on the mean, and a larger
// T gives a lower loss. With `carry` the text is one sequence instead: a state goes on from window to window, and
// every token is predicted from all before it. Cost: one forward pass over the text; with `carry` attention's
// cache grows with the text, and its time with the square.
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
  /// Entry t: the tokens predicted from t + 1 tokens; with `carry` the last entry: from so many or more.
  std::vector<CrossEntropy> by_position;

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
  Index batch = 16;   ///< windows at a time; changes speed, memory, and losses within rounding
  Index context = 0;  ///< T; 0 = that of the model
  /// One sequence instead of windows; for models without learned positions.
  bool carry = false;
};

namespace detail {

/// The loss of the text as one sequence.
template <class Model, class Progress>
Evaluation evaluate_carried(const Model& model, std::span<const std::int32_t> text, Index T, Index most,
                            Workspace& workspace, Progress&& progress) {
  if (model.config().positions != Positions::kNone)
    fail("evaluate", "the positions of a model whose state is carried", "none", "learned");
  const Index all = static_cast<Index>(text.size()) - 1, windows = (all - 1) / T + 1;
  std::vector<double> losses(static_cast<std::size_t>((std::min)(all, most * T)));
  typename Model::Saved saved;
  auto state = model.make_state();
  Evaluation result;
  result.by_position.resize(static_cast<std::size_t>(T));
  for (Index first = 0; first < windows; first += most) {
    const Index start = first * T, n = (std::min)(most * T, all - start);
    const auto ids = text.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(n));
    const auto targets = text.subspan(static_cast<std::size_t>(start) + 1, ids.size());
    model.extend(ids, state, saved, workspace);
    for_each_logit_block(
        model, saved, targets, workspace,
        [&](Index from, Index size, const auto&, const auto& logits, auto part) {
          result.total += cross_entropy(
              logits, part, workspace.executor(),
              std::span(losses).subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(size)));
        });
    for (Index i = 0; i < n; ++i) {
      result.by_position[static_cast<std::size_t>((std::min)(start + i, T - 1))] +=
          CrossEntropy{losses[static_cast<std::size_t>(i)], 1};
    }
    if (!progress((std::min)(first + most, windows), windows)) break;
  }
  return result;
}

}  // namespace detail

/// The loss of `model` on `text`; progress(done, total) is called with counts of windows and returns whether
/// to go on. Stopped early, the result is that of the windows so far. Throws std::invalid_argument for a text
/// of fewer than 2 tokens, a config outside its bounds or `carry` with learned positions, std::out_of_range for
/// a token id outside [0,V).
template <class Model, class Progress>
Evaluation evaluate(const Model& model, std::span<const std::int32_t> text, const EvaluationConfig& config,
                    Workspace& workspace, Progress&& progress) {
  detail::check_at_least("evaluate", "batch", config.batch, 1);
  detail::check_at_least("evaluate", "context", config.context, 0);
  detail::check_token_ids("evaluate", text,
                          model.config().vocabulary);  // before an hour's reading, not in it
  // A window longer than the text would only hold padding.
  const Index T = (std::min)(config.context == 0 ? model.config().context : config.context,
                             std::max<Index>(1, static_cast<Index>(text.size()) - 1));
  const ValidationWindows windows(text, T);
  const Index most = (std::min)(config.batch, windows.count());
  if (config.carry) return detail::evaluate_carried(model, text, T, most, workspace, progress);
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
