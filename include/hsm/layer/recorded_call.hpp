// SPDX-License-Identifier: MIT
//
// What the record of a call holds whatever the layer: which tokens of which documents were read, and how many lay before
// them. The record of a layer (layer/mixing_layer.hpp) derives from it and adds what its adjoint needs.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// The call that was recorded. What one is moved from is a record of nothing.
struct RecordedCall {
  /// The sizes of a record of nothing: before the first call, and while one is under way or after it threw.
  static constexpr Shape<3> kNothing{-1, -1, -1};

  Shape<3> sizes = kNothing;        ///< [B,T,C] of the call that was recorded
  std::vector<Segment> segments;    ///< the documents of the call
  std::vector<Index> past;          ///< tokens of each document before it
  Index streams = Segment::kFresh;  ///< of the state that was extended, kFresh where there was none
  Index spare = 0;                  ///< of that state

  RecordedCall() = default;
  /// The same call.
  RecordedCall(const RecordedCall&) = default;
  /// The same call.
  RecordedCall& operator=(const RecordedCall&) = default;
  /// The call of `other`, which is left a record of nothing.
  RecordedCall(RecordedCall&& other) noexcept { *this = std::move(other); }
  /// The call of `other`, which is left a record of nothing.
  RecordedCall& operator=(RecordedCall&& other) noexcept {
    if (this == &other) return *this;
    sizes = std::exchange(other.sizes, kNothing);
    segments = std::move(other.segments);
    past = std::move(other.past);
    streams = other.streams;
    spare = other.spare;
    return *this;
  }

  /// The [B,T,C] of the call that was recorded.
  Shape<3> shape() const { return sizes; }

  /// A call begins, which continues streams of `state`, null where there is none: a record of nothing until its layer
  /// sets `sizes`.
  template <class State>
  void start(std::span<const Segment> list, const State* state) {
    sizes = kNothing;
    segments.assign(list.begin(), list.end());
    past.clear();
    for (const Segment& segment : list) past.push_back(detail::past_of(segment, state));
    streams = state ? state->streams() : Segment::kFresh;
    spare = 0;
    if constexpr (requires { state->spare(); }) spare = state ? state->spare() : 0;
  }
  /// Makes room in the rings of a gradient for what the call left in the state, nothing where there is no gradient.
  template <class State>
  void make_room(State* gradient) const {
    for (std::size_t i = 0; gradient && i < segments.size(); ++i) {
      if (!segments[i].fresh()) gradient->make_room(past[i] + segments[i].count);
    }
  }
  /// Throws std::invalid_argument unless d has the streams of the state that was extended; `expected` is what it should
  /// be where none was.
  template <class State>
  void check_streams(const char* who, const char* expected, const State& d) const {
    if (streams == Segment::kFresh) detail::fail(who, "state_gradient", expected, "one");
    detail::check_equal(who, "the streams of state_gradient", d.streams(), streams);
  }
  /// The same for a RingState, which needs a slot for each token that may have a gradient: no fewer spare ones than the
  /// state.
  template <class State>
  void check_rings(const char* who, const char* expected, const State& d) const {
    check_streams(who, expected, d);
    detail::check_at_least(who, "the spare slots of state_gradient", d.spare(), spare);
  }
  /// The same for a state that holds all tokens: `allowed(tokens of d, tokens that the call left)` for each document, which
  /// a message states as `expected` and the latter; and the capacity of d must not be below it.
  template <class State, class Allowed>
  void check_tokens(const char* who, const char* expected, const State& d, const Allowed& allowed) const {
    check_streams(who, "absent unless saved is the record of an extend", d);
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const Index stream = segments[i].stream, left = past[i] + segments[i].count;
      const Index count = d.count(stream), capacity = d.capacity();
      if (!allowed(count, left)) {
        detail::fail(who, "the tokens of stream " + std::to_string(stream) + " in state_gradient",
                     expected + std::to_string(left) + ", what the call left", std::to_string(count));
      }
      if (capacity > 0 && capacity < left) {
        detail::fail(who, "the capacity of state_gradient",
                     "at least " + std::to_string(left) + ", the tokens of stream " + std::to_string(stream),
                     std::to_string(capacity));
      }
    }
  }
};

}  // namespace hsm::inline HSM_ABI
