// SPDX-License-Identifier: MIT
//
// How a sequence is cut over ranks: rank r holds a contiguous part of its tokens, rank r+1 those behind it. Parts have
// any lengths, also 0. The sequence may be several documents, one after another, as in packed; cuts lie anywhere.
//
//   tokens      0 1 2 3 4 5 6 7 8 9        documents 0-3, 4-9
//   rank 0      0 1 2 3 4 5                its second segment is born here and goes on: stream 0
//   rank 1                  6 7            continues stream 0, in which 2 tokens lie before
//   rank 2                      8 9        continues stream 0, in which 4 tokens lie before
//
// Segments are those of one call (layer/segment.hpp): the document that goes on from the left continues stream 0, one
// that begins here and goes on to the right the last stream, which is fresh, and others are fresh segments. Behind the
// last token of all the last document stays open, so that the last rank has the state of the whole sequence even where
// it has no tokens.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <hsm/distributed/communicator.hpp>
#include <hsm/io/fingerprint.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// The part of a sequence that this rank holds, and what goes in and out of it.
class TokenShards {
 public:
  /// Collective. This rank holds `tokens` tokens of one document.
  TokenShards(Communicator& ranks, Index tokens) : TokenShards(ranks, tokens, {}, false) {}
  /// Collective. Document i of the whole sequence is tokens offsets[i] ... offsets[i+1]-1; every rank gives the same
  /// offsets, which begin with 0, do not fall and end with the number of all tokens. Throws std::invalid_argument, on
  /// every rank, where they do not; std::runtime_error where ranks give different ones.
  TokenShards(Communicator& ranks, Index tokens, std::span<const Index> offsets)
      : TokenShards(ranks, tokens, offsets, true) {}

  /// The ranks.
  Communicator& ranks() const { return *ranks_; }
  /// How many tokens this rank holds.
  Index tokens() const { return tokens_; }
  /// How many tokens lie before them.
  Index first() const { return first_; }
  /// How many tokens lie before those of rank r, 0 <= r <= ranks; before the last one all.
  Index first(int r) const { return firsts_[static_cast<std::size_t>(r)]; }
  /// How many tokens all ranks hold.
  Index total() const { return total_; }
  /// How many documents they are, empty ones not counted.
  Index documents() const { return documents_; }
  /// Tokens of the document that goes on here which lie to the left: what the state that arrives has seen. 0 where none
  /// goes on.
  Index arriving() const { return arriving_; }
  /// What the state that is left behind the last token has seen; 0 where a document ends there that is not the last.
  Index leaving() const { return leaving_; }
  /// Behind which token of all the document ends that goes on here from the left, 0 where none does.
  Index arriving_end() const { return arriving_end_; }
  /// Behind which token of all the document ends that leaves, 0 where none does.
  Index leaving_end() const { return leaving_end_; }
  /// Whether a state comes from the left, as its gradient goes there.
  bool receives() const { return arriving_ > 0 && ranks_->rank() > 0; }
  /// Whether a state goes to the right, as its gradient comes from there.
  bool sends() const { return leaving_ > 0 && ranks_->rank() + 1 < ranks_->size(); }
  /// The segments of a call over the tokens of this rank.
  std::span<const Segment> segments() const { return segments_; }
  /// How many streams they need.
  Index streams() const { return leaving_stream() + 1; }
  /// The stream that holds what leaves.
  Index leaving_stream() const { return born() && arriving_ > 0 ? 1 : 0; }
  /// How many of the tokens of this rank are of the document that leaves, the last ones.
  Index leaving_tokens() const { return (std::min)(leaving_, tokens_); }
  /// Whether the document that leaves begins here.
  bool born() const { return leaving_ > 0 && leaving_ <= tokens_; }

 private:
  TokenShards(Communicator& ranks, Index tokens, std::span<const Index> offsets, bool packed);

  /// Tokens of the document that goes on at `place` which lie before it.
  static Index before(std::span<const Index> offsets, Index place, Index total) {
    if (place == 0) return 0;
    // Behind the last token its document is open, whatever empty ones follow.
    const Index token = place == total ? place - 1 : place;
    const auto next = std::upper_bound(offsets.begin(), offsets.end(), token);
    return place - *(next - 1);
  }

  Communicator* ranks_;
  Index tokens_, first_ = 0, total_ = 0, documents_ = 0, arriving_ = 0, leaving_ = 0;
  Index arriving_end_ = 0, leaving_end_ = 0;
  std::vector<Index> firsts_;  // of every rank, and the number of all tokens
  std::vector<Segment> segments_;
};

inline TokenShards::TokenShards(Communicator& ranks, Index tokens, std::span<const Index> offsets,
                                bool packed)
    : ranks_(&ranks), tokens_(tokens) {
  constexpr const char* kWho = "TokenShards";
  struct Part {
    std::int64_t tokens;
    std::uint64_t offsets;
  };
  Fnv1a64 hash;
  hash.add(std::as_bytes(offsets));
  const std::vector<Part> parts = ranks.gather(Part{tokens, hash.value()});
  for (std::size_t r = 0; r < parts.size(); ++r) {  // all ranks see the same, and throw the same
    const Index own = static_cast<Index>(parts[r].tokens);
    if (own < 0 || own > (std::numeric_limits<Index>::max)() - total_) {
      detail::fail(kWho, "the tokens of rank " + std::to_string(r),
                   own < 0 ? "at least 0" : "few enough to count all", std::to_string(own));
    }
    if (parts[r].offsets != parts[0].offsets) {
      detail::raise<std::runtime_error>(
          "TokenShards: every rank must give the offsets of rank 0, got others on rank " + std::to_string(r));
    }
    firsts_.push_back(total_);
    total_ += own;
  }
  first_ = firsts_[static_cast<std::size_t>(ranks.rank())];
  firsts_.push_back(total_);
  const Index whole[] = {0, total_};
  if (packed) {
    detail::check_offsets(kWho, offsets, total_);
  } else {
    offsets = whole;
  }
  for (std::size_t i = 1; i < offsets.size(); ++i) documents_ += offsets[i] > offsets[i - 1] ? 1 : 0;
  arriving_ = before(offsets, first_, total_);
  leaving_ = before(offsets, first_ + tokens_, total_);
  const auto end_of = [&](Index place) {  // of the document whose tokens lie before it
    return *std::upper_bound(offsets.begin(), offsets.end(), place - 1);
  };
  if (arriving_ > 0) arriving_end_ = end_of(first_);
  if (leaving_ > 0) leaving_end_ = end_of(first_ + tokens_);
  Index at = 0;
  if (arriving_ > 0) {  // also where it has no tokens here: it goes through
    at = (std::min)(arriving_end_ - first_, tokens_);
    segments_.push_back({0, at, 0});
  }
  const Index last = born() ? tokens_ - leaving_ : tokens_;  // where the document that leaves begins
  for (std::size_t i = 1; i < offsets.size() && at < last; ++i) {
    const Index end = (std::min)(offsets[i] - first_, last);
    if (end <= at) continue;
    segments_.push_back({at, end - at, Segment::kFresh});
    at = end;
  }
  if (born()) segments_.push_back({last, leaving_, leaving_stream()});
}

}  // namespace hsm::inline HSM_ABI
