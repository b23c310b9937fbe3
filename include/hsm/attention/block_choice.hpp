// SPDX-License-Identifier: MIT
//
// Block-sparse attention: the tokens of a document are cut into blocks of `block` by their places, token t in block
// t / block rounded down. A token sees its own block up to itself, and all of the `top` earlier blocks that suit its query
// best, all earlier ones where there are no more than `top`:
//
//   out_t = sum_j w_tj v_j,   w_tj = softmax_j(q_t . k_j / sqrt(C/H)),   j <= t in block t / block, or in a chosen one
//   chosen are the `top` blocks b < t / block with the largest  q_t . (1 / block) sum_{j in b} k_j,  of equals the earlier
//
// for each head and query, by keys as they are seen, turned where positions are rotary. The choice has no gradient.
// Where a product is NaN it counts as -infinity. Cost 4 C (top + 1) block flop per token at most, and 2 C T / block of
// choosing; up to (top + 1) block tokens it is dense attention, to the bit. The state is that of dense attention, with
// C / block values more per token: the sums of the keys of each block, so that a step reads T / block of them and not T keys.
//
// Source: MoBA, arXiv 2502.13189, whose "top-k" counts the own block, ours does not.
//
// Here is how blocks are chosen. The sum of a block orders as its mean does, so none is divided. Sums are added up in
// the order of their tokens, and each product is one chain of multiply_add, in every mode: equal queries and keys give
// equal choices, however many tokens a call brings.
#pragma once

#include <algorithm>
#include <string>

#include <hsm/attention/tile_product.hpp>
#include <hsm/attention/tile_softmax.hpp>
#include <hsm/attention/window.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// How many of `count` queries from `position` on, of which the first is the earliest, have no more than `top` blocks
/// before their own, and so see all keys; all where there are no blocks.
inline Index dense_queries(Index block, Index top, Index position, Index count) {
  if (block == 0 || top >= (position + count) / block) return count;  // (top + 1) block may be no Index
  return std::clamp((top + 1) * block - position, Index{0}, count);
}

/// How many blocks lie before that of the last of `count` queries from `position` on; 0 for no queries.
inline Index earlier_blocks(Index block, Index position, Index count) {
  return count > 0 ? (position + count - 1) / block : 0;
}

/// Values of the sums of one head of so many blocks: strips of kLanes blocks, [strip][width][lane].
template <class Scalar>
Index block_sums_size(Index width, Index blocks) {
  return strips<Scalar>(blocks) * kLanes<Scalar> * width;
}

/// Sums the keys of the blocks from ... to - 1, all of their tokens there, into their places in `sums`.
template <class Scalar>
void sum_blocks(Index width, Index block, Index from, Index to, const Scalar* keys, Scalar* sums) {
  constexpr Index kStrip = kLanes<Scalar>;
  for (Index b = from; b < to; ++b) {
    Scalar* sum = sums + b / kStrip * width * kStrip + b % kStrip;
    const Scalar* key = keys + b * block * width;
    for (Index d = 0; d < width; ++d) sum[d * kStrip] = key[d];
    for (Index j = 1; j < block; ++j) {
      key += width;
      for (Index d = 0; d < width; ++d) sum[d * kStrip] += key[d];
    }
  }
}

/// The blocks of one head: how many tokens each has, how many are chosen, and the sums of their keys.
template <class Scalar>
struct HeadBlocks {
  Index size, top;
  const Scalar* sums;
};

/// A block that could be chosen.
template <class Scalar>
struct Candidate {
  Scalar product;
  Index block;
  /// Whether it is chosen before `other`.
  bool before(const Candidate& other) const {
    return product > other.product || (product == other.product && block < other.block);
  }
};

/// Queries that choose at the same time; each sum is then read once for all of them.
inline constexpr Index kChoosingQueries = 24;

/// Scratch of choose_blocks().
template <class Scalar>
struct ChoiceScratch {
  Scalar* products;               // [kChoosingQueries][kLanes]
  Candidate<Scalar>* candidates;  // [kChoosingQueries][top]
};

/// How many blocks the query at `position` chooses.
template <class Scalar>
Index chosen_blocks(Index position, const HeadBlocks<Scalar>& blocks) {
  return (std::min)(blocks.top, position / blocks.size);
}

/// Writes which blocks, ascending, `count` queries from `position` on choose: chosen[query][top], of which those behind
/// chosen_blocks() are not written. The sums of all blocks before that of the last query are there.
template <class Scalar>
void choose_blocks(Index width, Index count, Index position, const Scalar* queries,
                   const HeadBlocks<Scalar>& blocks, const ChoiceScratch<Scalar>& scratch, Index* chosen) {
  constexpr Index kStrip = kLanes<Scalar>;
  const Index top = blocks.top;
  const auto before = [](const Candidate<Scalar>& a, const Candidate<Scalar>& b) { return a.before(b); };
  for (Index first = 0; first < count; first += kChoosingQueries) {
    const Index n = (std::min)(kChoosingQueries, count - first);
    const Index last = earlier_blocks(blocks.size, position + first, n);
    for (Index start = 0; start < last; start += kStrip) {
      strip_product<Write::kOverwrite>(n, width, Left<Order::kRows, Scalar>{queries + first * width, width},
                                       blocks.sums + start * width, kStrip, scratch.products, kStrip);
      for (Index i = 0; i < n; ++i) {
        Candidate<Scalar>* best =
            scratch.candidates + i * top;  // the worst of them in front, once all are there
        const Scalar* products = scratch.products + i * kStrip;
        const Index end = (std::min)(start + kStrip, (position + first + i) / blocks.size);
        Index b = start;
        for (; b < (std::min)(end, top); ++b) {
          const Scalar product = products[b - start];
          best[b] = {product > kLeastScore<Scalar> ? product : kLeastScore<Scalar>, b};
          if (b + 1 == top) std::make_heap(best, best + top, before);
        }
        for (; b < end; ++b) {  // an equal one before it stays
          if (!(products[b - start] > best->product)) continue;
          std::pop_heap(best, best + top, before);
          best[top - 1] = {products[b - start], b};
          std::push_heap(best, best + top, before);
        }
      }
    }
    for (Index i = 0; i < n; ++i) {
      Index* own = chosen + (first + i) * top;
      const Index many = chosen_blocks(position + first + i, blocks);
      for (Index k = 0; k < many; ++k) own[k] = scratch.candidates[i * top + k].block;
      std::sort(own, own + many);
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
