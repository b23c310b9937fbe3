// SPDX-License-Identifier: MIT
//
// What a stream of attention over a hierarchy carries from call to call. Of all tokens that were seen the keys and values,
// and of each level above them the keys of its complete blocks, head by head, so that a query of a head reads one
// contiguous run: C (2 + 1/2 + 1/4 + ...) values per token, C (3 - 2^-E) with E levels above the tokens. Beside
// them, for each of the last 1 + spare tokens, its tail, 2 E C values, all that pooling and queries need of the past:
//
//   the query of the last complete block of each level from 1 on    0 where there is none yet
//   x^(e-1) of the block that waits for the other half of its block of level e, of each e from 1 on    0 where none waits
//
// Tokens can be taken back, `spare` of them at least, since the tail after the one before is then still there, or all;
// with one level, which has no tails, any number.
//
// The gradient of a state is a state: all of it holds its gradient, and what it does not hold has gradient 0, so a fresh
// state is the gradient 0 of any state.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/hierarchical_attention/levels.hpp>
#include <hsm/layer/ring_state.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// The blocks of all levels, and the tails, of `streams` independent sequences.
template <ComputeScalar Scalar>
class HierarchicalAttentionState {
 public:
  HierarchicalAttentionState() = default;
  /// Fresh streams. Throws std::invalid_argument for options out of range, heads that do not divide the channels, and
  /// levels that there cannot be.
  HierarchicalAttentionState(Index channels, Index heads, Index levels, const StateOptions& options);
  /// The same streams.
  HierarchicalAttentionState(const HierarchicalAttentionState&) = default;
  /// The streams of the other, which is left to be destroyed or assigned to.
  HierarchicalAttentionState(HierarchicalAttentionState&&) noexcept = default;
  /// The same streams; where memory is short nothing changes.
  HierarchicalAttentionState& operator=(const HierarchicalAttentionState& other) {
    return *this = HierarchicalAttentionState(other);
  }
  /// The streams of the other, which is left to be destroyed or assigned to.
  HierarchicalAttentionState& operator=(HierarchicalAttentionState&&) noexcept = default;

  /// How many streams it holds.
  Index streams() const { return tails_.streams(); }
  /// C.
  Index channels() const { return channels_; }
  /// H.
  Index heads() const { return heads_; }
  /// E + 1.
  Index levels() const { return levels_; }
  /// The most tokens per stream; 0 means no limit.
  Index capacity() const { return capacity_; }
  /// How many tokens below the highest count can always be taken back.
  Index spare() const { return tails_.spare(); }
  /// Tokens that stream `s` has seen. Throws std::out_of_range for a stream that does not exist, as all here do.
  Index count(Index s) const { return tails_.count(s); }
  /// How many more it can take.
  Index room(Index s) const {
    return capacity_ > 0 ? (std::min)(capacity_ - count(s), tails_.room(s)) : tails_.room(s);
  }
  /// Stream `s` starts a new sequence; its memory is kept.
  void reset(Index s) { tails_.reset(s); }
  /// All streams start new sequences.
  void reset() { tails_.reset(); }
  /// Whether rewind(s, k) is possible: see the file comment.
  bool can_rewind(Index s, Index k) const { return tails_.can_rewind(s, k); }
  /// Takes the last k tokens of stream `s` back, as if they had never been there. Throws std::out_of_range, with nothing
  /// changed, where it cannot.
  void rewind(Index s, Index k) { tails_.rewind(s, k); }
  /// Stream `to` becomes a copy of stream `from`, and goes on by itself. O(count C).
  void copy_stream(Index from, Index to) {
    static_cast<void>(count(to));
    if (from != to) copy_blocks(*this, from, to), tails_.copy_stream(from, to);
  }
  /// Whether stream `s` can go on: false after take_back could not take back, or spoil, until it is reset.
  bool is_whole(Index s) const { return tails_.is_whole(s); }
  /// After a call threw: the stream holds its first `count` tokens again, or is not whole.
  void take_back(Index s, Index count) { tails_.take_back(s, count); }
  /// The stream is not whole.
  void spoil(Index s) { tails_.spoil(s); }
  /// Memory held.
  std::size_t bytes() const {
    std::size_t sum = tails_.bytes();
    for (const Cache& cache : caches_) sum += cache.values.size() * sizeof(Scalar);
    return sum;
  }
  /// "8 channels, 2 heads and 3 levels", for messages.
  std::string shape_text() const {
    return detail::counted(channels_, "channel") + ", " + detail::counted(heads_, "head") + " and " +
           detail::counted(levels_, "level");
  }

