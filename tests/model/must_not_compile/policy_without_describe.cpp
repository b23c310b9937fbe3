// SPDX-License-Identifier: MIT
// expect: hsm: a policy or layer of a list needs a static describe(Index channels, const OptionValues& options)
#include "policy_base.hpp"

template <class Scalar>
struct Policy : PolicyBase<Scalar> {
  explicit Policy(hsm::Index) {}
  static void describe() {}
};

int main() { return use<Policy>(); }
