// SPDX-License-Identifier: MIT
// expect: hsm: forward_in_place is for policies that say Stages::in_place
#include "policy_base.hpp"

struct Policy : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() {
  hsm::Workspace workspace;
  Eigen::MatrixXf x(4, 6);
  hsm::Mixer<Policy>(Policy(), 1).forward_in_place(x, workspace);
}
