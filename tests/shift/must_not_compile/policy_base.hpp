// SPDX-License-Identifier: MIT
//
// All of a pair policy but combine and the adjoint, for the cases of this folder.
#pragma once

#include <hsm/shift/mixer.hpp>

struct PolicyBase {
  using Scalar = float;
  static constexpr std::string_view kName = "case";
  static constexpr hsm::Stages kStages{.shifts_input = true};

  hsm::Index channels() const { return 4; }
  hsm::Index heads() const { return 1; }

  template <class F, class Self, class... More>
  static void visit(F&&, Self&, More&...) {}
};
