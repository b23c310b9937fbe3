// SPDX-License-Identifier: MIT
// expect: hsm: a mixing policy needs combine(const Run<Scalar>& run, Columns<Scalar> z) const
#include "policy_base.hpp"

struct Policy : PolicyBase {
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
