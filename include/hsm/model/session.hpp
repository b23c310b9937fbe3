// SPDX-License-Identifier: MIT
//
// Generation: a model, the state of some streams, and the logits after their last token.
//
//   hsm::GenerationSession session(model, workspace);
//   session.prefill(prompt);
//   while (...) session.next(sampler(session.logits(), random));
//
// A stack of shift mixers without positions goes on without end. Learned positions are used up after `context`
// tokens; then the session refuses more, or restarts: the last context / 2 tokens, the new ones included, are
// read again as a fresh prompt, so that each token is still predicted from at least half a context. Memory:
// the state, the logits, and the last tokens where it may restart. A restart costs the reading of context / 2
// tokens, once in context / 2 tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/model/language_model.hpp>

namespace hsm {

/// What a session does with tokens for which the model has no position left.
enum class OnFull { kRefuse, kRestart };

/// How to generate.
struct SessionOptions {
  Index streams = 1;  ///< independent texts, one token of each per step
  /// What happens when learned positions run out.
  OnFull on_full = OnFull::kRefuse;
};

/// Streams of a model. Model and workspace must outlive it; not for two threads at once.
template <class Model>
class GenerationSession {
 public:
  /// float or double.
  using Scalar = typename Model::Scalar;

  /// Fresh streams. Throws std::invalid_argument for streams < 1.
  GenerationSession(const Model& model, Workspace& workspace, SessionOptions options = {})
      : model_(&model), workspace_(&workspace), options_(options) {
    detail::check_at_least("GenerationSession", "streams", options.streams, 1);
    state_ = model.make_state({.streams = options.streams});
    logits_.resize(model.config().vocabulary, options.streams);
    history_.resize(static_cast<std::size_t>(options.streams));
  }

  /// Reads the next T >= 1 tokens of every stream, ids [streams, T]. Throws, with nothing changed,
  /// std::out_of_range for a token id outside [0,V) or, under OnFull::kRefuse, for more than room() tokens;
  /// std::invalid_argument for a list that is not [streams, T].
  void prefill(std::span<const std::int32_t> ids);

  /// Reads one more token of every stream, ids [streams]; throws as prefill does.
  void next(std::span<const std::int32_t> ids) {
    detail::check_equal("GenerationSession::next", "the number of token ids", static_cast<Index>(ids.size()),
                        streams());
    prefill(ids);
  }
  /// The same for a session of one stream.
  void next(std::int32_t id) { next(std::span(&id, 1)); }

  /// The logits [V] after the last token of `stream`; the next call of prefill or next overwrites them. Throws
  /// std::out_of_range for a stream that does not exist or before any token was read.
  std::span<const Scalar> logits(Index stream = 0) const {
    if (stream < 0 || stream >= streams()) {
      throw std::out_of_range("GenerationSession::logits: stream must be 0 to " +
                              std::to_string(streams() - 1) + ", got " + std::to_string(stream));
    }
    if (position() == 0)
      throw std::out_of_range("GenerationSession::logits: expected a prompt first, got no token yet");
    return {logits_.data() + stream * logits_.rows(), static_cast<std::size_t>(logits_.rows())};
  }

  /// How many streams it holds.
  Index streams() const { return options_.streams; }
  /// Tokens of every stream that the model has in view: all, or those since the last restart read them.
  Index position() const { return state_.count; }
  /// Tokens that every stream can take before it is full; without learned positions there is no end.
  Index room() const { return model_->room(state_); }
  /// How often the session has restarted.
  Index restarts() const { return restarts_; }
  /// Bytes of the state of all streams.
  std::size_t state_bytes() const { return state_.bytes(); }

 private:
  using State = typename Model::State;

  bool remembers() const {
    return options_.on_full == OnFull::kRestart && model_->config().positions == Positions::kLearned;
  }
  void restart(std::span<const std::int32_t> ids, Index T);
  Columns<Scalar> logit_columns() {
    return {logits_.data(), logits_.rows(), logits_.cols(), Eigen::OuterStride<>(logits_.rows())};
  }

  const Model* model_;
  Workspace* workspace_;
  SessionOptions options_;
  State state_;
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic> logits_;  // [V, streams]
  std::vector<std::vector<std::int32_t>> history_;                // the last tokens of each stream
  Index restarts_ = 0;
};

template <class Model>
void GenerationSession<Model>::prefill(std::span<const std::int32_t> ids) {
  const auto count = static_cast<Index>(ids.size());
  if (count == 0 || count % streams() != 0) {
    detail::fail("GenerationSession::prefill", "the number of token ids",
                 "a multiple of " + std::to_string(streams()) + " streams above 0", std::to_string(count));
  }
  const Index T = count / streams();
  if (T > room()) {
    if (options_.on_full == OnFull::kRestart) return restart(ids, T);
    throw std::out_of_range("GenerationSession: the model has learned " +
                            std::to_string(model_->config().context) + " positions and " +
                            std::to_string(position()) + " are used, got " + std::to_string(T) +
                            " more tokens");
  }
  model_->extend(ids, state_, logit_columns(), *workspace_);
  if (!remembers()) return;
  const auto keep = static_cast<std::size_t>(model_->config().context);
  for (Index s = 0; s < streams(); ++s) {
    auto& tokens = history_[static_cast<std::size_t>(s)];
    const auto first = ids.begin() + s * T;
    tokens.insert(tokens.end(), first, first + T);
    if (tokens.size() > keep) tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(keep));
  }
}

template <class Model>
void GenerationSession<Model>::restart(std::span<const std::int32_t> ids, Index T) {
  // Fewer than there are: history and ids together are more than a context.
  const Index kept = std::max<Index>(1, model_->config().context / 2);
  std::vector<std::vector<std::int32_t>> history;
  std::vector<std::int32_t> prompt;  // [streams, kept]
  for (Index s = 0; s < streams(); ++s) {
    std::vector<std::int32_t> tokens = history_[static_cast<std::size_t>(s)];
    const auto first = ids.begin() + s * T;
    tokens.insert(tokens.end(), first, first + T);
    tokens.erase(tokens.begin(), tokens.end() - kept);
    prompt.insert(prompt.end(), tokens.begin(), tokens.end());
    history.push_back(std::move(tokens));
  }
  State fresh = model_->make_state({.streams = streams()});
  model_->extend(prompt, fresh, logit_columns(), *workspace_);  // last to throw
  state_ = std::move(fresh);
  history_ = std::move(history);
  ++restarts_;
}

}  // namespace hsm
