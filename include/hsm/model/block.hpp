// SPDX-License-Identifier: MIT
//
// One pre-norm residual block of a Transformer whose token mixer is any layer:
//
//   x <- x + mix(norm_1(x));   x <- x + feed_forward(norm_2(x))
//
// Its tensors are mixer_norm.*, mixer.*, feed_forward_norm.* and feed_forward.*, in this order.
#pragma once

#include <hsm/model/any_mixer.hpp>
#include <hsm/model/feed_forward.hpp>
#include <hsm/model/layer_norm.hpp>

namespace hsm::inline HSM_ABI {

/// The parameters of a block; the language model runs them, since a norm belongs to the sum before it.
template <ComputeScalar Scalar, class List = StandardLayers>
struct Block {
  /// Before the mixer.
  LayerNorm<Scalar> mixer_norm;
  /// Any layer of the list.
  AnyMixer<Scalar, List> mixer;
  /// Before the feed-forward network.
  LayerNorm<Scalar> feed_forward_norm;
  /// W_2 gelu(W_1 x + b_1) + b_2.
  FeedForward<Scalar> feed_forward;

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    LayerNorm<Scalar>::visit(named("mixer_norm", f), self.mixer_norm, more.mixer_norm...);
    std::visit(
        [&](auto& held) {
          using M = std::remove_cvref_t<decltype(held)>;
          M::visit(named("mixer", f), held, std::get<M>(more.mixer)...);
        },
        self.mixer);
    LayerNorm<Scalar>::visit(named("feed_forward_norm", f), self.feed_forward_norm,
                             more.feed_forward_norm...);
    FeedForward<Scalar>::visit(named("feed_forward", f), self.feed_forward, more.feed_forward...);
  }
};

/// What forward leaves of a block for backward, besides the residual stream.
template <ComputeScalar Scalar, class List = StandardLayers>
struct BlockSaved {
  /// Tokens as columns.
  using Matrix = OwnedColumns<Scalar>;

  Matrix before;       ///< [C, B T], the residual stream at entry
  Matrix mixer_input;  ///< [C, B T], normalised
  Matrix middle;       ///< [C, B T], the residual stream after the mixer
  /// [C, B T], normalised.
  Matrix feed_forward_input;
  /// What the mixer left.
  AnySaved<Scalar, List> mixer;
  /// What the feed-forward network left.
  FeedForwardSaved<Scalar> feed_forward;
};

}  // namespace hsm::inline HSM_ABI
