// SPDX-License-Identifier: MIT
//
// Which block of which level: block j of level e is the tokens 2^e j ... 2^e (j+1) - 1 of a document, complete with the
// last of them. Level 0 is the tokens. After n tokens n / 2^e blocks of level e are complete, rounded down, so that the
// query of the token at place t is that of block (t+1) / 2^e - 1, and the key of the token at place i that of i / 2^e.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The most levels, tokens counted: blocks of up to 32 tokens, of which whole ones fill every tile.
inline constexpr Index kMostLevels = 6;

namespace detail {

/// Throws unless there can be so many levels.
inline void check_levels(const char* who, Index levels) {
  if (levels < 1 || levels > kMostLevels)
    fail(who, "levels", "1 to " + std::to_string(kMostLevels), std::to_string(levels));
}

/// How many blocks of level e are complete after so many tokens.
constexpr Index blocks_of(Index tokens, Index e) { return tokens >> e; }

/// Where tiles of queries begin that reach `past` or behind it: the last place up to it where the queries of all levels
/// change, so that lanes 2^e by 2^e have one query of level e. -1, before all tokens, at the start of a document.
constexpr Index aligned_start(Index past, Index levels) {
  return past - (past + 1) % (Index{1} << (levels - 1));
}

/// softmax(lambda), what each level's products count.
template <class Scalar>
std::array<Scalar, kMostLevels> level_weights(const Vector<Scalar>& lambda) {
  std::array<double, kMostLevels> terms{};
  double largest = lambda[0], sum = 0;
  for (Index e = 1; e < lambda.size(); ++e) largest = (std::max)(largest, static_cast<double>(lambda[e]));
  for (Index e = 0; e < lambda.size(); ++e)
    sum += terms[static_cast<std::size_t>(e)] = std::exp(static_cast<double>(lambda[e]) - largest);
  std::array<Scalar, kMostLevels> weights{};
  for (std::size_t e = 0; e < weights.size(); ++e) weights[e] = static_cast<Scalar>(terms[e] / sum);
  return weights;
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
