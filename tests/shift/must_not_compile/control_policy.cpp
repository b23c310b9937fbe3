// SPDX-License-Identifier: MIT
// expect: nothing
#include "policy_base.hpp"

struct Policy : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() {
  const hsm::Mixer<Policy> mixer(Policy(), 1);
  return static_cast<int>(mixer.channels() - 4);
}
