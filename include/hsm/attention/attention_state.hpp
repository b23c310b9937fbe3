// SPDX-License-Identifier: MIT
//
// The key/value cache of one attention layer: for each stream how many tokens it has seen and their keys and
// values, head by head, so that a query of a head reads one contiguous run. A value: copy it to fork a
// stream. 2 C values per token and stream.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/mixing/segment.hpp>

namespace hsm {

/// Keys and values of `streams` independent sequences.
template <ComputeScalar Scalar>
class AttentionState {
 public:
  AttentionState() = default;

  /// Throws std::invalid_argument for options that are out of range.
  AttentionState(Index channels, Index heads, const StateOptions& options)
      : channels_(channels), heads_(heads), limit_(options.capacity) {
    detail::check_heads("AttentionState", heads, channels);
    detail::check_at_least("AttentionState", "streams", options.streams, 0);
    detail::check_at_least("AttentionState", "capacity", options.capacity, 0);
    streams_.resize(static_cast<std::size_t>(options.streams));
    for (Stream& stream : streams_) grow(stream, limit_);
  }

  /// How many streams it holds.
  Index streams() const { return static_cast<Index>(streams_.size()); }
  /// C.
  Index channels() const { return channels_; }
  /// H.
  Index heads() const { return heads_; }
  /// The most tokens per stream; 0 means no limit.
  Index capacity() const { return limit_; }

  /// Tokens that stream `s` has seen. Throws std::out_of_range for a stream that does not exist.
  Index count(Index s) const { return at("AttentionState::count", s).count; }

  /// Memory held by keys and values.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Stream& stream : streams_) sum += stream.values.size() * sizeof(Scalar);
    return sum;
  }

  /// Stream `s` starts a new sequence; its memory is kept.
  void reset(Index s) { at("AttentionState::reset", s).count = 0; }
  /// All streams start new sequences.
  void reset() {
    for (Stream& stream : streams_) stream.count = 0;
  }

  /// Takes the last `tokens` tokens of stream `s` back: what follows continues as if they had never been
  /// there. Throws std::out_of_range, and changes nothing, if the stream holds fewer.
  void rewind(Index s, Index tokens) {
    Stream& stream = at("AttentionState::rewind", s);
    if (tokens < 0 || tokens > stream.count) {
      throw std::out_of_range("AttentionState::rewind: stream " + std::to_string(s) + " holds " +
                              std::to_string(stream.count) + " tokens, cannot take back " +
                              std::to_string(tokens));
    }
    stream.count -= tokens;
  }

  // For CausalAttention.

  /// Throws std::out_of_range, before anything is changed, if some stream cannot take `more` tokens.
  void check_room(const char* who, Index more) const {
    for (std::size_t s = 0; s < streams_.size(); ++s) {
      const Index count = streams_[s].count;
      if (more > (limit_ > 0 ? limit_ : std::numeric_limits<Index>::max()) - count) {
        throw std::out_of_range(std::string(who) + ": stream " + std::to_string(s) + " holds " +
                                std::to_string(count) + " tokens of a capacity of " + std::to_string(limit_) +
                                ", cannot take " + std::to_string(more) + " more");
      }
    }
  }

  /// Makes room for `more` tokens in stream `s`; doubles the memory where it must grow.
  void reserve(Index s, Index more) {
    Stream& stream = at("AttentionState::reserve", s);
    if (stream.count + more <= stream.room) return;
    grow(stream, std::max({stream.count + more, 2 * stream.room, kSmallest}));
  }
  /// Adds `more` tokens, whose keys and values were written behind the last ones.
  void advance(Index s, Index more) { at("AttentionState::advance", s).count += more; }

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

  template <class S>
  auto* head(S& stream, Index h) const {
    return stream.values.data() + h * stream.room * (channels_ / heads_);
  }

  Stream& at(const char* who, Index s) { return const_cast<Stream&>(std::as_const(*this).at(who, s)); }
  const Stream& at(const char* who, Index s) const {
    if (s < 0 || s >= streams()) {
      throw std::out_of_range(std::string(who) + ": stream must be 0 to " + std::to_string(streams() - 1) +
                              ", got " + std::to_string(s));
    }
    return streams_[static_cast<std::size_t>(s)];
  }

  void grow(Stream& stream, Index room) {
    const Index width = channels_ / heads_;
    if (room > std::numeric_limits<Index>::max() / (2 * channels_)) {
      throw std::length_error("AttentionState: " + std::to_string(room) + " tokens of " +
                              std::to_string(channels_) + " channels are more than memory can hold");
    }
    Stream grown;
    grown.count = stream.count;
    grown.room = room;
    grown.values.resize(static_cast<std::size_t>(2 * channels_ * room));
    for (Index h = 0; stream.count > 0 && h < 2 * heads_; ++h) {
      std::copy_n(head(stream, h), stream.count * width, head(grown, h));
    }
    stream = std::move(grown);
  }

  Index channels_ = 0, heads_ = 1, limit_ = 0;
  std::vector<Stream> streams_;
};

}  // namespace hsm
