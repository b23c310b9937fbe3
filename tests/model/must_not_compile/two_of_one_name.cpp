// SPDX-License-Identifier: MIT
// expect: hsm: the kNames of a list must differ, each letters a-z, then also digits and '-'
#include "policy_base.hpp"

template <class Scalar>
struct Policy : PolicyBase<Scalar> {
  explicit Policy(hsm::Index) {}
};
template <class Scalar>
struct Copied : PolicyBase<Scalar> {
  explicit Copied(hsm::Index) {}
};

int main() {
  hsm::with_all_options(hsm::PolicyList<Policy, Copied>{}, hsm::LayerRecipe{.name = "base"}, 4);
  return 0;
}
