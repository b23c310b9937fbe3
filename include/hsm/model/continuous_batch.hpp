// SPDX-License-Identifier: MIT
//
// Many texts that begin and end while others go on ("continuous batching"), in the streams of one session:
//
//   hsm::ContinuousBatch batch(model, workspace, {.streams = 64});
//   batch.add(prompt);                                   // as often as texts come; each has a number: 0, 1, 2, ...
//   while (batch.turn([&](std::int64_t text, auto logits) { return sampler(logits, random[text]); })) {}
//
// A turn is one call of the model: the next token of every text whose prompt is read, and beside them at most
// `prompt_tokens` tokens of prompts, the oldest text's first. So a text gets a token each turn, however long the prompts are
// that others bring: a turn reads `streams` + `prompt_tokens` tokens at most, and what restarts read again. A text that
// finds no stream free waits for one, in the order of coming. Learned positions that run out restart a text, as a session
// does under OnFull::kRestart (session.hpp), so that one text is never what ends the others.
//
// A text is the one that a session of its own would write, as far as products of other widths round alike: see the bounds
// of the model's layers. Cost: that of LanguageModel::extend over the tokens of a turn. Memory: that of the session, and the
// prompts of the texts that have not ended.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/model/session.hpp>

namespace hsm::inline HSM_ABI {

/// How texts share a model.
struct ContinuousBatchOptions {
  Index streams = 1;          ///< texts at once
  Index prompt_tokens = 256;  ///< of prompts in a turn, at most
};

/// Texts in the streams of one session; see the file comment. Model and workspace must outlive it; not for two threads at
/// once. While a turn asks for tokens texts may be added, but not forked or ended: that throws std::logic_error.
template <class Model>
class ContinuousBatch {
 public:
  /// float or double.
  using Scalar = typename Model::Scalar;

  /// No text yet. Throws std::invalid_argument for streams or prompt_tokens < 1.
  ContinuousBatch(const Model& model, Workspace& workspace, ContinuousBatchOptions options = {})
      : session_(model, workspace, {.streams = options.streams, .on_full = OnFull::kRestart}),
        prompt_tokens_(options.prompt_tokens) {
    detail::check_at_least("ContinuousBatch", "prompt_tokens", prompt_tokens_, 1);
    for (Index s = options.streams; s-- > 0;) free_.push_back(s);
  }

  /// A text that goes on behind `prompt`, at least one token, and its number. Throws std::invalid_argument for no token,
  /// std::out_of_range for an id outside [0,V).
  std::int64_t add(std::span<const std::int32_t> prompt) {
    if (prompt.empty()) detail::fail("ContinuousBatch::add", "the prompt", "at least one token", "none");
    detail::check_token_ids("ContinuousBatch::add", prompt, session_.model().config().vocabulary);
    waiting_.push_back({next_, {prompt.begin(), prompt.end()}, 0, -1});
    return next_++;
  }

  /// A text that begins as `text` is now and goes on alone, and its number. Throws std::out_of_range for a text that is not
  /// running, or where no stream is free.
  std::int64_t fork(std::int64_t text) {
    check_between_turns("ContinuousBatch::fork");
    Text copy = *running("ContinuousBatch::fork", text);
    if (free_.empty()) {
      detail::raise<std::out_of_range>("ContinuousBatch::fork: expected a free stream, got " +
                                       detail::counted(session_.streams(), "stream") + " in use");
    }
    running_.reserve(running_.size() + 1);
    session_.fork(copy.stream, free_.back());
    copy.stream = free_.back();
    copy.number = next_;
    running_.push_back(std::move(copy));
    free_.pop_back();
    return next_++;
  }

  /// Ends a text, running or waiting. Throws std::out_of_range for one that is neither.
  void end(std::int64_t text) {
    check_between_turns("ContinuousBatch::end");
    const auto at =
        std::find_if(waiting_.begin(), waiting_.end(), [&](const Text& each) { return each.number == text; });
    if (at != waiting_.end())
      waiting_.erase(at);
    else
      leave(running("ContinuousBatch::end", text));
  }

