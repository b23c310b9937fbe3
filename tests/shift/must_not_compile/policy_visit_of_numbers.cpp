// SPDX-License-Identifier: MIT
// expect: hsm: visit must call f with Eigen matrices and vectors, such as hsm::Vector<Scalar>
#include <span>

#include "policy_base.hpp"

struct Policy : PolicyBase {
  float b = 1;

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("b", self.b, more.b...);
  }
  void combine(const hsm::Run<float>&, hsm::Columns<float>) const {}
  void adjoint_now(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&,
                   std::span<double>) const {}
  void adjoint_past(const hsm::Run<float>&, hsm::ConstColumns<float>, const hsm::RunGradient<float>&) const {}
};

int main() { (void)hsm::Mixer<Policy>(Policy(), 1).make_gradients(); }
