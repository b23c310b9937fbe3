// SPDX-License-Identifier: MIT
//
// A shift mixer: runs a mixing policy at a distance over sequences, causally, in every mode (layer/token_mixer.hpp),
// and besides
//
//   forward_in_place   y over x, for policies that say Stages::in_place
//
// Cost per token: the policy's products and O(K C). A step costs O(C) memory traffic besides the products.
// Cut of time or batch: see the policy's file for its bound ((a,b): same bits).
// A backward of an extend that is given no gradient of a state copies the state, where a policy has any number of taps.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include <hsm/layer/token_mixer.hpp>
#include <hsm/shift/shift_layer.hpp>

namespace hsm::inline HSM_ABI {

/// One layer of Hierarchical Shift Mixing: a policy (its parameters) and the shift of each of its heads.
template <class Policy>
class Mixer : public TokenMixer<ShiftLayer<Policy>> {
  using Base = TokenMixer<ShiftLayer<Policy>>;

 public:
  /// float or double.
  using Scalar = typename Policy::Scalar;

  /// All heads at one shift. Throws std::invalid_argument for shift < 1, and for a policy whose sizes do not fit
  /// together or one of whose tensors would never get a gradient.
  Mixer(Policy policy, Index shift) : Base(ShiftLayer<Policy>(std::move(policy), shift)) {}
  /// A shift per head. Throws as above, and for another number of shifts than heads.
  Mixer(Policy policy, std::span<const Index> head_shifts)
      : Base(ShiftLayer<Policy>(std::move(policy), head_shifts)) {}

  /// H.
  Index heads() const { return this->layer_.heads(); }
  /// K.
  Index taps() const { return this->layer_.taps(); }
  /// The shift of head h. Throws std::out_of_range for a head that is not there.
  Index shift(Index h = 0) const;

  /// x = mix(x), x [B,T,C], for mixers without products whose policy says Stages::in_place ((a,b), channel); the
  /// same bits as forward. A mandate refuses other policies. Memory: half of forward's; with long sequences a copy of
  /// at most an eighth of x.
  template <class X>
  void forward_in_place(X&& x, Workspace& workspace) const;
};

template <class Policy>
Index Mixer<Policy>::shift(Index h) const {
  for (const detail::HeadGroup& group : this->layer_.groups()) {
    if (h >= group.first_head && h < group.first_head + group.heads) return group.shift;
  }
  detail::raise<std::out_of_range>("Mixer::shift: head must be 0 to " + std::to_string(heads() - 1) +
                                   ", got " + std::to_string(h));
}

template <class Policy>
template <class X>
void Mixer<Policy>::forward_in_place(X&& x, Workspace& workspace) const {
  static_assert(
      Policy::kStages.projected() == 0 && !Policy::kStages.output,
      "hsm: forward_in_place is for mixers without products, such as (a,b) and channel; for the others give "
      "forward a y of its own");
  static_assert(Policy::kStages.in_place || Policy::kStages.projected() > 0 || Policy::kStages.output,
                "hsm: forward_in_place is for policies that say Stages::in_place: their combine gives the "
                "same where z is "
                "tap 0 itself; for the others give forward a y of its own");
  detail::check_kept<X>();
  const auto tokens = detail::view<Scalar>(x, "Mixer::forward_in_place: x");
  this->check_input("Mixer::forward_in_place", tokens);
  if (tokens.count() > 0) detail::ShiftPass<Policy>(this->layer_, workspace).forward_in_place(tokens);
}

}  // namespace hsm::inline HSM_ABI
