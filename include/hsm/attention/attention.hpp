// SPDX-License-Identifier: MIT
//
// The parameters of softmax attention: [q; k; v] = W x + b for all heads at once, and the map of the
// concatenated head outputs back to C channels. q, k and v are C rows each; in each of them head h owns the rows
// h C/H ... (h+1) C/H - 1. 4 C^2 + 4 C values. With rotary positions (attention/rotary.hpp) C/H is even; they have
// no values of their own, and neither have a window (attention/window.hpp) and blocks (attention/block_choice.hpp).
#pragma once

#include <cmath>
#include <string_view>

#include <hsm/attention/block_choice.hpp>
#include <hsm/attention/rotary.hpp>
#include <hsm/attention/window.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// project [3C, C] with bias [3C], output [C, C] with bias [C].
template <ComputeScalar Scalar>
struct Attention {
  /// W [3C,C], rows first queries, then keys, then values; b [3C].
  Linear<Scalar> project;
  /// W_o [C,C], b_o [C].
  Linear<Scalar> output;
  /// H, a divisor of C.
  Index heads = 1;
  /// The base of rotary positions, by which queries and keys are turned; 0 for none.
  Index rotary = 0;
  /// How many tokens each one sees, the last ones up to itself; 0 for all.
  Index window = 0;
  /// B, the tokens of a block, of which each token sees its own and `top` chosen ones before; 0 for all tokens.
  Index block = 0;
  /// How many blocks are chosen, with blocks; else 0.
  Index top = 0;

  Attention() = default;

  /// Weights normal with deviation 1 / sqrt(3 C), which is the usual 0.02 at C = 768 and grows for narrower
  /// models as it should; biases 0. Throws std::invalid_argument unless heads divides channels, and unless
  /// rotary_base is 0, for none, or a base of at least 2 (usually 10000) where channels / heads is even, and
  /// tokens_seen, the window, is 0, for all, or more, and block_tokens and blocks_chosen are both 0 or both at least 1,
  /// which they are not beside a window.
  Attention(Index channels, Index head_count, Random& random, Index rotary_base = 0, Index tokens_seen = 0,
            Index block_tokens = 0, Index blocks_chosen = 0)
      : project(3 * checked(channels, head_count, rotary_base, tokens_seen, block_tokens, blocks_chosen),
                channels, 3 * channels, deviation(channels), random),
        output(channels, channels, channels, deviation(channels), random),
        heads(head_count),
        rotary(rotary_base),
        window(tokens_seen),
        block(block_tokens),
        top(blocks_chosen) {}

  /// C.
  Index channels() const { return output.out(); }

  /// Calls f(name, tensor, more...) for project.weight, project.bias, output.weight, output.bias.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
    Linear<Scalar>::visit(named("output", f), self.output, more.output...);
  }

 private:
  static Index checked(Index channels, Index heads, Index rotary, Index window, Index block, Index top) {
    detail::check_at_least("Attention", "channels", channels, 1);
    detail::check_heads("Attention", heads, channels);
    detail::check_rotary("Attention", rotary, heads, channels);
    detail::check_window("Attention", window);
    detail::check_blocks("Attention", block, top, window);
    return channels;
  }
  static double deviation(Index channels) { return 1 / std::sqrt(3.0 * static_cast<double>(channels)); }
};

}  // namespace hsm::inline HSM_ABI
