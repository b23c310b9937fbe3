// SPDX-License-Identifier: MIT
//
// A whole policy but for its constructors, which the programs beside this give.
#pragma once

#include <hsm/model/any_mixer.hpp>

template <class ScalarType>
struct PolicyBase {
  using Scalar = ScalarType;
  static constexpr std::string_view kName = "base";
  static constexpr hsm::Stages kStages{.shifts_input = true};
  static hsm::TensorSpecs describe(hsm::Index, const hsm::OptionValues&) { return {}; }
  hsm::Index channels() const { return 4; }
  hsm::Index heads() const { return 1; }
  template <class F, class Self, class... More>
  static void visit(F&&, Self&, More&...) {}
  void combine(const hsm::Run<Scalar>&, hsm::Columns<Scalar>) const {}
  void adjoint_now(const hsm::Run<Scalar>&, hsm::ConstColumns<Scalar>, const hsm::RunGradient<Scalar>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<Scalar>&, hsm::ConstColumns<Scalar>,
                    const hsm::RunGradient<Scalar>&) const {}
};

/// Uses a list of the policy as a stack does.
template <template <class> class Policy>
int use() {
  hsm::Random random(1);
  const auto mixer =
      hsm::make_mixer<float>(hsm::PolicyList<Policy>{}, hsm::LayerRecipe{.name = "base"}, 4, 1, random);
  return static_cast<int>(mixer.index());
}
