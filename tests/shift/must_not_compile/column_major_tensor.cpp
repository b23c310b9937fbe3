// SPDX-License-Identifier: MIT
// expect: hsm: a tensor argument must be Tensor<Scalar, 3, RowMajor>, [batch, time, channels]
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>
#include <unsupported/Eigen/CXX11/Tensor>

int main() {
  Eigen::Tensor<float, 3> x(2, 6, 4), y(2, 6, 4);
  hsm::Mixer(hsm::ScalarPair<float>(4), 1).forward(x, y);
}
