// SPDX-License-Identifier: MIT
//
// What tests that run on several ranks share: the ranks, the cuts of a sequence, and its documents. ctest starts the tests
// of each file through mpirun with 1, 2, 3, 4 and 8 ranks.
#pragma once

#include <algorithm>
#include <vector>

#include <hsm/distributed/communicator.hpp>
#include <hsm/distributed/token_shards.hpp>

namespace hsm::test {

/// The ranks of this program, set by main.
inline Communicator* all_ranks = nullptr;

/// How many tokens each rank gets.
using Cut = std::vector<Index>;

/// Even, uneven, tiny and empty parts of T tokens, T at least 8 times the ranks.
inline std::vector<Cut> cuts_of(Index T) {
  const Index n = all_ranks->size();
  const auto size = static_cast<std::size_t>(n);
  Cut even(size), uneven(size), tiny(size, 1), front(size, 0), back(size, 0), gaps(size, 0);
  Index left = T, spread = T;
  for (Index r = 0; r < n; ++r) {
    const auto i = static_cast<std::size_t>(r);
    even[i] = left / (n - r);
    left -= even[i];
    uneven[i] = r + 1 < n ? (std::min)(spread, 1 + (r * 5 + 3) % 7) : spread;
    spread -= uneven[i];
    if (r % 2 == 1) gaps[i] = r == n - 1 ? 0 : 2;
  }
  tiny[0] = T - n + 1;
  front[0] = back[size - 1] = T;
  for (const Index own : gaps) left += own;
  gaps[0] = T - left;
  return {even,  uneven, tiny, Cut(tiny.rbegin(), tiny.rend()),
          front, back,   gaps, Cut(gaps.rbegin(), gaps.rend())};
}

/// One document; several, of which one ends on, before and after the cut behind rank 0, also where the next is empty.
inline std::vector<std::vector<Index>> documents_of(const Cut& cut, Index T) {
  const Index place = cut[0];
  std::vector<std::vector<Index>> all{{0, T}, {0, 0, 1, T / 2, T / 2, T - 1, T, T}};
  for (const Index end : {place, place - 1, place + 1})
    if (end >= 0 && end <= T) all.push_back({0, end, T});
  return all;
}

/// The first token of this rank.
inline Index first_of(const Cut& cut) {
  Index first = 0;
  for (int r = 0; r < all_ranks->rank(); ++r) first += cut[static_cast<std::size_t>(r)];
  return first;
}
inline Index own_of(const Cut& cut) { return cut[static_cast<std::size_t>(all_ranks->rank())]; }

}  // namespace hsm::test
