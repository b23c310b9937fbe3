// SPDX-License-Identifier: MIT
// expect: hsm: a policy with kOptions needs a static make(Index channels, const OptionValues& options, Random& random)
#include "policy_base.hpp"

template <class Scalar>
struct Policy : PolicyBase<Scalar> {
  static constexpr std::array kOptions{hsm::heads_option()};
  Policy(hsm::Index, hsm::Index) {}
};

int main() { return use<Policy>(); }
