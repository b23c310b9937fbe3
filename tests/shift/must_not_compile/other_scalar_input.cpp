// SPDX-License-Identifier: MIT
// expect: hsm: the scalar of this argument is not the scalar of the mixer
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

int main() {
  Eigen::MatrixXd x(4, 6);
  Eigen::MatrixXf y(4, 6);
  hsm::Mixer(hsm::ScalarPair<float>(4), 1).forward(x, y);
}
