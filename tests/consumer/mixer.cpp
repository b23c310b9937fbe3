// SPDX-License-Identifier: MIT
//
// The smallest program that uses hsm as a user would: y[t] = x[t] / 2 + x[t-4] / 4, compared with values worked
// out by hand. HSM_EXPECTED_VERSION, where given, is the version that the package or pkg-config claims.
#include <hsm/hsm.hpp>

int main() {
  hsm::ScalarPair<float> policy(3);
  policy.a.setConstant(0.5f);
  policy.b.setConstant(0.25f);
  const hsm::Mixer mixer(policy, hsm::DyadicSchedule{.layers = 8}.shift(2));

  Eigen::MatrixXf x(3, 6), y(3, 6), expected(3, 6);
  x.rowwise() = Eigen::RowVectorXf{{1, 2, 3, 4, 5, 6}};
  expected.rowwise() = Eigen::RowVectorXf{{0.5f, 1.0f, 1.5f, 2.0f, 2.75f, 3.5f}};
  mixer.forward(x, y);
#if defined(HSM_EXPECTED_VERSION)
  if (hsm::kVersion != HSM_EXPECTED_VERSION) return 2;
#endif
  return y == expected ? 0 : 1;
}
