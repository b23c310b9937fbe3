// SPDX-License-Identifier: MIT
//
// The parameters of linear attention: those of softmax attention (attention/attention.hpp), [q; k; v] = W x + b for all
// heads at once, head h the rows h C/H ... (h+1) C/H - 1 of each, and the map of the concatenated head outputs back to
// C channels. 4 C^2 + 4 C values. Whether heads forget (`decay`) adds none: head h then keeps the share 1 - 2^(-5-h)
// from token to token.
#pragma once

#include <cmath>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {
/// Throws std::invalid_argument unless decay is 0 or 1.
inline void check_decay(const char* who, Index decay) {
  if (decay != 0 && decay != 1) fail(who, "decay", "0, or 1 for heads that forget", std::to_string(decay));
}
}  // namespace detail

/// project [3C, C] with bias [3C], output [C, C] with bias [C].
template <ComputeScalar Scalar>
struct LinearAttention {
  /// W [3C,C], rows first queries, then keys, then values; b [3C].
  Linear<Scalar> project;
  /// W_o [C,C], b_o [C].
  Linear<Scalar> output;
  /// H, a divisor of C.
  Index heads = 1;
  /// 1 where heads forget, else 0.
  Index decay = 0;

  LinearAttention() = default;

  /// Weights normal with deviation 1 / sqrt(3 C), as those of attention; biases 0. Throws std::invalid_argument unless
  /// channels is at least 1, head_count divides it, and forgets is 0 or 1.
  LinearAttention(Index channels, Index head_count, Random& random, Index forgets = 0)
      : project(3 * checked(channels, head_count, forgets), channels, 3 * channels, deviation(channels),
                random),
        output(channels, channels, channels, deviation(channels), random),
        heads(head_count),
        decay(forgets) {}

  /// C.
  Index channels() const { return output.out(); }
  /// What head h keeps of its state from one token to the next: 1, or with decay 1 - 2^(-5-h), rounded to Scalar.
  Scalar kept_share(Index h) const {
    return decay == 0 ? Scalar(1) : static_cast<Scalar>(1 - std::exp2(-5.0 - static_cast<double>(h)));
  }

  /// Calls f(name, tensor, more...) for project.weight, project.bias, output.weight, output.bias.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
    Linear<Scalar>::visit(named("output", f), self.output, more.output...);
  }

 private:
  static Index checked(Index channels, Index heads, Index decay) {
    detail::check_at_least("LinearAttention", "channels", channels, 1);
    detail::check_heads("LinearAttention", heads, channels);
    detail::check_decay("LinearAttention", decay);
    return channels;
  }
  static double deviation(Index channels) { return 1 / std::sqrt(3.0 * static_cast<double>(channels)); }
};

}  // namespace hsm::inline HSM_ABI
