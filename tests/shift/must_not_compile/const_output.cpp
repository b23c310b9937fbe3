// SPDX-License-Identifier: MIT
// expect: hsm: the result is written to this argument, but it is const
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

int main() {
  const Eigen::MatrixXf x(4, 6), y(4, 6);
  hsm::Mixer(hsm::ScalarPair<float>(4), 1).forward(x, y);
}
