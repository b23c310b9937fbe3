// SPDX-License-Identifier: MIT
//
// One layer over the part of a sequence that a rank holds. What it needs of the left is the state that arrives, what it
// gives to the right is the state that leaves; back come and go their gradients.
//
//   forth   The state of a shift mixer depends on its last (K-1) s tokens alone. Where the document has as many here, they
//           bring a state past themselves, which leaves before the rest is computed: all ranks work at once. Where it has
//           fewer, and for a recurrence, which remembers all, the state leaves behind the last token.
//   back    The adjoint is linear. Where a state left early, everything but its gradient is taken back first, which gives
//           the gradient that goes to the left; what comes from the right is then added through the tokens that the state
//           was made of. Else it is taken back together, when it has come.
//
// A rank waits for the state that arrives before it runs the layer, unless the caller can run it in parts, as a prefill can:
// tokens behind the first (K-1) s do not read that state, and go first. Where its own left early, it waits for the gradient
// of that one when the gradient that goes to the left is under way.
//
// Messages: one each way, layer and cut that a document crosses; see state_message.hpp for its bytes. Cost besides: the
// projections of the tokens that leave early, forth and back, and in parts of the first (K-1) s.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <utility>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/distributed/ring_attention.hpp>
#include <hsm/distributed/state_message.hpp>
#include <hsm/distributed/token_shards.hpp>
#include <hsm/layer/token_mixer.hpp>

namespace hsm::inline HSM_ABI::detail {

/// A layer whose state goes from rank to rank.
template <class Layer>
concept RingLayer = std::same_as<typename Layer::State, RingState<typename Layer::Scalar>>;

/// Whether a layer can be run in parts of a sequence that ranks share.
template <class Layer>
concept ShardableLayer = RingLayer<Layer> || std::same_as<Layer, AttentionLayer<typename Layer::Scalar>>;

/// A layer that states how far back its state looks.
template <class Layer>
concept HasStateReach = requires(const Layer& layer) {
  { layer.state_reach() } -> std::same_as<Index>;
};

/// What runs a layer over all tokens, run(), and over some of them with a state of their own, run(first, count, state).
template <class Run, class State>
concept RunsParts = std::invocable<Run&, Index, Index, State&>;

/// One layer, for one call: a layer that cannot be cut, which the list of a model may have, but not the model.
template <class Layer>
class LayerExchange {
 public:
  LayerExchange(const Layer&, const TokenShards&) {}

  /// Throws std::invalid_argument for a layer that cannot be cut; `stateful`: whether its state is wanted afterwards.
  static void check(const char* who, const Layer& layer, bool) {
    fail(who, "a layer", "one that can be cut over ranks", std::string(layer.description()));
  }

  template <class... Arguments>
  void forward(Arguments&&...) {}
  template <class... Arguments>
  void backward(Arguments&&...) {}
};

/// A layer whose state goes from rank to rank.
template <RingLayer Layer>
class LayerExchange<Layer> {
  using Scalar = typename Layer::Scalar;
  using Parameters = typename Layer::Parameters;
  using State = typename Layer::State;
  using Saved = typename Layer::Saved;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

 public:
  LayerExchange(const Layer& layer, const TokenShards& shards) : layer_(layer), shards_(shards) {}

  static void check(const char*, const Layer&, bool) {}

  /// How many of the last tokens the state that leaves is made of before the others are run; 0 where it is not.
  Index early() const {
    if constexpr (HasStateReach<Layer>) {
      const Index own = shards_.leaving_tokens(), reach = layer_.state_reach();
      if (shards_.sends() && own > 0 && (shards_.born() || own >= reach)) return (std::min)(own, reach);
    }
    return 0;
  }

