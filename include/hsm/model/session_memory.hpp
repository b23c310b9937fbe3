// SPDX-License-Identifier: MIT
//
// All that a generation session remembers, as a plain value: it can be copied, saved and sent.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/model/language_model_config.hpp>
#include <hsm/model/language_model_state.hpp>

namespace hsm::inline HSM_ABI {

/// The streams of a session between two calls.
template <ComputeScalar Scalar, class List = StandardLayers>
struct SessionMemory {
  LanguageModelState<Scalar, List> state;  ///< of the model's layers
  /// [V, streams kept_logits()]: those of a stream after each of its last tokens, as a ring, in which its token number n,
  /// n >= 1, has the place (n - 1) % kept_logits().
  OwnedColumns<Scalar> logits;
  std::vector<std::uint8_t> ready;  ///< per place: 1 where its logits are there
  /// Per stream its last tokens, where positions are learned.
  std::vector<std::vector<std::int32_t>> history;
  Index restarts = 0;  ///< of all streams together

  /// No streams.
  SessionMemory() = default;
  /// The same session.
  SessionMemory(const SessionMemory&) = default;
  /// The session of the other, which is left to be destroyed or assigned to.
  SessionMemory(SessionMemory&&) noexcept = default;
  /// The same session; where memory is short nothing changes.
  SessionMemory& operator=(const SessionMemory& other) { return *this = SessionMemory(other); }
  /// The session of the other, which is left to be destroyed or assigned to.
  SessionMemory& operator=(SessionMemory&&) noexcept = default;

  /// The logits after how many of the last tokens of a stream have a place.
  Index kept_logits() const { return logits.cols() / (std::max)(state.streams(), Index{1}); }
  /// The column of the logits after token number n of a stream.
  std::size_t column(Index stream, Index n) const {
    return static_cast<std::size_t>(stream * kept_logits() + (n - 1) % kept_logits());
  }

  /// Whether the logits after the last token of a stream are there.
  bool has_logits(Index stream) const {
    const Index n = state.count(stream);
    return n > 0 && ready[column(stream, n)] != 0;
  }

  /// Throws std::invalid_argument unless this is what a session of `model` can hold.
  template <class Model>
  void check(const char* who, const Model& model) const {
    model.check_state(who, state);
    const auto& config = model.config();
    const Index n = state.streams();
    for (const auto& layer : state.layers) {
      for (Index s = 0; s < n; ++s) {
        const Index count = std::visit([&](const auto& held) { return held.count(s); }, layer);
        detail::check_equal(who, "the tokens of a stream in each layer", count, state.count(s));
      }
    }
    detail::check_at_least(who, "the kept logits of a stream", kept_logits(), 1);
    detail::check_equal(who, "logits", Shape<2>{logits.rows(), logits.cols()},
                        Shape<2>{config.vocabulary, n * kept_logits()});
    detail::check_equal(who, "the flags of logits", static_cast<Index>(ready.size()), n * kept_logits());
    detail::check_equal(who, "the streams of the history", static_cast<Index>(history.size()), n);
    detail::check_at_least(who, "restarts", restarts, 0);
    const bool learned = config.positions == Positions::kLearned;
    for (Index s = 0; s < n; ++s) {
      const auto& tokens = history[static_cast<std::size_t>(s)];
      const auto size = static_cast<Index>(tokens.size());
      const Index most = learned ? config.context : 0;
      for (Index place = 0; place < kept_logits(); ++place) {
        if (ready[static_cast<std::size_t>(s * kept_logits() + place)] > (state.count(s) > place ? 1 : 0))
          detail::fail(who, "the flag of logits", "0, or 1 after a token", "another");
      }
      if (size > most || (learned && size < state.count(s))) {
        detail::fail(who, "the history of a stream",
                     std::to_string(learned ? state.count(s) : 0) + " to " + std::to_string(most) + " tokens",
                     std::to_string(size));
      }
      for (const std::int32_t id : tokens) {
        if (id < 0 || id >= config.vocabulary)
          detail::fail(who, "a token id of the history", "0 to " + std::to_string(config.vocabulary - 1),
                       std::to_string(id));
      }
    }
  }
};

}  // namespace hsm::inline HSM_ABI
