// SPDX-License-Identifier: MIT
//
// What forward leaves for backward: the segments, the projections, the combined columns where an output
// product follows, and the state at entry where there was one. The type depends on the scalar alone; one
// object serves any number of calls and keeps its memory.
//
//   (a,b): nothing per token.  gated: C.  softmax-local: 4 C values per token.
#pragma once

#include <hsm/layer/segment.hpp>
#include <hsm/shift/mixer_state.hpp>

namespace hsm::inline HSM_ABI {

template <class Policy>
class ShiftLayer;

namespace detail {
template <class Policy>
struct ShiftPass;
}  // namespace detail

/// The record of one forward call of a mixer; made by Mixer::make_saved, filled by forward, read by backward.
template <ComputeScalar Scalar>
class MixerSaved {
 public:
  MixerSaved() = default;

  /// The [B,T,C] of the call that was recorded.
  Shape<3> shape() const { return shape_; }
  /// Bytes held.
  std::size_t bytes() const {
    return static_cast<std::size_t>(projected_.size() + mixed_.size()) * sizeof(Scalar) + entry_.bytes();
  }

 private:
  template <class>
  friend class ShiftLayer;
  template <class>
  friend struct detail::ShiftPass;
  using Matrix = OwnedColumns<Scalar>;

  /// A record of nothing: before the first call, and while one is under way or after it threw.
  static constexpr Shape<3> kNothing{-1, -1, -1};

  Shape<3> shape_ = kNothing;
  std::vector<Segment> segments_;
  Matrix projected_;          // [(local + shifted) C, B T]
  Matrix mixed_;              // [C, B T]: z
  MixerState<Scalar> entry_;  // empty where all segments are fresh
};

}  // namespace hsm::inline HSM_ABI
