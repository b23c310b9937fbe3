// SPDX-License-Identifier: MIT
//
// Speculative decoding (arXiv 2211.17192, 2302.01318): a small model drafts a few tokens, the large one reads them in one
// call and keeps those that it draws itself.
//
//   hsm::SpeculativeSession session(model, draft, workspace, {.draft_tokens = 4});
//   session.prefill(prompt);
//   while (...) for (const std::int32_t id : session.next(sampler, random)) ...
//
// The papers accept a drafted token with a probability that leaves the distribution of the text as it is. Here both
// models draw each token with the same random numbers, and one is kept where they drew the same: the text itself is the
// one that GenerationSession, this sampler and this seed write without a draft, whatever the draft says. (A call of
// several tokens rounds otherwise than calls of one, within the bounds of the model's layers: where two tokens are as
// close as that, either may be drawn.) A few more are refused than would have to be. A draft whose logits are not numbers
// ends the text as the large model's would: the sampler throws.
//
// Cost of a round that keeps a of k drafted tokens, and gives a + 1: one call of the large model with 1 + k tokens, and k
// calls of the draft. It is worth it where such a call takes little more than one of a single token, because weights are
// what takes time, and the draft is much smaller. Memory: two sessions that can take k tokens back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/random.hpp>
#include <hsm/model/session.hpp>

namespace hsm::inline HSM_ABI {

/// How to speculate.
struct SpeculationOptions {
  Index draft_tokens = 4;  ///< k, in a round
  /// What happens when the large model's learned positions run out; the draft always restarts.
  OnFull on_full = OnFull::kRefuse;
};

/// One text by two models of one vocabulary; see the file comment. Models and workspace must outlive it; not for two
/// threads at once. Layers must be able to take tokens back (LanguageModelState::can_rewind), as all of the library can.
template <class Model, class Draft = Model>
class SpeculativeSession {
 public:
  /// No token yet. Throws std::invalid_argument for draft_tokens < 1, or a draft of another vocabulary.
  SpeculativeSession(const Model& model, const Draft& draft, Workspace& workspace,
                     SpeculationOptions options = {})
      : draft_tokens_(checked(model, draft, options)),
        large_(model, workspace, {.on_full = options.on_full, .spare = options.draft_tokens}),
        small_(draft, workspace, {.on_full = OnFull::kRestart, .spare = options.draft_tokens - 1}) {}

  /// Reads the next T >= 1 tokens of the text, after those that next has given. Throws as GenerationSession::prefill.
  void prefill(std::span<const std::int32_t> ids) {
    check_whole("SpeculativeSession::prefill");
    if (ids.empty()) detail::fail("SpeculativeSession::prefill", "the number of token ids", "above 0", "0");
    std::vector<std::int32_t> all(unread_);
    all.insert(all.end(), ids.begin(), ids.end());
    small_unread_.reserve(small_unread_.size() + ids.size());
    large_.prefill(all);
    small_unread_.insert(small_unread_.end(), ids.begin(), ids.end());
    unread_.clear();
  }

  /// The next tokens of the text, 1 to min(k + 1, most) of them, until the next call. sampler(logits, random), such as a
  /// Sampler, draws a token; it must depend on nothing else, and `random` is left as that many draws leave it. Throws
  /// std::out_of_range, with nothing changed, before the first prefill and where on_full refuses more tokens,
  /// std::invalid_argument for most < 1. Where the sampler throws, or memory is short, the text is refused until reset
  /// if tokens were being tried.
  template <class Choose>
  std::span<const std::int32_t> next(Choose&& sampler, Random& random,
                                     Index most = (std::numeric_limits<Index>::max)()) {
    constexpr const char* kWho = "SpeculativeSession::next";
    check_whole(kWho);
    detail::check_at_least(kWho, "the number of tokens", most, 1);
    given_.clear();
    if (!unread_.empty()) {
      // Never past learned positions: what is read then is read again, from half a context.
      const Index k = (std::min)({draft_tokens_, most - 1, large_.room() - 1});
      if (k > 0) {
        whole_ = false;
        try_tokens(k, sampler, random);
        whole_ = true;
        return given_;
      }
      large_.prefill(unread_);
      unread_.clear();
    }
    given_.reserve(1);
    unread_.reserve(1);
    small_unread_.reserve(small_unread_.size() + 1);  // nothing throws once the token is drawn
    give(sampler(large_.logits(), random));
    small_unread_.push_back(given_.back());
    return given_;
  }

  /// Begins a new text.
  void reset() {
    large_.reset(0);
    small_.reset(0);
    unread_.clear();
    small_unread_.clear();
    whole_ = true;
  }

  /// The large model's session, which has read all of the text but the last token that next gave.
  const GenerationSession<Model>& session() const { return large_; }
  /// Tokens that the draft proposed, in all.
  Index drafted() const { return drafted_; }
  /// Those of them that were kept.
  Index accepted() const { return accepted_; }

 private:
  static Index checked(const Model& model, const Draft& draft, const SpeculationOptions& options) {
    constexpr const char* kWho = "SpeculativeSession";
    detail::check_at_least(kWho, "draft_tokens", options.draft_tokens, 1);
    detail::check_equal(kWho, "the vocabulary of the draft", draft.config().vocabulary,
                        model.config().vocabulary);
    return options.draft_tokens;
  }
  void check_whole(const char* who) const {
    if (!whole_) detail::fail(who, "the text", "reset after a call that threw", "one in the middle of it");
  }

  void give(std::int32_t id) {
    given_.push_back(id);
    unread_.assign(1, id);
  }

  /// A round: the last token and k drafted ones.
  template <class Choose>
  void try_tokens(Index k, Choose& sampler, Random& random) {
    tried_.assign(1, unread_.front());
    Random ahead = random;
    small_.prefill(small_unread_);
    for (Index i = 0; i < k; ++i) {
      if (i > 0) {
        if (small_.room() == 0) break;  // what a restart reads cannot be taken back
        small_.next(tried_.back());
      }
      tried_.push_back(sampler(small_.logits(), ahead));
    }
    k = static_cast<Index>(tried_.size()) - 1;
    large_.prefill(tried_);
    Index kept = 0;
    for (;; ++kept) {
      give(sampler(large_.logits(0, k - kept), random));
      if (kept == k || given_.back() != tried_[static_cast<std::size_t>(kept) + 1]) break;
    }
    large_.rewind(0, k - kept);
    // The draft has read all that was tried but the last.
    small_.rewind(0, (std::max)(k - 1 - kept, Index{0}));
    small_unread_.assign(1, given_.back());
    if (kept == k) small_unread_.insert(small_unread_.begin(), tried_.back());
    drafted_ += k;
    accepted_ += kept;
  }

  Index draft_tokens_;
  GenerationSession<Model> large_;
  GenerationSession<Draft> small_;
  std::vector<std::int32_t> unread_;        // of the text, by the large model: the last token, or none
  std::vector<std::int32_t> small_unread_;  // by the draft
  std::vector<std::int32_t> tried_, given_;
  Index drafted_ = 0, accepted_ = 0;
  bool whole_ = true;
};

}  // namespace hsm::inline HSM_ABI
