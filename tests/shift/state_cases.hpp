// SPDX-License-Identifier: MIT
//
// What the tests of states share: what a state holds of one stream or of all, and calls on chosen streams.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "shift/mixer_cases.hpp"

namespace hsm::test {

/// All kept columns of one stream, group after group.
template <class Scalar>
std::vector<Scalar> kept_of(const MixerState<Scalar>& state, Index stream) {
  std::vector<Scalar> kept;
  MixerState<Scalar>::visit(
      [&](const std::string&, auto values, const std::vector<Index>& shape) {
        if constexpr (std::is_same_v<std::remove_cv_t<typename decltype(values)::element_type>, Scalar>) {
          const auto size = values.size() / static_cast<std::size_t>(shape[0]);
          const auto own = values.subspan(static_cast<std::size_t>(stream) * size, size);
          kept.insert(kept.end(), own.begin(), own.end());
        }
      },
      state);
  return kept;
}

/// The order of 0 ... n-1 that `random` says.
inline std::vector<Index> shuffled(Index n, Random& random) {
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

/// A part of every chosen stream: `lengths` tokens of stream b from `position` on, taken out of x [B,T,C].
template <class Scalar>
struct Chosen {
  std::vector<Index> streams, offsets{0}, positions;

  void add(Index stream, Index position, Index length) {
    streams.push_back(stream);
    positions.push_back(position);
    offsets.push_back(offsets.back() + length);
  }
  Index count() const { return offsets.back(); }
  Index length(std::size_t i) const { return offsets[i + 1] - offsets[i]; }

  /// These tokens one after another, [1,N,C].
  Activations<Scalar> gather(const Activations<Scalar>& x) const {
    Activations<Scalar> packed(1, count(), x.channels);
    each([&](Index stream, Index t, Index n) {
      std::copy_n(x.view().at(stream, t), x.channels, packed.view().at(0, n));
    });
    return packed;
  }
  /// Back to where they came from.
  void scatter(const Activations<Scalar>& packed, Activations<Scalar>& x) const {
    each([&](Index stream, Index t, Index n) {
      std::copy_n(packed.view().at(0, n), x.channels, x.view().at(stream, t));
    });
  }

 private:
  template <class F>
  void each(F&& f) const {
    for (std::size_t i = 0; i < streams.size(); ++i) {
      for (Index j = 0; j < length(i); ++j) f(streams[i], positions[i] + j, offsets[i] + j);
    }
  }
};

/// Some of the streams in some order, each with up to `longest` of the tokens that it has left of T.
template <class Scalar>
Chosen<Scalar> draw_chosen(const MixerState<Scalar>& state, Index T, Index longest, Random& random) {
  Chosen<Scalar> chosen;
  for (const Index stream : shuffled(state.streams(), random)) {
    if (random.below(3) == 0) continue;
    const auto drawn = static_cast<Index>(random.below(static_cast<std::uint64_t>(longest) + 1));
    chosen.add(stream, state.count(stream), std::min(drawn, T - state.count(stream)));
  }
  return chosen;
}

}  // namespace hsm::test
