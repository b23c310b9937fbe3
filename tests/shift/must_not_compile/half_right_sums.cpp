// SPDX-License-Identifier: MIT
//
// Members that have the name and cannot be called as the engine would: each policy is refused by its sentence.
// expect: hsm: a mixing policy with parameters of its own needs both sum_count() const and add_sums(std::span<const double>
// expect: hsm: a mixing policy with parameters of its own needs both sum_count() const and add_sums(std::span<const double>
// expect: hsm: a mixing policy with parameters of its own needs both sum_count() const and add_sums(std::span<const double>
// expect: hsm: a mixing policy with parameters of its own needs both sum_count() const and add_sums(std::span<const double>
// expect: hsm: a mixing policy with parameters of its own needs both sum_count() const and add_sums(std::span<const double>
// expect: hsm: this policy has sum_count and add_sums, so its adjoint must take the sums that it adds to
#include "policy_base.hpp"

struct SumCountAlone : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index sum_count() const { return 1; }
};

struct AddSumsAlone : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  void add_sums(std::span<const double>, AddSumsAlone&) const {}
};

struct SumCountNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index sum_count() { return 1; }
  void add_sums(std::span<const double>, SumCountNotConst&) const {}
};

struct AddSumsNotConst : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index sum_count() const { return 1; }
  void add_sums(std::span<const double>, AddSumsNotConst&) {}
};

struct AddSumsToWrite : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index sum_count() const { return 1; }
  void add_sums(std::span<double>, AddSumsToWrite&) const {}
};

struct AdjointWithoutSums : PolicyBase {
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
  hsm::Index sum_count() const { return 1; }
  void add_sums(std::span<const double>, AdjointWithoutSums&) const {}
};

int main() {
  hsm::Mixer<SumCountAlone>(SumCountAlone(), 1);
  hsm::Mixer<AddSumsAlone>(AddSumsAlone(), 1);
  hsm::Mixer<SumCountNotConst>(SumCountNotConst(), 1);
  hsm::Mixer<AddSumsNotConst>(AddSumsNotConst(), 1);
  hsm::Mixer<AddSumsToWrite>(AddSumsToWrite(), 1);
  hsm::Mixer<AdjointWithoutSums>(AdjointWithoutSums(), 1);
}
