// SPDX-License-Identifier: MIT
//
// The stages of a mixing policy and how many planes of C values each makes per token; see mixing_policy.hpp.
#pragma once

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI {

/// Which stages a policy has, and how many planes of C rows each makes per token.
struct Stages {
  bool shifts_input = false;  ///< plane 0 of every tap is x, not a product
  int local = 0;              ///< projected planes read at t only (0 or 1)
  int shifted = 0;            ///< projected planes read at every tap
  bool output = false;        ///< z goes through a product
  /// Without products: combine gives the same where tap 0 is z itself, since it writes a column only after all
  /// that read it. Where it is false, forward_in_place is refused.
  bool in_place = false;

  /// Planes that the project stage makes per token.
  constexpr int projected() const { return local + shifted; }
  /// Planes of a tap: what a state keeps of a token.
  constexpr int planes() const { return shifted + (shifts_input ? 1 : 0); }
};

}  // namespace hsm::inline HSM_ABI
