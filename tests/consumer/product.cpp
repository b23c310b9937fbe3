// SPDX-License-Identifier: MIT
//
// A mixer with a matrix product, by the library that the project chose: y[t] = A x[t] + B x[t-1] with ones
// everywhere.
#include <hsm/hsm.hpp>

#include <string_view>

int main() {
  hsm::Random random(1);
  hsm::MatrixPair<double> policy(2, random);
  policy.project.weight.setOnes();
  const hsm::Mixer mixer(policy, 1);
  Eigen::MatrixXd x = Eigen::MatrixXd::Ones(2, 3), y(2, 3);
  mixer.forward(x, y);
  return y.sum() == 20.0 && hsm::product_library() == std::string_view(CONSUMER_PRODUCTS) ? 0 : 1;
}
