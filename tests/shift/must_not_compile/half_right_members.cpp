// SPDX-License-Identifier: MIT
//
// Members that have the name and cannot be called as the engine would: each policy is refused by its sentence.
// expect: hsm: a mixing policy needs combine(const Run<Scalar>& run, Columns<Scalar> z) const
// expect: hsm: a mixing policy needs combine(const Run<Scalar>& run, Columns<Scalar> z) const
// expect: hsm: channel_weights must be channel_weights(Scalar* a, Scalar* b) const, in a policy without products
// expect: hsm: channel_weights must be channel_weights(Scalar* a, Scalar* b) const, in a policy without products
// expect: hsm: taps must be a function taps() const that returns the number of taps
// expect: hsm: taps must be a function taps() const that returns the number of taps
#include "policy_base.hpp"

struct CombineByReference : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>&) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

struct CombineNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

struct ChannelWeightsNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void channel_weights(float*, float*) {}
};

struct ChannelWeightsByValue : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void channel_weights(std::span<float>, std::span<float>) const {}
};

struct TapsNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index taps() { return 3; }
};

struct TapsAsAMember : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index taps = 3;
};

int main() {
  hsm::Mixer<CombineByReference>(CombineByReference(), 1);
  hsm::Mixer<CombineNotConst>(CombineNotConst(), 1);
  hsm::Mixer<ChannelWeightsNotConst>(ChannelWeightsNotConst(), 1);
  hsm::Mixer<ChannelWeightsByValue>(ChannelWeightsByValue(), 1);
  hsm::Mixer<TapsNotConst>(TapsNotConst(), 1);
  hsm::Mixer<TapsAsAMember>(TapsAsAMember(), 1);
}
