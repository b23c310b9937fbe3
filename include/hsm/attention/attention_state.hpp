// SPDX-License-Identifier: MIT
//
// The key/value cache of one attention layer: for each stream how many tokens it has seen and the keys and
// values of those that it holds, head by head, so that a query of a head reads one contiguous run. A value: copy it
// to fork a session. Without a window a stream holds all its tokens, 2 C values each; with a window of W the last
// W-1 + spare of them, and its memory does not grow with the text (attention/cached_stream.hpp). With rotary positions
// the keys are kept as they were turned for the places they were seen at (attention/rotary.hpp); the place of the next
// token is the count.
//
// The gradient of a state is a state: keys and values then hold their gradients, tokens that it does not hold
// have gradient 0, so a fresh state is the gradient 0 of any state.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/attention/cached_stream.hpp>
#include <hsm/attention/rotary.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// What a block of a cache holds.
enum class CachePart { kKeys, kValues };

/// Keys and values of `streams` independent sequences.
template <ComputeScalar Scalar>
class AttentionState {
 public:
  AttentionState() = default;

  /// A state of attention with options `of`, of which `top` is not kept. Throws std::invalid_argument for options that are out of
  /// range. With a window options.capacity is not read, without one options.spare.
  AttentionState(Index channels, Index heads, const StateOptions& options, const AttentionOptions& of = {});
  /// The same streams.
  AttentionState(const AttentionState&) = default;
  /// The streams of the other, which is left to be destroyed or assigned to.
  AttentionState(AttentionState&&) noexcept = default;
  /// The same streams; where memory is short nothing changes.
  AttentionState& operator=(const AttentionState& other) { return *this = AttentionState(other); }
  /// The streams of the other, which is left to be destroyed or assigned to.
  AttentionState& operator=(AttentionState&&) noexcept = default;

  /// How many streams it holds.
  Index streams() const { return static_cast<Index>(streams_.size()); }
  /// C.
  Index channels() const { return shape_.channels; }
  /// H.
  Index heads() const { return shape_.heads; }
  /// The base of the rotary positions that its keys were turned by; 0 for none.
  Index rotary() const { return rotary_; }
  /// How many tokens each one sees; 0 for all.
  Index window() const { return shape_.window; }
  /// How many tokens a block has, of which the keys are summed beside the cache; 0 for none.
  Index block() const { return shape_.block; }
  /// The most tokens per stream; 0 means no limit. With a window there is none.
  Index capacity() const { return limit_; }
  /// How many tokens below the highest count can always be taken back, with a window; 0 without, where all can.
  Index spare() const { return shape_.spare; }

  /// Tokens that stream `s` has seen. Throws std::out_of_range for a stream that does not exist.
  Index count(Index s) const { return at("AttentionState::count", s).count; }
  /// How many of them it holds, the last ones; without a window all. Throws as count.
  Index held(Index s) const { return at("AttentionState::held", s).held(); }

  /// "8 channels, 2 heads, rotary base 0 and window 0", for messages; " and blocks of 64 tokens" where it has them.
  std::string shape_text() const {
    return detail::counted(channels(), "channel") + ", " + detail::counted(heads(), "head") +
           ", rotary base " + std::to_string(rotary_) + " and window " + std::to_string(window()) +
           (block() > 0 ? " and blocks of " + detail::counted(block(), "token") : "");
  }

  /// Memory held by keys and values, and with blocks by their sums.
  std::size_t bytes() const;

  /// Stream `s` starts a new sequence; its memory is kept.
  void reset(Index s) { at("AttentionState::reset", s).restart(0); }
  /// All streams start new sequences.
  void reset() {
    for (Stream& stream : streams_) stream.restart(0);
  }

  /// Takes the last `tokens` tokens of stream `s` back: what follows continues as if they had never been
  /// there. Throws std::out_of_range, and changes nothing, if the stream has seen fewer, or no longer holds what the
  /// next token would see.
  void rewind(Index s, Index tokens);

  /// Stream `to` becomes a copy of stream `from`, and goes on by itself. O(held C). Throws std::out_of_range
  /// for a stream that does not exist.
  void copy_stream(Index from, Index to);

  /// Stream `s` has seen `count` tokens: its first ones, and behind them tokens whose keys and values are 0; with a
  /// window it holds the last ones of these, 0 where it did not hold them before. Before visit() fills a state that is
  /// restored. Throws std::out_of_range, and changes nothing, for a negative count or one beyond the capacity,
  /// std::length_error for more than memory can hold.
  void resize(Index s, Index count);

  /// What a session saves besides the counts: calls f(s, part, h, values) for every stream s, part (keys,
  /// then values) and head h, where values is a std::span of held(s) tokens of C/H values each, without
  /// gaps.
  template <class F>
  void visit(F&& f) const {
    visit_blocks<const Scalar>(*this, f);
  }
  /// The same with spans to write to.
  template <class F>
  void visit(F&& f) {
    visit_blocks<Scalar>(*this, f);
  }

