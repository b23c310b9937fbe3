// SPDX-License-Identifier: MIT
// expect: hsm: kStages names projected planes, so the policy needs a member Linear<Scalar> project
#include "policy_base.hpp"

struct Policy : PolicyBase {
  static constexpr hsm::Stages kStages{.shifts_input = true, .local = 1};
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
