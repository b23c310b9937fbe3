// SPDX-License-Identifier: MIT
// expect: nothing
#include "policy_base.hpp"

struct Policy : PolicyBase {
  template <class Out>
  void combine(const hsm::Run<float>&, const Out&) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
               std::span<double>) const {}
  hsm::Index sum_count() const { return 1; }
  void add_sums(std::span<const double>, Policy&) const {}
  void adjoint_token(const hsm::Run<float>&, const hsm::ConstColumns<float>&, const hsm::ConstColumns<float>*,
                     const hsm::RunGradient<float>&, std::span<double>) const {}
  void channel_weights(float*, float*) const {}
  int taps() const { return 2; }
};

int main() {
  const hsm::Mixer<Policy> mixer(Policy(), 1);
  return static_cast<int>(mixer.channels() - 4);
}
