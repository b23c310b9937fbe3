// SPDX-License-Identifier: MIT
// expect: nothing
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

int main() {
  const hsm::Mixer mixer(hsm::ScalarPair<float>(4), 1);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 6);
  Eigen::MatrixXf y(4, 6);
  mixer.forward(x, y);
  mixer.forward(x.leftCols(3), y.rightCols(3));
}
