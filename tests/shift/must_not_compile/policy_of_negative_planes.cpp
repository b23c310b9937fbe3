// SPDX-License-Identifier: MIT
// expect: hsm: a mixing policy keeps 1 to 3 planes per token (x itself counts) and has 0 or 1 local planes
#include <span>

#include "policy_base.hpp"

struct Policy : PolicyBase {
  static constexpr hsm::Stages kStages{.local = -1, .shifted = 2};
  hsm::Linear<float> project;

  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
