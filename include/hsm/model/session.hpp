// SPDX-License-Identifier: MIT
//
// Generation: a model, the state of some streams, and the logits after the last token of each.
//
//   hsm::GenerationSession session(model, workspace);
//   session.prefill(prompt);
//   while (...) session.next(sampler(session.logits(), random));
//
// Every stream has a text of its own length: prefill and next take a list of streams, reset makes room for
// another text, fork copies one, rewind takes tokens back. A stack of shift mixers without positions goes on
// without end. Learned positions are used up after `context` tokens; then the session refuses more, or the
// next token restarts the stream: its last context / 2 tokens, the new one included, are read again as a fresh
// prompt, so that each token is still predicted from at least half a context. Where restarts fall depends on
// the text alone, not on the lists it came in; of a long list only what follows its last restart is read.
// With `spare` tokens that can be taken back it keeps the logits after each of the last spare + 1 tokens of a
// stream, unless told to keep fewer: those after the token that is then the last are there, but for tokens that a restart
// read again; who takes tokens back to there goes on from what is left of them. See also hsm/model/speculation.hpp.
// Memory: the state, V logits for each that is kept, and the last tokens where positions are learned. A restart
// costs the reading of context / 2 tokens, once in context / 2 tokens, and a copy of the state of all streams, so that
// a call that throws changes nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/model/language_model.hpp>
#include <hsm/model/session_memory.hpp>

namespace hsm::inline HSM_ABI {

/// What a session does with tokens for which the model has no position left.
enum class OnFull { kRefuse, kRestart };

/// How to generate.
struct SessionOptions {
  Index streams = 1;  ///< independent texts
  /// What happens when learned positions run out.
  OnFull on_full = OnFull::kRefuse;
  Index spare = 0;  ///< how many tokens rewind can take back
  /// After how many of a stream's last tokens the logits are kept; 0: spare + 1, so that they survive every rewind.
  Index kept_logits = 0;
};

/// Streams of a model. Model and workspace must outlive it; not for two threads at once, but any number of
/// sessions may share one model, each with a workspace of its own. A copy is a fork of all streams.
template <class Model>
class GenerationSession {
 public:
  /// float or double.
  using Scalar = typename Model::Scalar;
  /// The streams as a value.
  using Memory = SessionMemory<Scalar, typename Model::Layers>;

  /// Fresh streams. Throws std::invalid_argument for streams < 1, spare < 0 or kept_logits < 0.
  GenerationSession(const Model& model, Workspace& workspace, SessionOptions options = {});
  /// The streams of a session that was saved, or sent. Throws std::invalid_argument where it is not one of
  /// such a model.
  GenerationSession(const Model& model, Workspace& workspace, Memory memory,
                    OnFull on_full = OnFull::kRefuse);

  /// Reads the next T >= 1 tokens of every stream, ids [streams, T]. Throws, with nothing changed,
  /// std::out_of_range for a token id outside [0,V) or for more than room() tokens, under OnFull::kRestart only where a
  /// state that was made for fewer tokens ends, and not the positions;
  /// std::invalid_argument for a list that is not [streams, T].
  void prefill(std::span<const std::int32_t> ids);
  /// Reads the next tokens of each of `chosen`, different streams, and of no other: those of chosen[i] are
  /// tokens offsets[i] ... offsets[i+1]-1 of ids, at least one each. Throws as above.
  void prefill(std::span<const std::int32_t> ids, std::span<const Index> offsets,
               std::span<const Index> chosen) {
    read("GenerationSession::prefill", ids, offsets, chosen);
  }

  /// Reads one more token of every stream, ids [streams]; throws as prefill does.
  void next(std::span<const std::int32_t> ids) {
    detail::check_equal("GenerationSession::next", "the number of token ids", static_cast<Index>(ids.size()),
                        streams());
    read("GenerationSession::next", ids, offsets_of(1), all_);
  }
  /// One more token of each of `chosen`, different streams, and of no other.
  void next(std::span<const std::int32_t> ids, std::span<const Index> chosen) {
    detail::check_equal("GenerationSession::next", "the number of token ids", static_cast<Index>(ids.size()),
                        static_cast<Index>(chosen.size()));
    if (chosen.size() > all_.size())
      detail::fail("GenerationSession::next", "the streams", "different ones", "more than there are");
    read("GenerationSession::next", ids, offsets_of(1).first(chosen.size() + 1), chosen);
  }
  /// The same for a session of one stream.
  void next(std::int32_t id) { next(std::span(&id, 1)); }

  /// The logits [V] after the last token of `stream`, or after the one `before` places before it, as far back as
  /// logits are kept; a call of prefill or next for the stream overwrites them. Throws std::out_of_range for a stream that
  /// does not exist, and where there are none: before the first token, before what the last restart read, or further back
  /// than they are kept.
  std::span<const Scalar> logits(Index stream = 0, Index before = 0) const {
    checked("GenerationSession::logits", stream);
    const Index count = position(stream);
    if (count == 0) {
      detail::raise<std::out_of_range>(
          "GenerationSession::logits: expected a prompt first, got no token yet in stream " +
          std::to_string(stream));
    }
    const bool there = before >= 0 && before < count && before < memory_.kept_logits();
    const std::size_t column = memory_.column(stream, there ? count - before : count);
    if (!there || !memory_.ready[column]) {
      const auto kept = memory_.ready.begin() + static_cast<std::ptrdiff_t>(stream * memory_.kept_logits());
      detail::raise<std::out_of_range>(
          "GenerationSession::logits: expected a token of stream " + std::to_string(stream) +
          " whose logits are kept, of which there are " +
          std::to_string(std::count(kept, kept + memory_.kept_logits(), 1)) + ", got the one " +
          std::to_string(before) + " before the last of " + std::to_string(count));
    }
    const Index V = memory_.logits.rows();
    return {memory_.logits.data() + static_cast<Index>(column) * V, static_cast<std::size_t>(V)};
  }

