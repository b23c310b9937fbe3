// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <string>
#include <vector>

namespace hsm::parameters_test {
namespace {

/// A struct of two linear maps, one without a bias, and a vector.
struct Model {
  Linear<float> first, second;
  Vector<float> gain;

  explicit Model(Random& random) : first(3, 2, 3, 1, random), second(2, 3, 0, 1, random) {
    gain = Vector<float>::Constant(4, 2);
  }

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<float>::visit(named("first", f), self.first, more.first...);
    Linear<float>::visit(named("second", f), self.second, more.second...);
    f("gain", self.gain, more.gain...);
  }
};

std::vector<std::string> names_of(const Model& model) {
  std::vector<std::string> names;
  Model::visit([&](std::string_view name, const auto&) { names.emplace_back(name); }, model);
  return names;
}

TEST(Parameters, AreNamedInAFixedOrder) {
  Random random(1);
  EXPECT_EQ(names_of(Model(random)),
            (std::vector<std::string>{"first.weight", "first.bias", "second.weight", "gain"}));
}

TEST(Parameters, AreCounted) {
  Random random(1);
  EXPECT_EQ(count_parameters(Model(random)), 6 + 3 + 6 + 4);
}

TEST(Parameters, AreSetToZeroAndCopiedAsZeros) {
  Random random(1);
  Model model(random);
  const Model zeros = zeros_like(model);
  EXPECT_EQ(count_parameters(zeros), 19);
  EXPECT_TRUE((zeros.first.weight.array() == 0).all() && (zeros.gain.array() == 0).all());
  EXPECT_EQ(model.gain[3], 2);
  set_zero(model);
  EXPECT_TRUE((model.second.weight.array() == 0).all() && (model.gain.array() == 0).all());
}

TEST(Parameters, OfSeveralStructsAreWalkedInStep) {
  Random random(1);
  Model model(random);
  const Model other(random);
  Model third = zeros_like(model);
  Model::visit([](std::string_view, auto& to, const auto& a, const auto& b) { to = 2 * a + b; }, third, model,
               other);
  EXPECT_EQ(third.first.weight(2, 1), 2 * model.first.weight(2, 1) + other.first.weight(2, 1));
  EXPECT_EQ(third.gain[0], 6);
}

}  // namespace
}  // namespace hsm::parameters_test
