// SPDX-License-Identifier: MIT
//
// Which block of which level: block j of level l is the tokens 2^l j ... 2^l (j+1) - 1 of a document, complete with the
// last of them. Level 0 is the tokens. After n tokens n / 2^l blocks of level l are complete, rounded down, so that the
// query of the token at place t is that of block (t+1) / 2^l - 1, and the key of the token at place i that of i / 2^l.
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

/// How many blocks of level l are complete after so many tokens.
constexpr Index blocks_of(Index tokens, Index l) { return tokens >> l; }

/// Where tiles of queries begin that reach `past` or behind it: the last place up to it where the queries of all levels
/// change, so that lanes 2^l by 2^l have one query of level l. -1, before all tokens, at the start of a document.
constexpr Index aligned_start(Index past, Index levels) {
  return past - (past + 1) % (Index{1} << (levels - 1));
}

/// softmax(lambda), what each level's products count.
template <class Scalar>
std::array<Scalar, kMostLevels> level_weights(const Vector<Scalar>& lambda) {
  std::array<double, kMostLevels> e{};
  double largest = lambda[0], sum = 0;
  for (Index l = 1; l < lambda.size(); ++l) largest = (std::max)(largest, static_cast<double>(lambda[l]));
  for (Index l = 0; l < lambda.size(); ++l)
    sum += e[static_cast<std::size_t>(l)] = std::exp(static_cast<double>(lambda[l]) - largest);
  std::array<Scalar, kMostLevels> weights{};
  for (std::size_t l = 0; l < weights.size(); ++l) weights[l] = static_cast<Scalar>(e[l] / sum);
  return weights;
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
