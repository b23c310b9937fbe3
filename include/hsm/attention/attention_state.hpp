// SPDX-License-Identifier: MIT
//
// The key/value cache of one attention layer: for each stream how many tokens it has seen and their keys and
// values, head by head, so that a query of a head reads one contiguous run. A value: copy it to fork a
// session. 2 C values per token and stream. With rotary positions the keys are kept as they were turned for the
// places they were seen at (attention/rotary.hpp); the place of the next token is the count.
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

  /// Throws std::invalid_argument for options that are out of range, and where `rotary`, the base that the keys
  /// are turned by, is none for these sizes.
  AttentionState(Index channels, Index heads, const StateOptions& options, Index rotary = 0);

  /// How many streams it holds.
  Index streams() const { return static_cast<Index>(streams_.size()); }
  /// C.
  Index channels() const { return channels_; }
  /// H.
  Index heads() const { return heads_; }
  /// The base of the rotary positions that its keys were turned by; 0 for none.
  Index rotary() const { return rotary_; }
  /// The most tokens per stream; 0 means no limit.
  Index capacity() const { return limit_; }

  /// Tokens that stream `s` has seen. Throws std::out_of_range for a stream that does not exist.
  Index count(Index s) const { return at("AttentionState::count", s).count; }

  /// "8 channels, 2 heads and rotary base 0", for messages.
  std::string shape_text() const {
    return detail::counted(channels_, "channel") + ", " + detail::counted(heads_, "head") +
           " and rotary base " + std::to_string(rotary_);
  }

  /// Memory held by keys and values.
  std::size_t bytes() const;

  /// Stream `s` starts a new sequence; its memory is kept.
  void reset(Index s) { at("AttentionState::reset", s).count = 0; }
  /// All streams start new sequences.
  void reset() {
    for (Stream& stream : streams_) stream.count = 0;
  }

  /// Takes the last `tokens` tokens of stream `s` back: what follows continues as if they had never been
  /// there. Throws std::out_of_range, and changes nothing, if the stream holds fewer.
  void rewind(Index s, Index tokens);

  /// Stream `to` becomes a copy of stream `from`, and goes on by itself. O(count C). Throws std::out_of_range
  /// for a stream that does not exist.
  void copy_stream(Index from, Index to);

  /// Stream `s` holds `count` tokens: its first ones, and behind them tokens whose keys and values are 0.
  /// Before visit() fills a state that is restored. Throws std::out_of_range, and changes nothing, for a
  /// negative count or one beyond the capacity, std::length_error for more than memory can hold.
  void resize(Index s, Index count);

  /// What a session saves besides the counts: calls f(s, part, h, values) for every stream s, part (keys,
  /// then values) and head h, where values is a std::span of count(s) tokens of C/H values each, without
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

  /// After a call threw: the stream holds its first `count` tokens again.
  void take_back(Index s, Index count) {
    Stream& stream = at("AttentionState::take_back", s);
    stream.count = (std::min)(stream.count, count);
  }
  /// Whether rewind(s, tokens) is possible: any of those that are there.
  bool can_rewind(Index s, Index tokens) const {
    const Index n = at("AttentionState::can_rewind", s).count;
    return tokens >= 0 && tokens <= n;
  }
  /// How many more tokens stream `s` can take. Throws std::out_of_range for a stream that does not exist.
  Index room(Index s) const {
    return (limit_ > 0 ? limit_ : (std::numeric_limits<Index>::max)()) - at("AttentionState::room", s).count;
  }
  /// Always: a call that throws leaves every stream as it was.
  bool is_whole(Index s) const { return at("AttentionState::is_whole", s).count >= 0; }

  // For CausalAttention.

  /// Makes room for `more` tokens in stream `s`; doubles the memory where it must grow.
  void reserve(Index s, Index more);
  /// Counts `more` tokens, whose keys and values were written behind the last ones.
  void advance(Index s, Index more) { at("AttentionState::advance", s).count += more; }
  /// Stream `to` becomes a copy of stream `from` of `other`, a state of as many channels and heads, and of the
  /// same rotary positions.
  void copy_stream(const AttentionState& other, Index from, Index to);

  /// Token 0 of head h; a token is C/H values.
  const Scalar* keys(Index s, Index h) const { return head(streams_[static_cast<std::size_t>(s)], h); }
  /// The same, to write to.
  Scalar* keys(Index s, Index h) { return head(streams_[static_cast<std::size_t>(s)], h); }
  /// The value of token 0 of head h; a token is C/H values.
  const Scalar* values(Index s, Index h) const { return keys(s, heads_ + h); }
  /// The same, to write to.
  Scalar* values(Index s, Index h) { return keys(s, heads_ + h); }

 private:
  static constexpr Index kSmallest = 64;

  struct Stream {
    Index count = 0;
    Index room = 0;
    std::vector<Scalar> values;  // [keys, values][head][room][C/H]
  };

  Index width() const { return channels_ / heads_; }

  template <class S>
  auto* head(S& stream, Index h) const {
    return stream.values.data() + h * stream.room * width();
  }

  template <class S, class Self, class F>
  static void visit_blocks(Self& self, F& f) {
    for (Index s = 0; s < self.streams(); ++s) {
      const auto size = static_cast<std::size_t>(self.count(s) * self.width());
      for (Index h = 0; h < self.heads_; ++h) f(s, CachePart::kKeys, h, std::span<S>(self.keys(s, h), size));
      for (Index h = 0; h < self.heads_; ++h)
        f(s, CachePart::kValues, h, std::span<S>(self.values(s, h), size));
    }
  }

  Stream& at(const char* who, Index s) { return const_cast<Stream&>(std::as_const(*this).at(who, s)); }
  const Stream& at(const char* who, Index s) const;
  void grow(Stream& stream, Index room) const;

  Index channels_ = 0, heads_ = 1, limit_ = 0, rotary_ = 0;
  std::vector<Stream> streams_;
};