  /// Calls f(s, e, b, values) for every stream s, level e and part b, a head of its keys, or of level 0 behind the keys of
  /// all heads a head of the values: a std::span of blocks(s, e) blocks of C/H values each. With tails() it is all that a
  /// state holds.
  template <class F, class Self>
  static void visit(F&& f, Self& self) {
    for (Index s = 0; s < self.streams(); ++s) {
      for (Index e = 0; e < self.levels_; ++e) {
        const auto size = static_cast<std::size_t>(self.blocks(s, e) * self.width());
        for (Index b = 0; b < self.parts(e); ++b) f(s, e, b, std::span(self.part(s, e, b), size));
      }
    }
  }
  /// Counts and tails.
  const RingState<Scalar>& tails() const { return tails_; }

  /// Whether both hold the same streams with the same values (NaN differs from NaN).
  bool operator==(const HierarchicalAttentionState& other) const {
    if (channels_ != other.channels_ || heads_ != other.heads_ || levels_ != other.levels_ ||
        !(tails_ == other.tails_))
      return false;
    bool same = true;
    visit(
        [&](Index s, Index e, Index b, std::span<const Scalar> values) {
          same = same && std::equal(values.begin(), values.end(), other.part(s, e, b));
        },
        *this);
    return same;
  }

  // For the layer and for files.

  /// C/H.
  Index width() const { return channels_ / heads_; }
  /// How many complete blocks of level e stream `s` holds.
  Index blocks(Index s, Index e) const { return detail::blocks_of(count(s), e); }
  /// How many parts level e has: a head's keys each, and of level 0 its values.
  Index parts(Index e) const { return e == 0 ? 2 * heads_ : heads_; }
  /// Block 0 of a part.
  const Scalar* part(Index s, Index e, Index b) const {
    const Cache& own = cache(s, e);
    return own.values.data() + b * own.room * width();
  }
  /// The same, to write to.
  Scalar* part(Index s, Index e, Index b) { return const_cast<Scalar*>(std::as_const(*this).part(s, e, b)); }
  /// The tail after the token at place `token` of stream `s`, one of the last 1 + spare; 2 E C values.
  Scalar* tail(Index s, Index token) { return tails_.ring(0, s).slot(token); }
  /// The same, to read.
  const Scalar* tail(Index s, Index token) const { return tails_.ring(0, s).slot(token); }
  /// How many tails of a stream are there.
  Index tail_slots() const { return levels_ > 1 ? tails_.ring(0, 0).slot_count : 0; }
  /// Values of a tail.
  Index tail_size() const { return 2 * (levels_ - 1) * channels_; }
  /// Makes room for `more` tokens in stream `s`, so that they ask for no memory; doubles it where it must grow.
  void reserve(Index s, Index more) {
    const Index all = count(s) + more;
    tails_.make_room(all);
    for (Index e = 0; e < levels_; ++e) grow(s, e, detail::blocks_of(all, e));
  }
  /// Writes the blocks that are complete with `more` tokens behind those of level e, without counting them; source(b) is
  /// the first new one of part b.
  template <class Source>
  void append(Index s, Index e, Index more, Source&& source) {
    const Index held = blocks(s, e), added = detail::blocks_of(count(s) + more, e) - held;
    for (Index b = 0; added > 0 && b < parts(e); ++b)
      std::copy_n(source(b), added * width(), part(s, e, b) + held * width());
  }
  /// Counts `more` tokens, whose blocks and tails were written.
  void advance(Index s, Index more) { tails_.advance(s, more); }
  /// A stream that has seen so many tokens, whose values may be anything.
  void restart(Index s, Index tokens) {
    tails_.reset(s);
    reserve(s, tokens);
    recount(s, tokens);
  }
  /// A stream of so many tokens, of which it holds the blocks.
  void recount(Index s, Index tokens) {
    tails_.reset(s);
    tails_.advance(s, tokens);
  }
  /// A gradient: all of it 0 for so many tokens, unless it has as many.
  void hold(Index s, Index tokens) {
    if (count(s) == tokens) return;
    restart(s, tokens);
    for (Index e = 0; e < levels_; ++e) {
      for (Index b = 0; b < parts(e); ++b) std::fill_n(part(s, e, b), blocks(s, e) * width(), Scalar(0));
    }
    clear_tails(s);
  }
  /// All tails of a stream 0.
  void clear_tails(Index s) {
    for (Index slot = 0; slot < tail_slots(); ++slot) std::fill_n(tail(s, slot), tail_size(), Scalar(0));
  }
  /// Stream `to` gets the blocks of stream `from` of `other`, of the same shape; it must be counted as many tokens.
  void copy_blocks(const HierarchicalAttentionState& other, Index from, Index to) {
    for (Index e = 0; e < levels_; ++e) grow(to, e, other.blocks(from, e));  // all memory first
    for (Index e = 0; e < levels_; ++e) {
      for (Index b = 0; b < parts(e); ++b)
        std::copy_n(other.part(from, e, b), other.blocks(from, e) * width(), part(to, e, b));
    }
  }
  /// Counts and tails, to change.
  RingState<Scalar>& tails() { return tails_; }
  /// Takes counts and tails that were saved, and makes room for what they count, to be filled by visit.
  void restore(RingState<Scalar> tails) {
    tails_ = std::move(tails);
    for (Index s = 0; s < streams(); ++s) reserve(s, 0);
  }

