// SPDX-License-Identifier: MIT
//
// The parameters of attention over a hierarchy (hierarchical_kernel_attention.hpp): those of attention, and for each level
// above the tokens how two blocks become one, and a map to its queries and keys. With E levels above the tokens
// 4 C^2 + 4 C + E (2 C^2 + 4 C) + E + 1 values. The tensors of level 0 are drawn first: of equal seeds they are attention's.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>
#include <hsm/hierarchical_attention/levels.hpp>

namespace hsm::inline HSM_ABI {

/// A level above the tokens: a, b [C] and project [2C,C] with bias [2C].
template <ComputeScalar Scalar>
struct AttentionLevel {
  Vector<Scalar> a;        ///< [C]: what the earlier of two blocks counts
  Vector<Scalar> b;        ///< [C]: what the later one counts
  Linear<Scalar> project;  ///< W [2C,C], rows first queries, then keys; bias [2C]

  /// Calls f(name, tensor, more...) for a, b, weight, bias: with its level before them names that ask for no memory.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("a", self.a, more.a...);
    f("b", self.b, more.b...);
    Linear<Scalar>::visit(f, self.project, more.project...);
  }
};

/// project [3C,C] with bias [3C], the levels, lambda [E+1], output [C,C] with bias [C].
template <ComputeScalar Scalar>
struct HierarchicalAttention {
  Linear<Scalar> project;                      ///< of the tokens: W [3C,C], rows q, k, v; bias [3C]
  std::vector<AttentionLevel<Scalar>> levels;  ///< level 1 ... E
  Vector<Scalar> lambda;                       ///< [E+1]: softmax(lambda) is what the levels count
  Linear<Scalar> output;                       ///< W_o [C,C], b_o [C]
  Index heads = 1;                             ///< H, a divisor of C

  HierarchicalAttention() = default;

  /// Weights normal with deviation 1 / sqrt(3 C), biases 0, as attention's; a and b 1/2, so that a block starts as the
  /// mean of its tokens; lambda 0: the gradient of a level's tensors has the level's weight as a factor, and so all learn
  /// from the first step. Throws std::invalid_argument unless head_count divides channels and level_count is 1 to
  /// kMostLevels.
  HierarchicalAttention(Index channels, Index head_count, Random& random, Index level_count = 3)
      : project(3 * checked(channels, head_count, level_count), channels, 3 * channels, deviation(channels),
                random),
        lambda(Vector<Scalar>::Zero(level_count)),
        output(channels, channels, channels, deviation(channels), random),
        heads(head_count) {
    for (Index e = 1; e < level_count; ++e) {
      const Vector<Scalar> half = Vector<Scalar>::Constant(channels, Scalar(0.5));
      levels.push_back(
          {half, half, Linear<Scalar>(2 * channels, channels, 2 * channels, deviation(channels), random)});
    }
  }

  /// C.
  Index channels() const { return output.out(); }
  /// E + 1: tokens counted.
  Index level_count() const { return static_cast<Index>(levels.size()) + 1; }

  /// What visit names, in its order.
  static TensorSpecs describe(Index channels, Index level_count) {
    TensorSpecs specs = Linear<Scalar>::describe("project", 3 * channels, channels, 3 * channels);
    for (Index e = 1; e < level_count; ++e) {
      specs = join({std::move(specs),
                    prefixed(level_name(e), {vector_spec("a", channels), vector_spec("b", channels)}),
                    Linear<Scalar>::describe(level_name(e), 2 * channels, channels, 2 * channels)});
    }
    return join({std::move(specs),
                 {vector_spec("lambda", level_count)},
                 Linear<Scalar>::describe("output", channels, channels, channels, true)});
  }

  /// Calls f(name, tensor, more...) for project.weight, project.bias, of each level e from 1 on level<e>.a, .b,
  /// .weight, .bias, then lambda, output.weight, output.bias. Throws std::invalid_argument where another has
  /// more levels or fewer.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    (detail::check_equal("HierarchicalAttention::visit", "the levels", more.level_count(),
                         self.level_count()),
     ...);
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
    for (std::size_t e = 0; e < self.levels.size(); ++e) {
      AttentionLevel<Scalar>::visit(named(level_name(static_cast<Index>(e) + 1), f), self.levels[e],
                                    more.levels[e]...);
    }
    f("lambda", self.lambda, more.lambda...);
    Linear<Scalar>::visit(named("output", f), self.output, more.output...);
  }

 private:
  static std::string level_name(Index e) { return "level" + std::to_string(e); }
  static Index checked(Index channels, Index heads, Index levels) {
    constexpr const char* kWho = "HierarchicalAttention";
    detail::check_at_least(kWho, "channels", channels, 1);
    detail::check_heads(kWho, heads, channels);
    detail::check_levels(kWho, levels);
    return channels;
  }
  static double deviation(Index channels) { return 1 / std::sqrt(3.0 * static_cast<double>(channels)); }
};

}  // namespace hsm::inline HSM_ABI
