// SPDX-License-Identifier: MIT
// expect: hsm: a mixing policy needs its adjoint: adjoint_now(run, dz, d, sums) and adjoint_past(run, dz, d)
#include "policy_base.hpp"

struct Policy : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
