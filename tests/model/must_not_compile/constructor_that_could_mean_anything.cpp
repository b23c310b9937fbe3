// SPDX-License-Identifier: MIT
// expect: hsm: this policy's constructor takes more than channels and a Random, and a recipe cannot know what it means
#include "policy_base.hpp"

template <class Scalar>
struct Policy : PolicyBase<Scalar> {
  explicit Policy(hsm::Index, Scalar = Scalar(0.5)) {}
};

int main() { return use<Policy>(); }