  /// After a call threw: the stream holds its first `count` tokens again, or with a window, where more than can be
  /// rewound have come since, is not whole.
  void take_back(Index s, Index count);
  /// The stream is not whole.
  void spoil(Index s) { at("AttentionState::spoil", s).whole = false; }
  /// Whether rewind(s, tokens) is possible: any of those that are there; with a window as many as were spared for it, or
  /// all.
  bool can_rewind(Index s, Index tokens) const {
    return at("AttentionState::can_rewind", s).can_rewind(shape_, tokens);
  }
  /// The most tokens of a stream with a window: 2^62, or 2^30 where Index has 32 bits.
  static constexpr Index kMostTokens = Index{1} << (kIndexBits - 1);
  /// How many more tokens stream `s` can take. Throws std::out_of_range for a stream that does not exist.
  Index room(Index s) const {
    const Index most = window() > 0 ? kMostTokens : (std::numeric_limits<Index>::max)();
    return (limit_ > 0 ? limit_ : most) - at("AttentionState::room", s).count;
  }
  /// Whether stream `s` can go on: false until it is reset after take_back could not take back, which it always can
  /// without a window, and after spoil.
  bool is_whole(Index s) const { return at("AttentionState::is_whole", s).whole; }

  // For CausalAttention and for files.

  /// How many tokens before it the next token sees.
  Index reach() const { return shape_.reach(); }
  /// How many tokens a stream holds at most.
  Index most_held() const { return shape_.most(); }
  /// The first token that stream `s` holds; all behind it are held.
  Index first(Index s) const { return at("AttentionState::first", s).first; }
  /// Stream `s` has seen `count` tokens and holds those from `first` on, 0 where it did not before.
  void hold(Index s, Index first, Index count) { at("AttentionState::hold", s).hold(shape_, first, count); }
  /// Stream `s` has seen `count` tokens and holds none.
  void restart(Index s, Index count) { at("AttentionState::restart", s).restart(count); }
  /// Makes room for `more` tokens in stream `s`; doubles the memory where it must grow.
  void reserve(Index s, Index more) { at("AttentionState::reserve", s).reserve(shape_, more); }
  /// Writes `more` tokens, at most most_held(), behind the last ones of stream `s`, without counting them; source(b) is
  /// the first of them in block b, keys of all heads, then values.
  template <class Source>
  void append(Index s, Index more, Source&& source) {
    at("AttentionState::append", s).append(shape_, more, source);
  }
  /// Counts `more` tokens, whose keys and values were written behind the last ones.
  void advance(Index s, Index more) { at("AttentionState::advance", s).advance(shape_, more); }
  /// append and advance, for any number of tokens.
  template <class Source>
  void take(Index s, Index more, Source&& source) {
    at("AttentionState::take", s).take(shape_, more, source);
  }
  /// Stream `to` becomes a copy of stream `from` of `other`, a state of as many channels and heads, and of the
  /// same rotary positions.
  void copy_stream(const AttentionState& other, Index from, Index to) {
    const Stream& source = other.at("AttentionState::copy_stream", from);
    at("AttentionState::copy_stream", to).copy(shape_, source);
  }

  /// The first token that is held, of head h; a token is C/H values.
  const Scalar* keys(Index s, Index h) const {
    return streams_[static_cast<std::size_t>(s)].block(shape_, h);
  }
  /// The same, to write to: what was summed of them is gone.
  Scalar* keys(Index s, Index h) {
    Stream& stream = streams_[static_cast<std::size_t>(s)];
    if (stream.summed > 0) stream.summed = 0;  // not of a gradient, which threads write to
    return stream.block(shape_, h);
  }
  /// The value of the first token that is held, of head h; a token is C/H values.
  const Scalar* values(Index s, Index h) const { return keys(s, heads() + h); }
  /// The same, to write to.
  Scalar* values(Index s, Index h) {
    return streams_[static_cast<std::size_t>(s)].block(shape_, heads() + h);
  }
  /// With blocks, the sums of the keys of head h (attention/block_choice.hpp), of those blocks that fit beside the tokens
  /// that there is room for; those of the first summed(s) are there.
  Scalar* sums(Index s, Index h) {
    return streams_[static_cast<std::size_t>(s)].sums.data() + h * sums_stride(s);
  }
  /// How far apart the sums of two heads are.
  Index sums_stride(Index s) const { return streams_[static_cast<std::size_t>(s)].sums_stride(shape_); }
  /// How many blocks of stream `s` are summed.
  Index summed(Index s) const { return streams_[static_cast<std::size_t>(s)].summed; }
  /// So many are, none of which has a token that is not counted.
  void set_summed(Index s, Index blocks) { streams_[static_cast<std::size_t>(s)].summed = blocks; }
  /// How far apart the values of two heads are.
  Index head_stride(Index s) const { return streams_[static_cast<std::size_t>(s)].room * shape_.width(); }

