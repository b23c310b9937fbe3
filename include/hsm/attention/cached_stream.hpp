// SPDX-License-Identifier: MIT
//
// The memory of one stream of a key/value cache: how many tokens it has seen, and the keys and values of those that it
// holds. Without a window these are all of them. With a window of W they are the last W-1, which the next token sees,
// and `spare` more, so that as many can be taken back.
//
// Where they lie: the tiles of attention read the keys of a head as one run, so the tokens that are held lie one after
// another, in a buffer of up to twice as many columns. New tokens go behind the others; where the buffer ends, what is
// held moves to its front. On average that moves one column for each token, where attention reads W. A ring would move
// none and split every run in two, which the kernels, and dense attention's bits, would have to follow. A call that
// brings more tokens than are held does not go through the buffer (segment_passes.hpp): it leaves its last ones. So the
// memory is at most 4 C (W-1 + spare) values however long texts and calls are.
//
// Which tokens are held follows from the calls alone: after the highest count h ever reached those from
// h - (W-1) - spare on. So up to `spare` tokens below h can always be taken back, by one call or several, also with
// other tokens read in between, and all of them at any time.
//
// With blocks (block_choice.hpp) all tokens are held, and beside them the sums of the keys of the first blocks, as far as
// a call needed them: what is not there is summed when it is needed, so whoever changes keys only says that sums are
// gone.
#pragma once

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include <hsm/attention/block_choice.hpp>
#include <hsm/attention/window.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// What the streams of a cache have in common.
struct CacheShape {
  Index channels = 0;
  Index heads = 1;
  Index window = 0;  // 0 for all tokens
  Index spare = 0;   // with a window
  Index block = 0;   // tokens of a block, 0 for none

  Index width() const { return channels / heads; }
  /// How many tokens before it the next token sees.
  Index reach() const { return keys_seen(window) - 1; }
  /// How many tokens a stream holds at most; without a window no stream comes to it.
  Index most() const { return reach() + spare; }
};

/// One stream. A block is the keys, or the values, of one head: keys of all heads first.
template <class Scalar>
struct CachedStream {
  static constexpr Index kSmallest = 64;

  Index count = 0;             // tokens seen
  Index first = 0;             // the first of them that is held, with all behind it
  Index place = 0;             // its column
  Index room = 0;              // columns
  bool whole = true;           // whether all is held that the next token sees
  std::vector<Scalar> values;  // [block][room][C/H]
  Index summed = 0;            // blocks whose keys are summed, with blocks
  std::vector<Scalar> sums;    // of each head, for as many blocks as fit into `room`

  Index held() const { return count - first; }
  /// The first token that is held, of a block.
  Scalar* block(const CacheShape& shape, Index b) {
    return values.data() + (b * room + place) * shape.width();
  }
  const Scalar* block(const CacheShape& shape, Index b) const {
    return values.data() + (b * room + place) * shape.width();
  }

  /// A fresh stream, but that it has seen `tokens` tokens, of which it holds none.
  void restart(Index tokens) {
    count = first = tokens;
    place = 0;
    whole = true;
    summed = 0;
  }
  /// Values of the sums of one head.
  Index sums_stride(const CacheShape& shape) const {
    return shape.block > 0 ? block_sums_size<Scalar>(shape.width(), room / shape.block) : 0;
  }
  /// Whether the last k tokens can be taken back.
  bool can_rewind(const CacheShape& shape, Index k) const {
    const Index n = count - k;
    return k >= 0 && n >= 0 && (n == 0 || (whole && first <= std::max<Index>(0, n - shape.reach())));
  }
  /// Takes them back.
  void rewind(const CacheShape& shape, Index k) {
    count -= k;
    if (count == 0) return restart(0);
    if (shape.block > 0) summed = (std::min)(summed, count / shape.block);
  }

