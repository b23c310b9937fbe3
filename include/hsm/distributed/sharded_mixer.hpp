// SPDX-License-Identifier: MIT
//
// One mixer over a sequence that is cut over ranks (token_shards.hpp): the mode "sharded".
//
//   hsm::TokenShards shards(ranks, x.time);                            // collective
//   hsm::sharded_forward(mixer, shards, x, y, saved, workspace);       // collective: x, y [1,N,C], the tokens of this rank
//   hsm::sharded_backward(mixer, shards, x, saved, dy, dx, gradients, workspace);
//   hsm::sum_over_ranks(ranks, gradients);                             // once a step
//
// Equal to packed of the whole sequence on one rank: forward to the bit where the mixer's modes are ((a,b), channel and the
// moving average), else within the mixer's bound for cuts of time; gradients, summed over the ranks, within that bound.
// Layers whose state is a RingState can be cut, so every shift mixer, the moving average and linear attention, and
// attention, dense or with a window. Cost: see layer_exchange.hpp and ring_attention.hpp. Errors: std::invalid_argument,
// before anything is sent, on the rank whose arguments are wrong; the others then wait, so let run_ranks end them.
// std::runtime_error where MPI fails.
#pragma once

#include <string>

#include <hsm/distributed/gradient_sum.hpp>
#include <hsm/distributed/layer_exchange.hpp>

namespace hsm::inline HSM_ABI {

/// What a sharded forward leaves for backward, where Saved is the type of a record of the mixer.
template <class Saved>
struct ShardedSaved {
  Saved record;                    ///< of the tokens of this rank but those of ends.head
  detail::EndRecords<Saved> ends;  ///< of the first and the last ones, where they were run apart

  /// The [1,N,C] of the call that was recorded.
  Shape<3> shape() const {
    const Shape<3> rest = record.shape();
    return {rest[0], rest[1] + ends.head_tokens, rest[2]};
  }
};

namespace detail {

template <class Layer, class X>
Tokens<const typename Layer::Scalar> check_shard(const char* who, const TokenMixer<Layer>& mixer,
                                                 const TokenShards& shards, const X& any_x,
                                                 const char* name) {
  static_assert(
      ShardableLayer<Layer>,
      "hsm: only attention and layers whose state is a hsm::RingState can be cut over ranks: shift mixers, "
      "the moving average, linear attention, and your own");
  const auto x = view<const typename Layer::Scalar>(any_x, (std::string(who) + ": " + name).c_str());
  mixer.layer().check(who);
  LayerExchange<Layer>::check(who, mixer.layer(), false);
  check_equal(who, name, x.shape(), Shape<3>{1, shards.tokens(), mixer.channels()});
  check_there(who, name, "memory to read from", x);
  return x;
}

template <class Layer, class X, class Y>
void sharded_forward(const TokenMixer<Layer>& mixer, const TokenShards& shards, const X& any_x, Y& any_y,
                     ShardedSaved<typename Layer::Saved>* saved, Workspace& workspace) {
  constexpr const char* kWho = "sharded_forward";
  const auto x = check_shard(kWho, mixer, shards, any_x, "x");
  const auto y = view<typename Layer::Scalar>(any_y, "sharded_forward: y");
  check_equal(kWho, "y", y.shape(), x.shape());
  check_there(kWho, "y", "memory to write to", y);
  check_apart(kWho, "x and y", x, y);
  auto state = mixer.make_state({.streams = shards.streams()});
  LayerExchange<Layer>(mixer.layer(), shards)
      .forward(x, y, {0, x.time, shards.segments()}, state, saved ? &saved->record : nullptr,
               saved ? &saved->ends : nullptr, workspace,
               [&](const CallPart& part, typename Layer::State* own, typename Layer::Saved* record) {
                 mixer.layer().run(x.slice(part.first, part.count), part.segments,
                                   y.slice(part.first, part.count), own, record, workspace);
               });
}

}  // namespace detail

/// Collective. y = mix(x): x, y [1,N,C], the N tokens of this rank, apart in memory.
template <class Layer, class X, class Y>
void sharded_forward(const TokenMixer<Layer>& mixer, const TokenShards& shards, const X& x, Y&& y,
                     Workspace& workspace) {
  detail::check_kept<Y>();
  detail::sharded_forward(mixer, shards, x, y, static_cast<ShardedSaved<typename Layer::Saved>*>(nullptr),
                          workspace);
}
/// The same, leaving in `saved` what backward needs.
template <class Layer, class X, class Y>
void sharded_forward(const TokenMixer<Layer>& mixer, const TokenShards& shards, const X& x, Y&& y,
                     ShardedSaved<typename Layer::Saved>& saved, Workspace& workspace) {
  detail::check_kept<Y>();
  detail::sharded_forward(mixer, shards, x, y, &saved, workspace);
}

/// Collective. The gradients of the call that filled `saved`, over the same shards: dx [1,N,C] is overwritten, gradients
/// are added to, on each rank what its own tokens give; see sum_over_ranks.
template <class Layer, class X, class DY, class DX>
void sharded_backward(const TokenMixer<Layer>& mixer, const TokenShards& shards, const X& any_x,
                      const ShardedSaved<typename Layer::Saved>& saved, const DY& any_dy, DX&& any_dx,
                      typename Layer::Parameters& gradients, Workspace& workspace) {
  using Scalar = typename Layer::Scalar;
  constexpr const char* kWho = "sharded_backward";
  detail::check_kept<DX>();
  const auto x = detail::check_shard(kWho, mixer, shards, any_x, "x");
  const auto dy = detail::check_shard(kWho, mixer, shards, any_dy, "dy");
  const auto dx = detail::view<Scalar>(any_dx, "sharded_backward: dx");
  detail::check_recorded(kWho, x.shape(), saved.shape());
  mixer.check_adjoint(kWho, x, dy, dx, gradients);
  detail::LayerExchange<Layer> exchange(mixer.layer(), shards);
  exchange.check_record(kWho, mixer, x, saved.record, saved.ends);
  auto d = mixer.make_state({.streams = shards.streams()});
  exchange.backward(
      x, saved.record, saved.ends, dy, dx, gradients, d, workspace,
      [&](Index first, Index count, const typename Layer::Saved& record, typename Layer::State* own) {
        mixer.backward(x.slice(first, count), record, dy.slice(first, count), dx.slice(first, count),
                       gradients, workspace, own);
      });
}

}  // namespace hsm::inline HSM_ABI
