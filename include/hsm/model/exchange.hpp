// SPDX-License-Identifier: MIT
//
// What happens around the mixer of a layer, the one place of a language model where tokens meet. Where one process has
// all tokens, nothing; where it has a part of them, others have what its layers must know before the part, and need what
// they know behind it (distributed/sharded_model.hpp). An exchange has three functions:
//
//   forward(l, mixer, x, y, state, record, workspace, run)
//       layer l reads x; `run` runs its mixer, which writes y, continues `state` (null where no stream is continued) and
//       leaves `record` (null without backward). Where y.data is null, `run` goes part by part through x, with what
//       follows the mixer; run(first, count, state) then takes some of the tokens alone, in any order, and a state of theirs
//   backward(l, mixer, x, record, dy, dx, gradients, state_gradient, workspace, run)
//       `run` overwrites dx, adds to gradients, and takes state_gradient from behind the tokens to before them
//   complete(part)
//       backward adds nothing more to the gradients of this part of the model, which has a visit: the last norm, then the
//       blocks from the last to the first, the embedding, the positions. Others may have them while the rest is computed
#pragma once

#include <cstddef>

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm::inline HSM_ABI {

/// One process has all tokens.
struct NoExchange {
  /// Runs the mixer.
  template <class Mixer, class In, class Out, class Run>
  void forward(std::size_t, const Mixer&, const In&, const Out&, typename Mixer::State*,
               typename Mixer::Saved*, Workspace&, Run&& run) {
    run();
  }
  /// Runs its adjoint.
  template <class Mixer, class In, class Out, class Run>
  void backward(std::size_t, const Mixer&, const In&, const typename Mixer::Saved&, const In&, const Out&,
                typename Mixer::Parameters&, typename Mixer::State*, Workspace&, Run&& run) {
    run();
  }
  /// Nobody else wants them.
  template <class Part>
  void complete(Part&) {}
};

}  // namespace hsm::inline HSM_ABI