 private:
  using Stream = detail::CachedStream<Scalar>;

  template <class S, class Self, class F>
  static void visit_blocks(Self& self, F& f) {
    for (Index s = 0; s < self.streams(); ++s) {
      const auto size = static_cast<std::size_t>(self.held(s) * self.shape_.width());
      for (Index h = 0; h < self.heads(); ++h) f(s, CachePart::kKeys, h, std::span<S>(self.keys(s, h), size));
      for (Index h = 0; h < self.heads(); ++h)
        f(s, CachePart::kValues, h, std::span<S>(self.values(s, h), size));
    }
  }

  Stream& at(const char* who, Index s) { return const_cast<Stream&>(std::as_const(*this).at(who, s)); }
  const Stream& at(const char* who, Index s) const;

  detail::CacheShape shape_;
  Index limit_ = 0, rotary_ = 0;
  std::vector<Stream> streams_;
};

template <ComputeScalar Scalar>
AttentionState<Scalar>::AttentionState(Index channels, Index heads, const StateOptions& options,
                                       const AttentionOptions& of)
    : shape_{channels, heads, of.window, of.window > 0 ? options.spare : 0, of.block},
      limit_(of.window > 0 ? 0 : options.capacity),
      rotary_(of.rotary) {
  constexpr const char* kWho = "AttentionState";
  detail::check_at_least(kWho, "channels", channels, 1);
  detail::check_heads(kWho, heads, channels);
  of.check(kWho, heads, channels);
  detail::check_at_least(kWho, "streams", options.streams, 0);
  constexpr Index kMostStreams = (std::numeric_limits<Index>::max)() / static_cast<Index>(sizeof(Stream));
  if (options.streams > kMostStreams)
    detail::fail(kWho, "streams", "at most " + std::to_string(kMostStreams), std::to_string(options.streams));
  detail::check_at_least(kWho, "capacity", options.capacity, 0);
  detail::check_at_least(kWho, "spare", options.spare, 0);
  if (shape_.spare > detail::kWholeWindow)
    detail::fail(kWho, "spare", "at most " + std::to_string(detail::kWholeWindow),
                 std::to_string(shape_.spare));
  streams_.resize(static_cast<std::size_t>(options.streams));
  for (Stream& stream : streams_) stream.grow(shape_, limit_);
}

template <ComputeScalar Scalar>
std::size_t AttentionState<Scalar>::bytes() const {
  std::size_t sum = 0;
  for (const Stream& stream : streams_) sum += (stream.values.size() + stream.sums.size()) * sizeof(Scalar);
  return sum;
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::rewind(Index s, Index tokens) {
  Stream& stream = at("AttentionState::rewind", s);
  if (!stream.can_rewind(shape_, tokens)) {
    if (!stream.whole) detail::fail_rewind_of_part("AttentionState::rewind", s);
    const bool gone = tokens >= 0 && tokens <= stream.count;  // what was seen, and is no longer held
    detail::raise<std::out_of_range>("AttentionState::rewind: stream " + std::to_string(s) + " holds " +
                                     detail::counted(stream.count, "token") + ", cannot take back " +
                                     std::to_string(tokens) +
                                     (gone ? ": with a window of " + std::to_string(window()) + " and " +
                                                 detail::counted(spare(), "spare token") +
                                                 " it no longer holds what the next token would see"
                                           : ""));
  }
  stream.rewind(shape_, tokens);
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::take_back(Index s, Index count) {
  Stream& stream = at("AttentionState::take_back", s);
  const Index more = stream.count - count;
  if (more <= 0) return;
  if (stream.can_rewind(shape_, more)) return stream.rewind(shape_, more);
  stream.restart(count);
  stream.whole = false;
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::copy_stream(Index from, Index to) {
  at("AttentionState::copy_stream", from);
  at("AttentionState::copy_stream", to);
  if (from != to) copy_stream(*this, from, to);
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::resize(Index s, Index count) {
  Stream& stream = at("AttentionState::resize", s);
  if (count < 0 || (limit_ > 0 && count > limit_)) {
    detail::raise<std::out_of_range>("AttentionState::resize: the tokens of a stream must be " +
                                     (limit_ > 0 ? "0 to " + std::to_string(limit_) : "at least 0") +
                                     ", got " + std::to_string(count));
  }
  stream.hold(shape_, window() > 0 ? std::max<Index>(0, count - shape_.most()) : 0, count);
}

template <ComputeScalar Scalar>
auto AttentionState<Scalar>::at(const char* who, Index s) const -> const Stream& {
  if (s < 0 || s >= streams()) {
    detail::raise<std::out_of_range>(std::string(who) + ": stream must be 0 to " +
                                     std::to_string(streams() - 1) + ", got " + std::to_string(s));
  }
  return streams_[static_cast<std::size_t>(s)];
}

}  // namespace hsm::inline HSM_ABI