  /// Begins a new text in `stream`. Throws std::out_of_range for a stream that does not exist.
  void reset(Index stream) {
    const std::size_t i = checked("GenerationSession::reset", stream);
    memory_.state.reset(stream);
    std::fill_n(ready_of(stream), memory_.kept_logits(), std::uint8_t{0});
    memory_.history[i].clear();
  }
  /// Takes the last k tokens of `stream` back. The logits after the token that is then the last are those it had, if
  /// they are still kept; else there are none until the stream's next token. Throws std::out_of_range, with nothing
  /// changed, for more tokens than position() or the spare slots allow.
  void rewind(Index stream, Index k) {
    const std::size_t i = checked("GenerationSession::rewind", stream);
    const Index count = position(stream);
    memory_.state.rewind(stream, k);
    for (Index n = count - k + 1; n <= count; ++n) memory_.ready[memory_.column(stream, n)] = 0;
    auto& tokens = memory_.history[i];
    if (!tokens.empty()) tokens.resize(tokens.size() - static_cast<std::size_t>(k));
  }
  /// Makes stream `to` a copy of stream `from`; both go on alone. Throws std::out_of_range for a stream that
  /// does not exist; where memory is short `to` is refused until it is reset.
  void fork(Index from, Index to) {
    const std::size_t source = checked("GenerationSession::fork", from);
    const std::size_t target = checked("GenerationSession::fork", to);
    if (source == target) return;
    const Index kept = memory_.kept_logits();
    memory_.history[target].reserve(memory_.history[source].size());
    std::fill_n(ready_of(to), kept, std::uint8_t{0});
    memory_.state.copy_stream(from, to);  // nothing throws once it has
    memory_.logits.middleCols(to * kept, kept) = memory_.logits.middleCols(from * kept, kept);
    std::copy_n(ready_of(from), kept, ready_of(to));
    memory_.history[target] = memory_.history[source];
  }

  /// How many streams it holds.
  Index streams() const { return memory_.state.streams(); }
  /// Tokens of `stream` that the model has in view: all, or those since the last restart read them.
  Index position(Index stream = 0) const { return memory_.state.count(stream); }
  /// Tokens that every stream can take before one is full; without learned positions there is no end.
  Index room() const { return model_->room(memory_.state); }
  /// Tokens that `stream` can take.
  Index room(Index stream) const { return model_->room(memory_.state, stream); }
  /// How often a stream has restarted, all streams together.
  Index restarts() const { return memory_.restarts; }
  /// How many tokens went through the model since this object was made, all streams together: those that a
  /// restart reads again count again, those that it leaves out do not.
  Index tokens_read() const { return tokens_read_; }
  /// Bytes of the state of all streams.
  std::size_t state_bytes() const { return memory_.state.bytes(); }

  /// The model it generates with.
  const Model& model() const { return *model_; }
  /// All that the session remembers: what a file holds (io/session_file.hpp).
  const Memory& memory() const { return memory_; }

 private:
  void read(const char* who, std::span<const std::int32_t> ids, std::span<const Index> offsets,
            std::span<const Index> chosen);
  void extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
              std::span<const Index> chosen, typename Model::State& state);
  void restart(std::span<const std::int32_t> ids, std::span<const Index> offsets,
               std::span<const Index> chosen);
  bool ends_with_positions(Index stream) const;
  [[noreturn]] void fail_full(Index stream, Index more) const;

  std::size_t checked(const char* who, Index stream) const {
    if (stream < 0 || stream >= streams()) {
      detail::raise<std::out_of_range>(std::string(who) + ": stream must be 0 to " +
                                       std::to_string(streams() - 1) + ", got " + std::to_string(stream));
    }
    return static_cast<std::size_t>(stream);
  }
  auto ready_of(Index stream) {
    return memory_.ready.begin() + static_cast<std::ptrdiff_t>(stream * memory_.kept_logits());
  }
  /// The offsets of T tokens for every stream.
  std::span<const Index> offsets_of(Index T) {
    for (std::size_t i = 0; i < offsets_.size(); ++i) offsets_[i] = static_cast<Index>(i) * T;
    return offsets_;
  }
  bool remembers() const { return model_->config().positions == Positions::kLearned; }
  void list_streams() {
    for (Index s = 0; s < streams(); ++s) all_.push_back(s);
    offsets_.resize(all_.size() + 1);
  }

  const Model* model_;
  Workspace* workspace_;
  OnFull on_full_;
  Memory memory_;
  Index tokens_read_ = 0;
  std::vector<Index> all_, offsets_;  // 0, 1, ... streams-1, and room for their offsets
};

}  // namespace hsm::inline HSM_ABI

#include <hsm/model/session_reading.hpp>