 private:
  /// Parts one after another, each with room for as many blocks.
  struct Cache {
    Index room = 0;
    std::vector<Scalar> values;  // [part][room][C/H]
  };
  static constexpr Index kSmallest = 64;

  const Cache& cache(Index s, Index e) const { return caches_[static_cast<std::size_t>(s * levels_ + e)]; }
  /// Room for so many blocks; what is held stays.
  void grow(Index s, Index e, Index blocks_wanted) {
    const Cache& own = cache(s, e);
    if (blocks_wanted <= own.room) return;
    const Index held = (std::min)(blocks(s, e), own.room), D = width();
    const Index wanted = (std::max)({blocks_wanted, 2 * own.room, capacity_ > 0 ? 1 : kSmallest >> e});
    if (wanted > (std::numeric_limits<Index>::max)() / (2 * channels_)) {
      detail::raise<std::length_error>("HierarchicalAttentionState: " + detail::counted(wanted, "block") +
                                       " of " + detail::counted(channels_, "channel") +
                                       " are more than memory can hold");
    }
    std::vector<Scalar> values(static_cast<std::size_t>(parts(e) * wanted * D));
    for (Index b = 0; held > 0 && b < parts(e); ++b)
      std::copy_n(part(s, e, b), held * D, values.data() + b * wanted * D);
    Cache& grown = caches_[static_cast<std::size_t>(s * levels_ + e)];
    grown.values.swap(values);
    grown.room = wanted;
  }

  Index channels_ = 0, heads_ = 1, levels_ = 1, capacity_ = 0;
  RingState<Scalar> tails_;    // one ring of reach 1, or with one level none
  std::vector<Cache> caches_;  // [stream][level]
};

template <ComputeScalar Scalar>
HierarchicalAttentionState<Scalar>::HierarchicalAttentionState(Index channels, Index heads, Index levels,
                                                               const StateOptions& options)
    : channels_(channels), heads_(heads), levels_(levels), capacity_(options.capacity) {
  constexpr const char* kWho = "HierarchicalAttentionState";
  detail::check_at_least(kWho, "channels", channels, 1);
  detail::check_heads(kWho, heads, channels);
  detail::check_levels(kWho, levels);
  detail::check_at_least(kWho, "capacity", capacity_, 0);
  const RingShape ring{tail_size(), 1, 1};
  tails_ = RingState<Scalar>(kWho, options,
                             std::span<const RingShape>(&ring, static_cast<std::size_t>(levels > 1 ? 1 : 0)));
  constexpr Index kMostCaches = (std::numeric_limits<Index>::max)() / static_cast<Index>(sizeof(Cache));
  if (options.streams > kMostCaches / levels)
    detail::fail(kWho, "streams", "at most " + std::to_string(kMostCaches / levels),
                 std::to_string(options.streams));
  caches_.resize(static_cast<std::size_t>(options.streams * levels));
  for (Index s = 0; capacity_ > 0 && s < streams(); ++s) {
    for (Index e = 0; e < levels; ++e) grow(s, e, detail::blocks_of(capacity_, e));
  }
}

}  // namespace hsm::inline HSM_ABI
