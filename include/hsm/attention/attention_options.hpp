// SPDX-License-Identifier: MIT
//
// What attention is besides its sizes: where queries and keys are turned by their positions (attention/rotary.hpp), and
// which tokens each one sees: all before, those of a window (attention/window.hpp), or chosen blocks
// (attention/block_choice.hpp).
#pragma once

#include <limits>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {
/// What dense attention has for a window: above all positions, and sums of a few of them are still an Index.
inline constexpr Index kWholeWindow = (std::numeric_limits<Index>::max)() / 4;
}  // namespace detail

/// 0 stands for none of each.
struct AttentionOptions {
  /// The base of rotary positions, usually 10000.
  Index rotary = 0;
  /// How many tokens each one sees, the last ones up to itself; 0 for all.
  Index window = 0;
  /// The tokens of a block, of which each token sees its own and `top` chosen ones before; 0 for all tokens.
  Index block = 0;
  /// How many blocks are chosen.
  Index top = 0;

  /// Whether all are equal.
  bool operator==(const AttentionOptions&) const = default;

  /// Throws std::invalid_argument unless rotary is 0 or a base of at least 2 where the width of a head is even (at base 1
  /// all pairs would turn alike; who writes it means "yes" and not that), window is 0 or more, and block and top are both
  /// 0, or both at least 1 without a window. `heads` divides `channels`.
  void check(const char* who, Index heads, Index channels) const {
    const Index width = channels / heads;
    if (rotary != 0 && rotary < 2)
      detail::fail(who, "rotary", "0 for none or a base of at least 2", std::to_string(rotary));
    if (rotary != 0 && width % 2 != 0) {
      detail::fail(who, "the width of a head with rotary positions", "even",
                   std::to_string(width) + " (" + detail::counted(channels, "channel") + ", " +
                       detail::counted(heads, "head") + ")");
    }
    check_tokens(who, "window", "0 for all tokens", window);
    check_tokens(who, "block", "0 for none", block);
    check_tokens(who, "top", "0 for none", top);
    if ((block > 0) != (top > 0)) {
      detail::fail(who, "block and top", "both 0, for no blocks, or both at least 1",
                   "block " + std::to_string(block) + " and top " + std::to_string(top));
    }
    if (block > 0 && window > 0) {
      detail::fail(who, "one of block and window", "0",
                   "block " + std::to_string(block) + " and window " + std::to_string(window));
    }
  }

 private:
  static void check_tokens(const char* who, const char* name, const char* none, Index value) {
    if (value >= 0 && value <= detail::kWholeWindow) return;
    detail::fail(who, name,
                 std::string(none) + " or at least 1, at most " + std::to_string(detail::kWholeWindow),
                 std::to_string(value));
  }
};

}  // namespace hsm::inline HSM_ABI
