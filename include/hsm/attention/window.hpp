// SPDX-License-Identifier: MIT
//
// Local attention: with a window of W the token t sees the tokens t-W+1 ... t of its document, itself counted, and
// no other:
//
//   out_t = sum_j w_tj v_j,   w_tj = softmax_j(q_t . k_j / sqrt(C/H)),   max(0, t-W+1) <= j <= t
//
// Cost 4 C min(T, W) flop per token where dense attention has 4 C T; a stream's state needs the keys and values of
// W-1 tokens, 2 C (W-1) values however long the text is (attention/attention_state.hpp). From W >= T on it is dense
// attention, to the bit. L layers of it see L (W-1) tokens back.
//
// Source: sliding-window attention, arXiv 2004.05150. Of its form ours are: the window lies behind the token, which it
// counts, it is one for all heads of a layer, and there is neither dilation nor a token that all others see.
//
// Here is which keys a strip of kLanes queries sees. A key that no query of the strip sees is not read, and so a tile
// of keys that lies outside all windows costs nothing; the others are computed, and hidden from the queries that do
// not see them (tile_softmax.hpp). Positions are counted from the first key that is there.
#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include <hsm/attention/attention_options.hpp>
#include <hsm/attention/tile_product.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// How many keys a query sees at most, its own counted.
inline Index keys_seen(Index window) { return window > 0 ? window : kWholeWindow; }

/// The keys of a tile that a strip of queries sees: first ... end - 1 are seen by some query of it, all_first ...
/// all_end - 1 by every one, which may be none.
struct SeenKeys {
  Index first, all_first, all_end, end;

  /// How many some query sees.
  Index count() const { return end - first; }
  /// Whether each of them is seen by every query.
  bool by_all() const { return all_first == first && all_end == end; }
};

/// Of the keys key ... key + keys - 1 those that the queries at query ... query + kLanes - 1 see, each the last
/// `window` up to its own.
template <class Scalar>
SeenKeys seen_keys(Index key, Index keys, Index query, Index window) {
  constexpr Index kStrip = kLanes<Scalar>;
  SeenKeys seen;
  seen.end = std::clamp(query + kStrip, key, key + keys);
  seen.first = std::clamp(query + 1 - window, key, seen.end);
  seen.all_first = std::clamp(query + kStrip - window, seen.first, seen.end);
  seen.all_end = std::clamp(query + 1, seen.all_first, seen.end);
  return seen;
}

}  // namespace hsm::inline HSM_ABI::detail
