// SPDX-License-Identifier: MIT
// expect: hsm: the result is written to a temporary matrix and would be lost
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

int main() {
  const Eigen::MatrixXf x(4, 6);
  hsm::Mixer(hsm::ScalarPair<float>(4), 1).forward(x, Eigen::MatrixXf(4, 6));
}
