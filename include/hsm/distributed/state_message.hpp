// SPDX-License-Identifier: MIT
//
// What a stream of a layer remembers, and the gradient of it, as a message between neighbours: of each ring the slots that
// tokens have reached, as files hold them (io/state_file.hpp), one ring after another. Both ends know how many tokens
// the stream has seen, so nothing else travels.
//
//   bytes = sum over rings of min(count, reach) * rows * sizeof(Scalar);   a shift mixer: reach = (K-1) s
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <hsm/distributed/communicator.hpp>
#include <hsm/layer/ring_state.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// One message, to or from a neighbour.
template <class Scalar>
class StateMessage {
  using State = RingState<Scalar>;

 public:
  /// Begins to receive what stream `stream` of `state` has after `count` tokens.
  void receive(Communicator& ranks, int from, State& state, Index stream, Index count) {
    values_.resize(static_cast<std::size_t>(size(state, stream, count)));
    ranks.receive(std::span(values_), from, pending_);
  }
  /// Begins to send it.
  void send(Communicator& ranks, int to, State& state, Index stream, Index count) {
    values_.clear();
    values_.reserve(static_cast<std::size_t>(size(state, stream, count)));
    for_each_ring(state, stream, count,
                  [&](std::span<Scalar> own) { values_.insert(values_.end(), own.begin(), own.end()); });
    ranks.send(std::span<const Scalar>(values_), to, pending_);
  }
  /// Until it has arrived, or left.
  void wait() { pending_.wait(); }

  /// Waits, and makes the stream one that has seen `count` tokens and holds what was received.
  void put_state(State& state, Index stream, Index count) {
    put_values(state, stream, count);
    State::visit(
        [&](const std::string&, auto values, const std::vector<Index>&) {
          if constexpr (std::same_as<typename decltype(values)::value_type, Index>)
            values[static_cast<std::size_t>(stream)] = count;
        },
        state);
  }
  /// Waits, and puts what was received where the gradient of a state that has seen `count` tokens has it.
  void put_values(State& state, Index stream, Index count) {
    wait();
    auto next = values_.cbegin();
    for_each_ring(state, stream, count, [&](std::span<Scalar> own) {
      std::copy_n(next, own.size(), own.begin());
      next += static_cast<std::ptrdiff_t>(own.size());
    });
  }

 private:
  /// f(values) for what tokens have reached of each ring.
  template <class F>
  static void for_each_ring(State& state, Index stream, Index count, F&& f) {
    state.make_room(count);
    State::visit(
        [&](const std::string&, auto values, const std::vector<Index>& shape) {
          if constexpr (std::same_as<typename decltype(values)::value_type, Scalar>) {
            const Index size = filled_slots(shape[1], std::span(&count, 1)) * shape[2];
            f(values.subspan(static_cast<std::size_t>(stream * shape[1] * shape[2]),
                             static_cast<std::size_t>(size)));
          }
        },
        state);
  }
  static Index size(State& state, Index stream, Index count) {
    std::size_t sum = 0;
    for_each_ring(state, stream, count, [&](std::span<Scalar> own) { sum += own.size(); });
    return static_cast<Index>(sum);
  }

  std::vector<Scalar> values_;
  Communicator::Pending pending_;  // destroyed first: it waits for what reads or writes the values
};

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
