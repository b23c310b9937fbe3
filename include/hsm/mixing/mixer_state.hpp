// SPDX-License-Identifier: MIT
//
// What a mixer remembers between calls: per stream a token count and, per group of heads with the same shift,
// a ring of the last (K-1) s kept columns (more with spare slots). The count is mask and ring position at
// once: token number n of a stream lies in slot n mod slots, and tokens before number 0 do not exist. A state
// holds no scratch; it can be copied, saved and sent, and the gradient of a state is a state.
//
//   bytes per stream = sum over groups of slots * planes * rows * sizeof(Scalar)
#pragma once

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm {

template <class Policy>
class Mixer;

namespace detail {
template <class Policy>
struct MixerPass;

/// The kept columns of one stream and one group of heads: slot i is the column data + i * rows.
template <class S>
struct RingView {
  S* data = nullptr;
  Index rows = 0;  // planes * rows of the group
  Index slots = 0;

  S* slot(Index token) const { return data + token % slots * rows; }
};

}  // namespace detail

/// The streaming state of one mixer, for a fixed number of streams.
template <ComputeScalar Scalar>
class MixerState {
 public:
  MixerState() = default;

  /// How many streams it holds.
  Index streams() const { return static_cast<Index>(counts_.size()); }
  /// How many tokens stream `stream` has seen. Throws std::out_of_range for a stream that is not there.
  Index count(Index stream) const { return counts_[checked(stream)]; }
  /// Bytes of kept columns, all streams together.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Ring& ring : rings_) sum += static_cast<std::size_t>(ring.columns.size()) * sizeof(Scalar);
    return sum;
  }
  /// Makes stream `stream` a fresh one.
  void reset(Index stream) { counts_[checked(stream)] = 0; }
  /// Makes every stream a fresh one.
  void reset() { std::fill(counts_.begin(), counts_.end(), 0); }

 private:
  template <class>
  friend class Mixer;
  template <class>
  friend struct detail::MixerPass;

  struct Ring {
    Index rows;
    Index slots;
    Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic> columns;  // [rows, slots * streams]

    bool same_shape(const Ring& other) const {
      return rows == other.rows && slots == other.slots && columns.cols() == other.columns.cols();
    }
  };

  std::size_t checked(Index stream) const {
    if (stream < 0 || stream >= streams()) {
      throw std::out_of_range("MixerState: stream must be 0 to " + std::to_string(streams() - 1) + ", got " +
                              std::to_string(stream));
    }
    return static_cast<std::size_t>(stream);
  }

  /// Adds the ring of a group; throws std::invalid_argument where it could never be held in memory.
  void add_ring(Index rows, Index slots) {
    const Index columns = slots > std::numeric_limits<Index>::max() / std::max<Index>(1, streams())
                              ? std::numeric_limits<Index>::max()
                              : slots * streams();
    constexpr Index kMost = std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(Scalar));
    if (columns > kMost / std::max<Index>(1, rows)) {
      detail::fail("Mixer::make_state", "the state", "small enough to address",
                   std::to_string(rows) + " rows x " + std::to_string(slots) + " slots x " +
                       std::to_string(streams()) + " streams");
    }
    rings_.push_back({rows, slots, {}});
    rings_.back().columns.setZero(rows, columns);
  }

  detail::RingView<Scalar> ring(std::size_t group, Index stream) {
    Ring& ring = rings_[group];
    return {ring.columns.data() + stream * ring.slots * ring.rows, ring.rows, ring.slots};
  }
  detail::RingView<const Scalar> ring(std::size_t group, Index stream) const {
    const Ring& ring = rings_[group];
    return {ring.columns.data() + stream * ring.slots * ring.rows, ring.rows, ring.slots};
  }

  bool same_shape(const MixerState& other) const {
    return counts_.size() == other.counts_.size() &&
           std::equal(rings_.begin(), rings_.end(), other.rings_.begin(), other.rings_.end(),
                      [](const Ring& a, const Ring& b) { return a.same_shape(b); });
  }

  std::vector<Index> counts_;
  std::vector<Ring> rings_;
};

}  // namespace hsm
