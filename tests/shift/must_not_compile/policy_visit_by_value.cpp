// SPDX-License-Identifier: MIT
// expect: hsm: a mixing policy needs a static visit(f, self, more...) that calls f(name, self.tensor
#include "policy_base.hpp"

struct Policy : PolicyBase {
  template <class F, class Self, class... More>
  static void visit(F, Self&, More&...) {}  // a copy: what f counts would be lost
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
