// SPDX-License-Identifier: MIT
// expect: nothing
#include "policy_base.hpp"

template <class Scalar>
struct Policy : PolicyBase<Scalar> {
  static constexpr std::array<hsm::PolicyOption, 0> kOptions{};
  explicit Policy(hsm::Index, Scalar = Scalar(0.5)) {}
};

int main() { return use<Policy>(); }
