// SPDX-License-Identifier: MIT
// expect: hsm: a mixing policy must not be final
#include <span>

#include "policy_base.hpp"

struct Policy final : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