template <ComputeScalar Scalar>
AttentionState<Scalar>::AttentionState(Index channels, Index heads, const StateOptions& options, Index rotary)
    : channels_(channels), heads_(heads), limit_(options.capacity), rotary_(rotary) {
  detail::check_heads("AttentionState", heads, channels);
  detail::check_rotary("AttentionState", rotary, heads, channels);
  detail::check_at_least("AttentionState", "streams", options.streams, 0);
  detail::check_at_least("AttentionState", "capacity", options.capacity, 0);
  streams_.resize(static_cast<std::size_t>(options.streams));
  for (Stream& stream : streams_) grow(stream, limit_);
}

template <ComputeScalar Scalar>
std::size_t AttentionState<Scalar>::bytes() const {
  std::size_t sum = 0;
  for (const Stream& stream : streams_) sum += stream.values.size() * sizeof(Scalar);
  return sum;
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::rewind(Index s, Index tokens) {
  Stream& stream = at("AttentionState::rewind", s);
  if (tokens < 0 || tokens > stream.count) {
    detail::raise<std::out_of_range>("AttentionState::rewind: stream " + std::to_string(s) + " holds " +
                                     detail::counted(stream.count, "token") + ", cannot take back " +
                                     std::to_string(tokens));
  }
  stream.count -= tokens;
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::copy_stream(Index from, Index to) {
  at("AttentionState::copy_stream", from);
  at("AttentionState::copy_stream", to);
  if (from != to) copy_stream(*this, from, to);
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::copy_stream(const AttentionState& other, Index from, Index to) {
  const Stream& source = other.at("AttentionState::copy_stream", from);
  Stream& target = at("AttentionState::copy_stream", to);
  if (source.count > target.room) grow(target, (std::max)(source.count, 2 * target.room));
  target.count = source.count;
  for (Index h = 0; source.count > 0 && h < 2 * heads_; ++h)
    std::copy_n(other.head(source, h), source.count * width(), head(target, h));
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::resize(Index s, Index count) {
  Stream& stream = at("AttentionState::resize", s);
  if (count < 0 || (limit_ > 0 && count > limit_)) {
    detail::raise<std::out_of_range>("AttentionState::resize: the tokens of a stream must be " +
                                     (limit_ > 0 ? "0 to " + std::to_string(limit_) : "at least 0") +
                                     ", got " + std::to_string(count));
  }
  if (count > stream.room) grow(stream, (std::max)(count, 2 * stream.room));
  const Index more = (count - stream.count) * width();
  for (Index h = 0; more > 0 && h < 2 * heads_; ++h)
    std::fill_n(head(stream, h) + stream.count * width(), more, Scalar(0));
  stream.count = count;
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::reserve(Index s, Index more) {
  Stream& stream = at("AttentionState::reserve", s);
  if (stream.count + more <= stream.room) return;
  grow(stream, (std::max)({stream.count + more, 2 * stream.room, kSmallest}));
}

template <ComputeScalar Scalar>
auto AttentionState<Scalar>::at(const char* who, Index s) const -> const Stream& {
  if (s < 0 || s >= streams()) {
    detail::raise<std::out_of_range>(std::string(who) + ": stream must be 0 to " +
                                     std::to_string(streams() - 1) + ", got " + std::to_string(s));
  }
  return streams_[static_cast<std::size_t>(s)];
}

template <ComputeScalar Scalar>
void AttentionState<Scalar>::grow(Stream& stream, Index room) const {
  if (room > (std::numeric_limits<Index>::max)() / (2 * channels_)) {
    detail::raise<std::length_error>("AttentionState: " + detail::counted(room, "token") + " of " +
                                     detail::counted(channels_, "channel") +
                                     " are more than memory can hold");
  }
  Stream grown;
  grown.count = stream.count;
  grown.room = room;
  grown.values.resize(static_cast<std::size_t>(2 * channels_ * room));
  for (Index h = 0; stream.count > 0 && h < 2 * heads_; ++h)
    std::copy_n(head(stream, h), stream.count * width(), head(grown, h));
  stream = std::move(grown);
}

}  // namespace hsm::inline HSM_ABI
