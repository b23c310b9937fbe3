// SPDX-License-Identifier: MIT
// expect: hsm: to be made from a recipe, a policy needs a constructor (channels, random) or (channels)
#include "policy_base.hpp"

template <class Scalar>
struct Policy : PolicyBase<Scalar> {
  Policy(const char*, double, double) {}
};

int main() { return use<Policy>(); }
