// SPDX-License-Identifier: MIT
// expect: hsm: forward_in_place is for mixers without products
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/gated.hpp>

int main() {
  hsm::Random random(1);
  hsm::Workspace workspace;
  Eigen::MatrixXf x(4, 6);
  hsm::Mixer(hsm::Gated<float>(4, random), 1).forward_in_place(x, workspace);
}
