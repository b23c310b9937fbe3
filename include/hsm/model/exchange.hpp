// SPDX-License-Identifier: MIT
//
// What happens around the mixer of a layer, the one place of a language model where tokens meet. Where one process has
// all tokens, nothing; where it has a part of them, others have what its layers must know before the part, and need what
// they know behind it (distributed/sharded_model.hpp). An exchange has three functions:
//
//   forward(l, mixer, x, y, call, state, record, workspace, run)
//       layer l reads x; run(part, state, record) runs its mixer over a part of `call`, in any order: it writes y there,
//       continues that state (null where no stream is continued) and leaves that record (null without backward). Where
//       y.data is null, it goes chunk by chunk, with what follows the mixer
//   backward(l, mixer, x, record, dy, dx, gradients, state_gradient, workspace, run)
//       run(first, count, record, state_gradient) overwrites dx of the tokens of a record, adds to gradients, and takes
//       the gradient from behind the tokens to before them
//   complete(part)
//       backward adds nothing more to the gradients of this part of the model, which has a visit: the last norm, then the
//       blocks from the last to the first, the embedding, the positions. Others may have them while the rest is computed
#pragma once

#include <cstddef>
#include <span>

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// Some tokens of a call.
struct CallPart {
  Index first;                        ///< in each sequence, from this one on
  Index count;                        ///< how many
  std::span<const Segment> segments;  ///< their documents, from the first of these tokens on
};

/// One process has all tokens.
struct NoExchange {
  /// Runs the mixer.
  template <class Mixer, class In, class Out, class Run>
  void forward(std::size_t, const Mixer&, const In&, const Out&, const CallPart& call,
               typename Mixer::State* state, typename Mixer::Saved* record, Workspace&, Run&& run) {
    run(call, state, record);
  }
  /// Runs its adjoint.
  template <class Mixer, class In, class Out, class Run>
  void backward(std::size_t, const Mixer&, const In& x, const typename Mixer::Saved& record, const In&,
                const Out&, typename Mixer::Parameters&, typename Mixer::State* state_gradient, Workspace&,
                Run&& run) {
    run(Index{0}, x.time, record, state_gradient);
  }
  /// Nobody else wants them.
  template <class Part>
  void complete(Part&) {}
};

}  // namespace hsm::inline HSM_ABI
