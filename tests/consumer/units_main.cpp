// SPDX-License-Identifier: MIT
//
// Half of a program of two translation units that both include everything; the other half is units_other.cpp.
// A function that is not inline would stand in both of them, and the program would not link.
#include <hsm/hsm.hpp>
#if defined(CONSUMER_IO)
#include <hsm/io/safetensors.hpp>
#endif

double sum_of_mixed(const hsm::Mixer<hsm::ScalarPair<double>>& mixer, const Eigen::MatrixXd& x);

int main() {
  const hsm::Mixer mixer(hsm::ScalarPair<double>(2), 1);  // a = b = 1
  const Eigen::MatrixXd x = Eigen::MatrixXd::Ones(2, 4);
  Eigen::MatrixXd y(2, 4);
  mixer.forward(x, y);
#if defined(CONSUMER_IO)
  hsm::SafetensorsWriter writer;
  writer.add("y", {4, 2}, std::span<const double>(y.data(), 8));
  writer.write("consumer.safetensors");
#endif
  return y.sum() == 14.0 && sum_of_mixed(mixer, x) == 14.0 ? 0 : 1;
}
