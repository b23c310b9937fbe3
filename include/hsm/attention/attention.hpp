// SPDX-License-Identifier: MIT
//
// The parameters of softmax attention: [q; k; v] = W x + b for all heads at once, and the map of the
// concatenated head outputs back to C channels. q, k and v are C rows each; in each of them head h owns the rows
// h C/H ... (h+1) C/H - 1. 4 C^2 + 4 C values. With rotary positions (attention/rotary.hpp) C/H is even; they have
// no values of their own, and neither have a window (attention/window.hpp) and blocks (attention/block_choice.hpp).
#pragma once

#include <cmath>
#include <string_view>

#include <hsm/attention/attention_options.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// project [3C, C] with bias [3C], output [C, C] with bias [C].
template <ComputeScalar Scalar>
struct Attention : AttentionOptions {
  /// W [3C,C], rows first queries, then keys, then values; b [3C].
  Linear<Scalar> project;
  /// W_o [C,C], b_o [C].
  Linear<Scalar> output;
  /// H, a divisor of C.
  Index heads = 1;

  Attention() = default;

  /// Weights normal with deviation 1 / sqrt(3 C), which is the usual 0.02 at C = 768 and grows for narrower
  /// models as it should; biases 0. Throws std::invalid_argument unless heads divides channels, and for options that do
  /// not fit (AttentionOptions::check).
  Attention(Index channels, Index head_count, Random& random, const AttentionOptions& own_options = {})
      : AttentionOptions(own_options),
        project(3 * checked(channels, head_count, own_options), channels, 3 * channels, deviation(channels),
                random),
        output(channels, channels, channels, deviation(channels), random),
        heads(head_count) {}

  /// C.
  Index channels() const { return output.out(); }
  /// Rotary positions, window and blocks.
  const AttentionOptions& options() const { return *this; }
  /// Tensors are not compared.
  bool operator==(const Attention&) const = delete;

  /// Calls f(name, tensor, more...) for project.weight, project.bias, output.weight, output.bias.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
    Linear<Scalar>::visit(named("output", f), self.output, more.output...);
  }

 private:
  static Index checked(Index channels, Index heads, const AttentionOptions& options) {
    detail::check_at_least("Attention", "channels", channels, 1);
    detail::check_heads("Attention", heads, channels);
    options.check("Attention", heads, channels);
    return channels;
  }
  static double deviation(Index channels) { return 1 / std::sqrt(3.0 * static_cast<double>(channels)); }
};

}  // namespace hsm::inline HSM_ABI