  /// So many columns, those that are held in front.
  void grow(const CacheShape& shape, Index columns);
  /// Makes room for `more` tokens: append and advance, or take, then ask for no memory.
  void reserve(const CacheShape& shape, Index more);
  /// Holds the tokens from `from` on of `tokens` that were seen; 0 is what it did not hold before.
  void hold(const CacheShape& shape, Index from, Index tokens);
  /// Writes `more` tokens behind the others, without counting them; source(b) is the first of them in block b.
  template <class Source>
  void append(const CacheShape& shape, Index more, Source&& source) {
    reserve(shape, more);
    const Index D = shape.width(), past = held() * D;
    for (Index b = 0; b < 2 * shape.heads; ++b) std::copy_n(source(b), more * D, block(shape, b) + past);
  }
  /// Counts tokens that were appended.
  void advance(const CacheShape& shape, Index more) {
    count += more;
    const Index gone = held() - shape.most();
    if (shape.window > 0 && gone > 0) first += gone, place += gone;
  }
  /// append and advance, for any number of tokens.
  template <class Source>
  void take(const CacheShape& shape, Index more, Source&& source) {
    if (more < shape.most()) {
      append(shape, more, source);
      return advance(shape, more);
    }
    reserve(shape, more);
    restart(count + more);
    first -= shape.most();
    const Index D = shape.width(), gone = (more - shape.most()) * D;
    for (Index b = 0; b < 2 * shape.heads; ++b)
      std::copy_n(source(b) + gone, shape.most() * D, block(shape, b));
  }
  /// Becomes a copy of a stream of a cache of the same channels and heads.
  void copy(const CacheShape& shape, const CachedStream& other) {
    const Index needed = other.held();
    if (needed > room) grow(shape, (std::max)(needed, (std::min)(2 * room, 2 * shape.most())));
    restart(other.first);
    count = other.count;
    whole = other.whole;
    for (Index b = 0; needed > 0 && b < 2 * shape.heads; ++b)
      std::copy_n(other.block(shape, b), needed * shape.width(), block(shape, b));
  }
};

template <class Scalar>
void CachedStream<Scalar>::grow(const CacheShape& shape, Index columns) {
  if (columns > (std::numeric_limits<Index>::max)() / (2 * shape.channels)) {
    raise<std::length_error>("AttentionState: " + counted(columns, "token") + " of " +
                             counted(shape.channels, "channel") + " are more than memory can hold");
  }
  CachedStream grown;
  grown.count = count;
  grown.first = first;
  grown.whole = whole;
  grown.room = columns;
  grown.values.resize(static_cast<std::size_t>(2 * shape.channels * columns));
  for (Index b = 0; held() > 0 && b < 2 * shape.heads; ++b)
    std::copy_n(block(shape, b), held() * shape.width(), grown.block(shape, b));
  grown.summed = summed;
  const Index before = sums_stride(shape), after = grown.sums_stride(shape);
  grown.sums.resize(static_cast<std::size_t>(shape.heads * after));
  for (Index h = 0; summed > 0 && h < shape.heads; ++h)
    std::copy_n(sums.data() + h * before, before, grown.sums.data() + h * after);
  *this = std::move(grown);
}

template <class Scalar>
void CachedStream<Scalar>::reserve(const CacheShape& shape, Index more) {
  const Index all = held() + more, most = shape.most();
  if (shape.window == 0) {
    if (all > room) grow(shape, (std::max)({all, 2 * room, kSmallest}));
  } else if (more > most) {
    if (most > room) grow(shape, (std::max)(most, held()));
  } else if (place + all > room) {
    if (room < 2 * most || all > room)
      return grow(shape, (std::max)(all, (std::min)(2 * most, (std::max)(2 * room, kSmallest))));
    for (Index b = 0; b < 2 * shape.heads; ++b) {
      const Scalar* from = block(shape, b);
      std::copy(from, from + held() * shape.width(), values.data() + b * room * shape.width());
    }
    place = 0;
  }
}

template <class Scalar>
void CachedStream<Scalar>::hold(const CacheShape& shape, Index from, Index tokens) {
  const Index D = shape.width(), columns = tokens - from;
  if (columns > room) grow(shape, shape.window == 0 ? (std::max)(columns, 2 * room) : columns);
  const Index kept = std::clamp(first, from, tokens),
              end = std::clamp(count, kept, tokens);  // that were held
  for (Index b = 0; columns > 0 && b < 2 * shape.heads; ++b) {
    Scalar* start = values.data() + b * room * D;
    if (kept < end) {
      const Scalar* source = start + (place + kept - first) * D;
      Scalar* target = start + (kept - from) * D;
      if (target < source) {
        std::copy(source, source + (end - kept) * D, target);
      } else if (source < target) {
        std::copy_backward(source, source + (end - kept) * D, target + (end - kept) * D);
      }
    }
    std::fill(start, start + (kept - from) * D, Scalar(0));
    std::fill(start + (end - from) * D, start + columns * D, Scalar(0));
  }
  restart(from);
  count = tokens;
}

}  // namespace hsm::inline HSM_ABI::detail
