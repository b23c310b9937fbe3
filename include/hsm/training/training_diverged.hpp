// SPDX-License-Identifier: MIT
//
// How training ends where its numbers do not stay finite.
#pragma once

#include <stdexcept>
#include <string>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// Training ended because a loss, a norm or a weight was not finite. The model has the last weights that were
/// known to be good.
class TrainingDiverged : public std::runtime_error {
 public:
  /// `good_steps`: after how many steps the model had these weights.
  TrainingDiverged(const std::string& what, Index good_steps)
      : std::runtime_error(what), good_steps_(good_steps) {}

  /// The steps that led to the weights that the model has now; 0 for those it began with.
  Index good_steps() const { return good_steps_; }

 private:
  Index good_steps_;
};

}  // namespace hsm::inline HSM_ABI
