// SPDX-License-Identifier: MIT
//
// The other half of units_main.cpp: mixes the same tokens in a unit of its own, or reads what the first half
// wrote.
#include <hsm/hsm.hpp>
#if defined(CONSUMER_IO)
#include <hsm/io/safetensors.hpp>
#endif

double sum_of_mixed(const hsm::Mixer<hsm::ScalarPair<double>>& mixer, const Eigen::MatrixXd& x);

double sum_of_mixed(const hsm::Mixer<hsm::ScalarPair<double>>& mixer, const Eigen::MatrixXd& x) {
  Eigen::MatrixXd y(x.rows(), x.cols());
#if defined(CONSUMER_IO)
  const auto file = hsm::SafetensorsFile::load("consumer.safetensors");
  file.read("y", {4, 2}, std::span<double>(y.data(), static_cast<std::size_t>(y.size())));
#else
  mixer.forward(x, y);
#endif
  return mixer.channels() == x.rows() ? y.sum() : 0.0;
}
