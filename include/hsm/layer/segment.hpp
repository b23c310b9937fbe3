// SPDX-License-Identifier: MIT
//
// The one mechanism behind every execution mode. A call works on tokens that lie one after another (sequence
// after sequence where there are several), cut into segments: runs of tokens of one document, each either
// fresh (a document starts there) or continuing what a stream's state has seen.
//
//   forward   B fresh segments of T tokens           step     one continuing segment of one token per stream
//   packed    a fresh segment per document           extend   one continuing segment of any length per stream
//
// step and extend also take a list of streams: then only these get a segment, and no other stream is touched. A part of
// a sequence that is cut over processes (distributed/token_shards.hpp) has segments of both kinds: the first and the
// last may continue a stream, those between are fresh.
#pragma once

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm::inline HSM_ABI {

/// `count` tokens from token `first` of the call on; `stream` is the stream whose state they continue, or
/// kFresh.
struct Segment {
  /// No stream: a document starts.
  static constexpr Index kFresh = -1;

  /// The place of its first token in the call.
  Index first = 0;
  /// How many tokens.
  Index count = 0;
  /// The stream it continues, or kFresh.
  Index stream = kFresh;

  /// Whether a document starts here.
  bool fresh() const { return stream == kFresh; }
};

/// What a state is made for.
struct StateOptions {
  /// Independent sequences that the state holds.
  Index streams = 1;
  /// Attention without a window, hkt: the most tokens per stream, past which they refuse; 0 = grows by doubling. All
  /// others ignore it.
  Index capacity = 0;
  /// Mixers, recurrences, hkt, attention with a window: how many tokens can be taken back by rewind(); attention
  /// without a window can always.
  Index spare = 0;
};

namespace detail {

/// n segments of `length` tokens, one after another; each continues the stream of its number, or is fresh.
inline std::span<Segment> equal_segments(Workspace::Frame& frame, Index n, Index length, bool continuing) {
  const std::span<Segment> segments(frame.take<Segment>(n), static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i)
    segments[static_cast<std::size_t>(i)] = {i * length, length, continuing ? i : Segment::kFresh};
  return segments;
}

/// A segment for the tokens between two offsets each, continuing streams[i], or fresh where there is no list.
inline std::span<Segment> segments_at(Workspace::Frame& frame, std::span<const Index> offsets,
                                      std::span<const Index> streams) {
  const std::size_t n = offsets.size() - 1;
  const std::span<Segment> segments(frame.take<Segment>(static_cast<Index>(n)), n);
  for (std::size_t i = 0; i < n; ++i)
    segments[i] = {offsets[i], offsets[i + 1] - offsets[i], streams.empty() ? Segment::kFresh : streams[i]};
  return segments;
}

/// Throws std::invalid_argument unless offsets begin with 0, do not fall and end with `total`.
inline void check_offsets(const char* who, std::span<const Index> offsets, Index total) {
  if (offsets.empty() || offsets.front() != 0) {
    fail(who, "offsets", "a list that begins with 0",
         offsets.empty() ? "an empty one" : std::to_string(offsets.front()));
  }
  for (std::size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] < offsets[i - 1]) {
      fail(who, "offset " + std::to_string(i), "at least the one before, " + std::to_string(offsets[i - 1]),
           std::to_string(offsets[i]));
    }
  }
  if (offsets.back() != total)
    fail(who, "the last offset", std::to_string(total) + ", the tokens of x", std::to_string(offsets.back()));
}

/// Throws std::invalid_argument unless `streams` are `segments` different numbers from 0 to total - 1;
/// `sorted` is scratch for as many. O(n log n), O(n) where they rise.
inline void check_streams(const char* who, std::span<const Index> streams, Index segments, Index total,
                          Index* sorted) {
  const auto count = static_cast<Index>(streams.size());
  if (count != segments)
    fail(who, "the number of streams", std::to_string(segments) + ", one for each part of x",
         std::to_string(count));
  for (const Index stream : streams) {
    if (stream < 0 || stream >= total)
      fail(who, "a stream", "0 to " + std::to_string(total - 1), std::to_string(stream));
  }
  const Index* first = streams.data();
  if (!std::is_sorted(streams.begin(), streams.end())) {
    std::copy(streams.begin(), streams.end(), sorted);
    std::sort(sorted, sorted + count);
    first = sorted;
  }
  const Index* twice = std::adjacent_find(first, first + count);
  if (twice != first + count)
    fail(who, "the streams", "different ones", "stream " + std::to_string(*twice) + " twice");
}

