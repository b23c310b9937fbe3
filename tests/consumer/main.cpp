// SPDX-License-Identifier: MIT
//
// The smallest program that uses hsm as a user would: it mixes each token with the one four places before it
// and compares with values worked out by hand.
#include <Eigen/Core>
#include <hsm/hsm.hpp>

int main() {
  constexpr hsm::DyadicSchedule schedule{.layers = 8};
  hsm::ScalarPair<float> policy(3);
  policy.a.setConstant(0.5f);
  policy.b.setConstant(0.25f);
  const hsm::Mixer mixer(policy, schedule.shift(2));

  Eigen::MatrixXf x(3, 6), y(3, 6), expected(3, 6);
  x.rowwise() = Eigen::RowVectorXf{{1, 2, 3, 4, 5, 6}};
  expected.rowwise() = Eigen::RowVectorXf{{0.5f, 1.0f, 1.5f, 2.0f, 2.75f, 3.5f}};
  mixer.forward(x, y);
  return y == expected && !hsm::kVersion.empty() ? 0 : 1;
}
