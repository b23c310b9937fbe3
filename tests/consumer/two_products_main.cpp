// SPDX-License-Identifier: MIT
//
// A program of two units whose products are computed by two libraries: this one by Eigen, two_products_other.cpp by
// cblas. Each keeps its own.
#include <hsm/hsm.hpp>

#include <string_view>

double sum_by_cblas();

int main() {
  hsm::Random random(1);
  hsm::MatrixPair<double> policy(2, random);
  policy.project.weight.setOnes();
  const hsm::Mixer mixer(policy, 1);
  const Eigen::MatrixXd x = Eigen::MatrixXd::Ones(2, 3);
  Eigen::MatrixXd y(2, 3);
  mixer.forward(x, y);
  if (hsm::product_library() != std::string_view("Eigen")) return 2;
  return y.sum() == 20.0 && sum_by_cblas() == 20.0 ? 0 : 1;
}
