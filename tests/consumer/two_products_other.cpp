// SPDX-License-Identifier: MIT
//
// The unit of two_products_main.cpp whose products cblas computes; -1 if it got the other's.
#define HSM_USE_BLAS
#include <hsm/hsm.hpp>

#include <string_view>

double sum_by_cblas();

double sum_by_cblas() {
  hsm::Random random(1);
  hsm::MatrixPair<double> policy(2, random);
  policy.project.weight.setOnes();
  const hsm::Mixer mixer(policy, 1);
  const Eigen::MatrixXd x = Eigen::MatrixXd::Ones(2, 3);
  Eigen::MatrixXd y(2, 3);
  mixer.forward(x, y);
  return hsm::product_library() == std::string_view("cblas") ? y.sum() : -1.0;
}