  /// run() brings `state`, which has the streams of the segments, past all tokens; `tail` takes the record of those that
  /// left early, where backward will follow.
  template <class Run>
  void forward(const In& x, const Out&, State& state, Saved*, Saved* tail, Workspace& workspace, Run&& run) {
    Communicator& ranks = shards_.ranks();
    StateMessage<Scalar> in, out;
    const Index count = shards_.leaving(), last = early();
    if (shards_.receives()) in.receive(ranks, ranks.rank() - 1, state, 0, shards_.arriving());
    if (last > 0) {
      State leaving = state_behind(x.slice(x.time - last, last), count, tail, workspace);
      out.send(ranks, ranks.rank() + 1, leaving, 0, count);
    }
    if constexpr (HasStateReach<Layer> && RunsParts<Run, State>) {
      const Index reach = layer_.state_reach(), arriving = shards_.arriving();
      if (shards_.receives() && shards_.streams() == 1 && x.time > reach) {
        State behind = state_behind(x.slice(0, reach), arriving + reach, nullptr, workspace);
        run(reach, x.time - reach, behind);
        in.put_state(state, 0, arriving);
        run(Index{0}, reach, state);
        state = std::move(behind);
        return out.wait();
      }
    }
    if (shards_.receives()) in.put_state(state, 0, shards_.arriving());
    run();
    if (shards_.sends() && last == 0)
      out.send(ranks, ranks.rank() + 1, state, shards_.leaving_stream(), count);
    out.wait();
  }

  /// run() takes `d`, the gradient 0 of such a state as it comes in, back past all tokens, overwrites dx and adds to
  /// gradients.
  template <class Run>
  void backward(const In& x, const Saved&, const Saved& tail, const In&, const Out& dx, Parameters& gradients,
                State& d, Workspace& workspace, Run&& run) {
    Communicator& ranks = shards_.ranks();
    StateMessage<Scalar> in, out;
    const Index count = shards_.leaving(), last = early();
    if (shards_.sends()) in.receive(ranks, ranks.rank() + 1, d, shards_.leaving_stream(), count);
    if (shards_.sends() && last == 0) in.put_values(d, shards_.leaving_stream(), count);
    run();
    if (shards_.receives()) out.send(ranks, ranks.rank() - 1, d, 0, shards_.arriving());
    if (last > 0) {
      Workspace::Frame frame(workspace);
      const Index C = x.channels;
      Scalar* zeros = frame.template take<Scalar>(last * C);
      Scalar* d_tail = frame.template take<Scalar>(last * C);
      std::fill(zeros, zeros + last * C, Scalar(0));
      State d_leaving = layer_.make_state({});
      in.put_values(d_leaving, 0, count);
      const Out to(d_tail, 1, last, C);
      layer_.run_adjoint(x.slice(x.time - last, last), tail, In(zeros, 1, last, C), to, gradients, &d_leaving,
                         workspace);
      for (Index t = 0; t < last; ++t) {
        Scalar* own = dx.at(0, x.time - last + t);
        add(C, to.at(0, t), own, own);
      }
    }
    out.wait();
  }

 private:
  /// The state behind `part`, the last tokens of `count` of their document: as many as it reaches, or all.
  State state_behind(const In& part, Index count, Saved* record, Workspace& workspace) const {
    State state = layer_.make_state({});
    state.advance(0, count - part.time);
    state.make_room(count);
    const Segment segment{0, part.time, 0};
    layer_.run(part, std::span(&segment, 1), Out{}, &state, record, workspace);
    return state;
  }

  const Layer& layer_;
  const TokenShards& shards_;
};

/// Attention, whose state would be all tokens: see ring_attention.hpp.
template <class Scalar>
class LayerExchange<AttentionLayer<Scalar>> {
  using Layer = AttentionLayer<Scalar>;
  using State = typename Layer::State;
  using Saved = typename Layer::Saved;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

 public:
  LayerExchange(const Layer& layer, const TokenShards& shards) : layer_(layer), shards_(shards) {}

  static void check(const char* who, const Layer& layer, bool stateful) {
    if (layer.block() > 0 || stateful) {
      fail(who, "a layer",
           stateful ? "one whose state fits on one rank, such as a shift mixer, ema or linear-attention"
                    : "one that can be cut over ranks",
           layer.description());
    }
  }

  template <class Run>
  void forward(const In& x, const Out& y, State&, Saved* saved, Saved*, Workspace& workspace, Run&&) {
    Saved own;
    RingAttention<Scalar>(layer_, shards_, workspace).forward(x, y, saved ? *saved : own);
  }
  template <class Run>
  void backward(const In& x, const Saved& saved, const Saved&, const In& dy, const Out& dx,
                typename Layer::Parameters& gradients, State&, Workspace& workspace, Run&&) {
    RingAttention<Scalar>(layer_, shards_, workspace).backward(x, saved, dy, dx, gradients);
  }

 private:
  const Layer& layer_;
  const TokenShards& shards_;
};

}  // namespace hsm::inline HSM_ABI::detail
