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
// While the state that arrives is under way a rank runs the tokens that do not read it: all but the first (K-1) s of the
// document that goes on, where they are at least as many. Where its own left early, it waits for the gradient of that one
// when the gradient that goes to the left is under way.
//
// Messages: one each way, layer and cut that a document crosses; see state_message.hpp for its bytes. Cost besides: the
// projections of the tokens that leave early, forth and back, and forth of the first (K-1) s.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <vector>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/distributed/ring_attention.hpp>
#include <hsm/distributed/state_message.hpp>
#include <hsm/distributed/token_shards.hpp>
#include <hsm/layer/token_mixer.hpp>
#include <hsm/model/exchange.hpp>

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

/// What the ends of a rank leave for backward, where they were run apart from the rest.
template <class Saved>
struct EndRecords {
  Saved head;             ///< of the tokens that waited for the state that arrived
  Index head_tokens = 0;  ///< how many they are; 0 where all were run at once
  Saved tail;             ///< of those whose state left early
};

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

  /// How many tokens are run apart, because they read the state that arrives: 0 where all are run at once.
  Index waiting() const {
    if constexpr (HasStateReach<Layer>) {
      if (!shards_.receives() || shards_.segments().empty()) return 0;
      const Index head = (std::min)(shards_.segments().front().count, layer_.state_reach());
      if (head > 0 && shards_.tokens() - head >= head) return head;
    }
    return 0;
  }

  /// run(part, state, record) runs the layer over parts of `call`, and brings `state`, which has the streams of the segments,
  /// past all tokens. `record` and `ends` are left for backward; both are null where none will follow.
  template <class Run>
  void forward(const In& x, const Out&, const CallPart& call, State& state, Saved* record,
               EndRecords<Saved>* ends, Workspace& workspace, Run&& run) {
    Communicator& ranks = shards_.ranks();
    StateMessage<Scalar> in, out;
    const Index arriving = shards_.arriving(), count = shards_.leaving(), last = early(), head = waiting();
    if (shards_.receives()) in.receive(ranks, ranks.rank() - 1, state, 0, arriving);
    if (last > 0) {
      State leaving = layer_.make_state({});
      run_behind(x.slice(x.time - last, last), count - last, leaving, ends ? &ends->tail : nullptr,
                 workspace);
      out.send(ranks, ranks.rank() + 1, leaving, 0, count);
    }
    if (ends) ends->head_tokens = head;
    if (head > 0) {
      std::vector<Segment> rest(call.segments.begin(), call.segments.end());
      for (Segment& segment : rest) segment.first -= head;
      rest.front() = {0, rest.front().count - head, 0};
      if (rest.front().count == 0) {
        rest.erase(rest.begin());
      } else {
        run_behind(x.slice(0, head), arriving, state, nullptr, workspace);
      }
      run(CallPart{head, call.count - head, rest}, &state, record);
      State arrived = layer_.make_state({.streams = shards_.streams()});
      in.put_state(arrived, 0, arriving);
      const Segment first{0, head, 0};
      run(CallPart{0, head, std::span(&first, 1)}, &arrived, ends ? &ends->head : nullptr);
      return out.wait();  // with as many tokens behind, what leaves has left early
    }
    if (shards_.receives()) in.put_state(state, 0, arriving);
    run(call, &state, record);
    if (shards_.sends() && last == 0)
      out.send(ranks, ranks.rank() + 1, state, shards_.leaving_stream(), count);
    out.wait();
  }

  /// Throws std::invalid_argument unless they are the records of such a call over the same shards.
  void check_record(const char* who, const TokenMixer<Layer>& mixer, const In& x, const Saved& record,
                    const EndRecords<Saved>& ends) const {
    const Index head = waiting(), tail = early();
    if (ends.head_tokens != head || (tail > 0 && ends.tail.shape() != Shape<3>{1, tail, x.channels}))
      fail(who, "saved", "the record of a call over these shards", "another's");
    mixer.check_record(who, x.slice(head, x.time - head), record, nullptr);
    if (head > 0) mixer.check_record(who, x.slice(0, head), ends.head, nullptr);
  }

  /// run(first, count, record, d) takes `d`, the gradient 0 of such a state as it comes in, back past the tokens of a
  /// record, overwrites their dx and adds to gradients.
  template <class Run>
  void backward(const In& x, const Saved& record, const EndRecords<Saved>& ends, const In&, const Out& dx,
                Parameters& gradients, State& d, Workspace& workspace, Run&& run) {
    Communicator& ranks = shards_.ranks();
    StateMessage<Scalar> in, out;
    const Index count = shards_.leaving(), last = early(), head = ends.head_tokens;
    if (shards_.sends()) in.receive(ranks, ranks.rank() + 1, d, shards_.leaving_stream(), count);
    if (shards_.sends() && last == 0) in.put_values(d, shards_.leaving_stream(), count);
    run(head, x.time - head, record, &d);
    if (head > 0) run(Index{0}, head, ends.head, &d);
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
      layer_.run_adjoint(x.slice(x.time - last, last), ends.tail, In(zeros, 1, last, C), to, gradients,
                         &d_leaving, workspace);
      for (Index t = 0; t < last; ++t) {
        Scalar* own = dx.at(0, x.time - last + t);
        add(C, to.at(0, t), own, own);
      }
    }
    out.wait();
  }

 private:
  /// Stream 0 of a fresh state becomes that behind `part`, tokens of a document behind `before` others: as many as it
  /// reaches, or all.
  void run_behind(const In& part, Index before, State& state, Saved* record, Workspace& workspace) const {
    state.advance(0, before);
    state.make_room(before + part.time);
    const Segment segment{0, part.time, 0};
    layer_.run(part, std::span(&segment, 1), Out{}, &state, record, workspace);
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
  void forward(const In& x, const Out& y, const CallPart&, State&, Saved* record, EndRecords<Saved>*,
               Workspace& workspace, Run&&) {
    Saved own;
    RingAttention<Scalar>(layer_, shards_, workspace).forward(x, y, record ? *record : own);
  }
  /// Throws std::invalid_argument unless it is the record of a call of this layer.
  void check_record(const char* who, const TokenMixer<Layer>& mixer, const In& x, const Saved& record,
                    const EndRecords<Saved>&) const {
    mixer.check_record(who, x, record, nullptr);
  }
  template <class Run>
  void backward(const In& x, const Saved& record, const EndRecords<Saved>&, const In& dy, const Out& dx,
                typename Layer::Parameters& gradients, State&, Workspace& workspace, Run&&) {
    RingAttention<Scalar>(layer_, shards_, workspace).backward(x, record, dy, dx, gradients);
  }

 private:
  const Layer& layer_;
  const TokenShards& shards_;
};

}  // namespace hsm::inline HSM_ABI::detail
