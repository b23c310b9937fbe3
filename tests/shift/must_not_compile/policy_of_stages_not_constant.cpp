// SPDX-License-Identifier: MIT
// expect: the functions channels() and heads() const; kStages must be static constexpr
#include "policy_base.hpp"

struct Policy : PolicyBase {
  static inline const hsm::Stages kStages = [] { return hsm::Stages{.shifts_input = true}; }();
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
