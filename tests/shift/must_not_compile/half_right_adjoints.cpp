// SPDX-License-Identifier: MIT
//
// Members that have the name and cannot be called as the engine would: each policy is refused by its sentence.
// expect: hsm: the adjoint of a pair must be both adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz
// expect: hsm: the adjoint of a pair must be both adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz
// expect: hsm: the adjoint of a pair must be both adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz
// expect: hsm: the adjoint of a pair must be both adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz
// expect: hsm: the adjoint of a policy with any number of taps must be adjoint(const Run<Scalar>& run
// expect: hsm: the adjoint of a policy with any number of taps must be adjoint(const Run<Scalar>& run
// expect: hsm: adjoint_token must be adjoint_token(const Run<Scalar>& run, ConstColumns<Scalar> dz
// expect: hsm: adjoint_token must be adjoint_token(const Run<Scalar>& run, ConstColumns<Scalar> dz
#include "policy_base.hpp"

struct AdjointNowWithoutSums : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

struct AdjointNowAlone : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

struct AdjointPastNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) {}
};

struct AdjointNowSumsOfFloat : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<float>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

struct AdjointNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) {}
};

struct AdjointBesideAPair : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void adjoint(const hsm::Run<float>&, hsm::Columns<float>, const hsm::RunGradient<float>&) const {}
};

struct AdjointTokenByReference : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void adjoint_token(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::ConstColumns<float>&,
                     const hsm::RunGradient<float>&, std::span<double>) const {}
};

struct AdjointTokenOfTaps : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void adjoint_token(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::ConstColumns<float>*,
                     const hsm::RunGradient<float>&, std::span<double>) const {}
};

int main() {
  hsm::Mixer<AdjointNowWithoutSums>(AdjointNowWithoutSums(), 1);
  hsm::Mixer<AdjointNowAlone>(AdjointNowAlone(), 1);
  hsm::Mixer<AdjointPastNotConst>(AdjointPastNotConst(), 1);
  hsm::Mixer<AdjointNowSumsOfFloat>(AdjointNowSumsOfFloat(), 1);
  hsm::Mixer<AdjointNotConst>(AdjointNotConst(), 1);
  hsm::Mixer<AdjointBesideAPair>(AdjointBesideAPair(), 1);
  hsm::Mixer<AdjointTokenByReference>(AdjointTokenByReference(), 1);
  hsm::Mixer<AdjointTokenOfTaps>(AdjointTokenOfTaps(), 1);
}
