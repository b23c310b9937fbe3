// SPDX-License-Identifier: MIT
// expect: nothing
#include "policy_base.hpp"

// Takes sums, and has none.
struct Policy : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
               std::span<double>) const {}
  hsm::Index taps() const { return 3; }
};

int main() {
  const hsm::Mixer<Policy> mixer(Policy(), 1);
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 3), y(4, 3);
  hsm::Workspace workspace;
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(x, y, saved, workspace);
  mixer.backward(x, saved, y, x, gradients, workspace);
  return 0;
}