[[noreturn]] HSM_NOINLINE inline void fail_streams(const char* who, const char* what, const Shape<3>& got,
                                                   Index streams) {
  fail(who, what, "one token for each of " + detail::counted(streams, "stream"), to_text(got));
}

// Sentences are made out of line: the checks before them are a part of every step.

[[noreturn]] HSM_NOINLINE inline void fail_whole(const char* who, Index stream) {
  fail(who, "stream " + std::to_string(stream) + " of the state", "whole",
       "one that a call which threw has left in part; reset it");
}

[[noreturn]] HSM_NOINLINE inline void fail_rewind_of_part(const char* who, Index stream) {
  raise<std::out_of_range>(std::string(who) + ": stream " + std::to_string(stream) +
                           " must be whole, got one that a call which threw has left in part; reset it");
}

[[noreturn]] HSM_NOINLINE inline void fail_room(const char* who, const Segment& segment, Index count,
                                                Index room) {
  raise<std::out_of_range>(std::string(who) + ": stream " + std::to_string(segment.stream) + " holds " +
                           detail::counted(count, "token") + " and has room for " + std::to_string(room) +
                           " more, got " + std::to_string(segment.count));
}

/// One token per stream, however the buffer is shaped: [B,1,C] and [1,B,C] become [B,1,C].
template <class Tokens>
Tokens as_streams(const char* who, const char* what, const Tokens& tokens, Index streams) {
  if (tokens.count() != streams || !(tokens.batch == 1 || tokens.time == 1))
    fail_streams(who, what, tokens.shape(), streams);
  const Index stride = tokens.batch == 1 ? tokens.token_stride : tokens.batch_stride;
  return {tokens.data, streams, 1, tokens.channels, stride, stride};
}

// A state is null where all segments are fresh. The functions here ask for it: a compiler that sees the null in a call,
// but not the segments, warns of what would never run.

/// How many tokens of its document lie before a segment.
template <class State>
Index past_of(const Segment& segment, const State* state) {
  return state && !segment.fresh() ? state->count(segment.stream) : 0;
}

/// Room in the rings of a state, where there is one, for the tokens of the segments.
template <class State>
void make_room(std::span<const Segment> segments, State* state) {
  if (!state) return;
  for (const Segment& segment : segments) {
    if (!segment.fresh()) state->make_room(state->count(segment.stream) + segment.count);
  }
}

/// The streams that segments continue have seen the tokens of these.
template <class State>
void advance(std::span<const Segment> segments, State* state) {
  if (!state) return;
  for (const Segment& segment : segments) {
    if (!segment.fresh()) state->advance(segment.stream, segment.count);
  }
}

/// Whatever ends a call: the streams of its segments that were written to, and not counted on, are not whole.
template <class State>
struct UnfinishedStreams {
  State* state;  // null where there is none
  std::span<const Segment> segments;
  bool written = state != nullptr;

  ~UnfinishedStreams() {
    if (!written) return;
    for (const Segment& segment : segments) {
      if (!segment.fresh()) state->spoil(segment.stream);
    }
  }
  /// The call went well.
  void advance() {
    written = false;
    detail::advance(segments, state);
  }
};

/// Whatever ends a backward: no stream of the gradient that it wrote to is whole, unless it went well.
template <class State>
struct UnfinishedGradient {
  explicit UnfinishedGradient(State* of) : gradient(of) {}
  UnfinishedGradient(const UnfinishedGradient&) = delete;
  UnfinishedGradient& operator=(const UnfinishedGradient&) = delete;
  ~UnfinishedGradient() {
    for (Index s = 0; gradient && s < gradient->streams(); ++s) gradient->spoil(s);
  }

  State* gradient;  // null where there is none, or the call went well
};

/// Unless kept, the streams of the segments hold as many tokens again as they did before, or are not whole; nothing
/// where there is no state.
template <class State>
struct StreamUndo {
  StreamUndo(State* of, std::span<const Segment> list, Workspace::Frame& frame)
      : state(of),
        segments(of ? list : list.first(0)),
        counts(frame.take<Index>(static_cast<Index>(segments.size()))) {
    for (std::size_t i = 0; i < segments.size(); ++i) counts[i] = past_of(segments[i], state);
  }
  StreamUndo(const StreamUndo&) = delete;
  StreamUndo& operator=(const StreamUndo&) = delete;
  ~StreamUndo() {
    for (std::size_t i = 0; !kept && i < segments.size(); ++i) {
      if (!segments[i].fresh()) state->take_back(segments[i].stream, counts[i]);
    }
  }

  State* state;
  std::span<const Segment> segments;
  Index* counts;  // at entry
  bool kept = false;
};

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