  /// The next token of every text whose prompt is read, and tokens of prompts. choose(text, logits [V]) gives the token that
  /// follows, or a negative number where the text ends. True while there are texts. Throws what choose throws, and
  /// std::out_of_range for an id that is none; no text has then read a token, those that ended have ended, and the next turn
  /// asks the others again. Throws what the model throws (no memory, an executor that throws); texts whose streams it left
  /// in part have then ended too, which `has` tells.
  template <class Choose>
  bool turn(Choose&& choose) {
    check_between_turns("ContinuousBatch::turn");
    ids_.clear();
    chosen_.clear();
    offsets_.assign(1, 0);
    ask(choose);
    for (; !free_.empty() && !waiting_.empty(); waiting_.pop_front()) {
      running_.push_back(std::move(waiting_.front()));
      running_.back().stream = free_.back();
      // A fork that threw may have begun to write there; what ended was reset.
      if (!session_.memory().state.is_whole(free_.back())) session_.reset(free_.back());
      free_.pop_back();
    }
    const std::size_t own = ids_.size();
    auto left = static_cast<std::size_t>(prompt_tokens_);
    for (const Text& text : running_) {
      const std::size_t count = (std::min)(left, text.prompt.size() - text.read);
      if (count == 0) continue;
      const auto first = text.prompt.begin() + static_cast<std::ptrdiff_t>(text.read);
      ids_.insert(ids_.end(), first, first + static_cast<std::ptrdiff_t>(count));
      take_part(text);
      left -= count;
    }
    if (!chosen_.empty()) {
      Unfinished unfinished{*this};
      session_.prefill(ids_, offsets_, chosen_);
      unfinished.kept = true;
    }
    std::size_t read = ids_.size() - own;
    for (Text& text : running_) {
      const std::size_t count = (std::min)(read, text.prompt.size() - text.read);
      text.read += count;
      read -= count;
    }
    return !running_.empty() || !waiting_.empty();
  }

  /// Whether `text` runs or waits; false once it has ended.
  bool has(std::int64_t text) const {
    const auto is = [&](const Text& each) { return each.number == text; };
    return std::any_of(running_.begin(), running_.end(), is) ||
           std::any_of(waiting_.begin(), waiting_.end(), is);
  }
  /// How many texts have a stream.
  Index running() const { return static_cast<Index>(running_.size()); }
  /// How many texts wait for one.
  Index waiting() const { return static_cast<Index>(waiting_.size()); }
  /// The session that the texts run in; which stream a text has is not told.
  const GenerationSession<Model>& session() const { return session_; }

 private:
  struct Text {
    std::int64_t number;
    std::vector<std::int32_t> prompt;
    std::size_t read;  // tokens of the prompt
    Index stream;      // -1 while it waits
  };
  using Place = typename std::vector<Text>::iterator;

  /// Unless kept, texts that cannot go on have ended.
  struct Unfinished {
    ContinuousBatch& batch;
    bool kept = false;
    ~Unfinished() {
      const auto& state = batch.session_.memory().state;
      for (auto text = batch.running_.begin(); !kept && text != batch.running_.end();)
        text = state.is_whole(text->stream) ? text + 1 : batch.leave(text);
    }
  };

  /// The token of every text whose prompt is read; those that end leave.
  template <class Choose>
  void ask(Choose& choose) {
    struct Asking {  // until the last has answered, or one has thrown
      bool& asking;
      explicit Asking(bool& flag) : asking(flag) { asking = true; }
      ~Asking() { asking = false; }
    } now(asking_);
    for (auto text = running_.begin(); text != running_.end();) {
      if (text->read < text->prompt.size()) {
        ++text;
        continue;
      }
      const std::int32_t id = choose(std::as_const(text->number), session_.logits(text->stream));
      if (id < 0) {
        text = leave(text);
        continue;
      }
      ids_.push_back(id);
      take_part(*text);
      ++text;
    }
  }
  void check_between_turns(const char* who) const {
    if (asking_)
      detail::raise<std::logic_error>(std::string(who) +
                                      ": expected a call between turns, got one from within a turn");
  }
  /// The tokens listed last are those of this text.
  void take_part(const Text& text) {
    offsets_.push_back(static_cast<Index>(ids_.size()));
    chosen_.push_back(text.stream);
  }
  Place running(const char* who, std::int64_t text) {
    const Place at =
        std::find_if(running_.begin(), running_.end(), [&](const Text& each) { return each.number == text; });
    if (at == running_.end()) {
      detail::raise<std::out_of_range>(std::string(who) + ": expected the number of a text that runs, got " +
                                       std::to_string(text));
    }
    return at;
  }
  Place leave(Place text) {
    session_.reset(text->stream);
    free_.push_back(text->stream);
    return running_.erase(text);
  }

  GenerationSession<Model> session_;
  Index prompt_tokens_;
  std::int64_t next_ = 0;
  bool asking_ = false;
  std::vector<Text> running_;  // in the order of coming
  std::deque<Text> waiting_;
  std::vector<Index> free_;  // streams
  std::vector<std::int32_t> ids_;
  std::vector<Index> offsets_, chosen_;
};

}  // namespace hsm::inline HSM_ABI
