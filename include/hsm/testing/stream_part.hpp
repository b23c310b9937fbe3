// SPDX-License-Identifier: MIT
//
// The next tokens of chosen streams, each its own number of them, for a call that takes offsets and streams.
#pragma once

#include <algorithm>
#include <vector>

#include <hsm/testing/layer_trial.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Tokens firsts[i] ... of stream streams[i], offsets[i+1] - offsets[i] of them.
struct StreamPart {
  std::vector<Index> streams, firsts, offsets{0};

  void add(Index stream, Index first, Index count) {
    streams.push_back(stream);
    firsts.push_back(first);
    offsets.push_back(offsets.back() + count);
  }
  Index length(std::size_t i) const { return offsets[i + 1] - offsets[i]; }

  /// These tokens one after another, [1,N,C].
  TokenValues gather(const TokenValues& all) const {
    TokenValues tokens(1, offsets.back(), all.channels);
    for (std::size_t i = 0; i < streams.size(); ++i)
      std::copy_n(all.at(streams[i], firsts[i]), length(i) * all.channels, tokens.at(0, offsets[i]));
    return tokens;
  }
  /// Back to where they came from.
  void scatter(const TokenValues& tokens, TokenValues& all) const {
    for (std::size_t i = 0; i < streams.size(); ++i)
      std::copy_n(tokens.at(0, offsets[i]), length(i) * all.channels, all.at(streams[i], firsts[i]));
  }
};

/// Some streams in some order, each with 0 to `longest` of the tokens that it has left; `seen` is moved on.
inline StreamPart draw_part(LayerTrial& trial, std::vector<Index>& seen, Index longest) {
  StreamPart part;
  const auto n = static_cast<Index>(seen.size());
  const auto start = static_cast<Index>(trial.random.below(seen.size()));
  for (Index i = 0; i < n; ++i) {
    const Index stream = (start + n - i) % n;
    Index& first = seen[static_cast<std::size_t>(stream)];
    const auto wanted = static_cast<Index>(trial.random.below(static_cast<std::uint64_t>(longest) + 2)) - 1;
    if (wanted < 0) continue;  // not chosen
    const Index count = (std::min)(wanted, trial.tokens() - first);
    part.add(stream, first, count);
    first += count;
  }
  return part;
}

/// One token of each of some streams that have tokens left, in some order.
inline StreamPart draw_step(LayerTrial& trial, std::vector<Index>& seen) {
  StreamPart part;
  const auto n = static_cast<Index>(seen.size());
  const auto start = static_cast<Index>(trial.random.below(seen.size()));
  for (Index i = 0; i < n; ++i) {
    const Index stream = (start + n - i) % n;
    Index& first = seen[static_cast<std::size_t>(stream)];
    if (first == trial.tokens() || trial.random.below(3) == 0) continue;
    part.add(stream, first++, 1);
  }
  return part;
}

/// Whether all tokens of all streams were read.
inline bool all_read(const LayerTrial& trial, const std::vector<Index>& seen) {
  return std::all_of(seen.begin(), seen.end(), [&](Index n) { return n == trial.tokens(); });
}

}  // namespace hsm::inline HSM_ABI::detail
