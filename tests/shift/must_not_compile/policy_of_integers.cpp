// SPDX-License-Identifier: MIT
// expect: hsm: the Scalar of a mixing policy must be float or double
#include "policy_base.hpp"

struct Policy : PolicyBase {
  using Scalar = int;
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
