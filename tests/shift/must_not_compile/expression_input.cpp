// SPDX-License-Identifier: MIT
// expect: hsm: this argument cannot be viewed as tokens without a copy
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

int main() {
  Eigen::MatrixXf x(4, 6), y(4, 6);
  hsm::Mixer(hsm::ScalarPair<float>(4), 1).forward(x + x, y);
}
