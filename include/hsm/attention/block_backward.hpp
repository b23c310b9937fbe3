// SPDX-License-Identifier: MIT
//
// The adjoint of block_forward.hpp for all queries of one segment and head, by the formulas of tile_backward.hpp. The
// choice is made again, from the same queries and keys and so with the same result; it has no gradient. Blocks are the
// outer loop: the queries that see a block are gathered, a tile of them at a time, and what they give to its keys is
// added up before the next block. Cost 10 width flop and one exp per pair that is seen; scratch O(width) for each key of
// a block and O(top) for each query that is gathered from.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include <hsm/attention/block_choice.hpp>
#include <hsm/attention/block_forward.hpp>
#include <hsm/attention/tile_backward.hpp>
#include <hsm/attention/tile_forward.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Scratch of attend_blocks_backward(): for `keys` tokens of documents at most and `queries` of a segment.
template <class Scalar>
struct BlockBackwardScratch {
  BlockScratch<Scalar> choice;
  BackwardScratch<Scalar> tile;
  Scalar *d_keys, *d_values;  // [key of a block][padded]
  Scalar* sums;               // of all blocks

  BlockBackwardScratch(Index width, Index block, Index top, Index queries, Index keys,
                       Workspace::Frame& frame)
      : choice(width, top, (std::min)(queries, block_queries(top)), keys / block, frame),
        tile(width, kBackwardTile, frame.take<Scalar>(BackwardScratch<Scalar>::size(width, kBackwardTile))),
        d_keys(frame.take<Scalar>((std::min)(block, keys) * tile.padded)),
        d_values(frame.take<Scalar>((std::min)(block, keys) * tile.padded)),
        sums(frame.take<Scalar>(block_sums_size<Scalar>(width, keys / block))) {}
};

/// Lays `count` queries, of which number(i) is the i-th, and their do out as load_backward() does; returns how many there
/// are with the zeros that fill the last strip. `dots` are do . out of the queries.
template <class Scalar, class Number>
Index load_gathered(Index width, Index count, const Number& number, Scalar scale, const Scalar* queries,
                    const HeadForward<Scalar>& forward, const Scalar* dots, BackwardScratch<Scalar>& s) {
  constexpr Index kStrip = kLanes<Scalar>;
  const Index room = strips<Scalar>(count) * kStrip;
  std::fill_n(s.d_query, room * width, Scalar(0));
  std::fill_n(s.queries, room * s.padded, Scalar(0));
  std::fill_n(s.d_out, room * s.padded, Scalar(0));
  std::fill_n(s.log_sum, room, Scalar(0));
  std::fill_n(s.dots, room, Scalar(0));
  for (Index first = 0; first < count; first += kStrip) {
    const Index n = (std::min)(kStrip, count - first);
    gather_strip(
        n, width, [&](Index i) { return queries + number(first + i) * width; }, bits_scale<Scalar>(width),
        s.query_strips + first * width);
    gather_strip(
        n, width, [&](Index i) { return forward.d_out + number(first + i) * forward.stride; }, Scalar(1),
        s.d_out_strips + first * width);
  }
  for (Index i = 0; i < count; ++i) {
    const Scalar* query = queries + number(i) * width;
    for (Index d = 0; d < width; ++d) s.queries[i * s.padded + d] = scale * query[d];
    std::copy_n(forward.d_out + number(i) * forward.stride, width, s.d_out + i * s.padded);
    s.log_sum[i] = forward.log_sum[number(i)];
    s.dots[i] = dots[number(i)];
  }
  return room;
}

/// The gradients of keys (or values) before a query has given anything: what comes in for tokens of the segment.
template <class Scalar>
void start_key_gradients(Index width, Index count, Index past, Scalar* own, Index stride,
                         const Scalar* document) {
  for (Index i = 0; i < count; ++i) {
    if (document) {
      std::copy_n(document + (past + i) * width, width, own + i * stride);
    } else {
      std::fill_n(own + i * stride, width, Scalar(0));
    }
  }
}

/// Adds `sums` [key][padded] to the gradients of the keys (or values) of tokens key ... key + keys - 1 of a document.
template <class Scalar>
void add_key_gradients(Index width, Index key, Index keys, Index past, const Scalar* sums, Index padded,
                       Scalar* own, Index stride, Scalar* document) {
  for (Index j = 0; j < keys; ++j) {
    const Index token = key + j;
    Scalar* to = token >= past ? own + (token - past) * stride
                 : document    ? document + token * width
                               : nullptr;
    for (Index d = 0; to && d < width; ++d) to[d] += sums[j * padded + d];
  }
}

/// attend_backward() for queries that choose `top` blocks of `block` tokens.
template <class Scalar>
void attend_blocks_backward(Index width, Index count, Index past, const HeadTokens<Scalar>& head, Index block,
                            Index top, const HeadForward<Scalar>& forward,
                            const HeadGradients<Scalar>& gradients, BlockBackwardScratch<Scalar>& scratch) {
  const Scalar scale = Scalar(1) / std::sqrt(static_cast<Scalar>(width));
  const Index stride = gradients.stride, all = earlier_blocks(block, past, count);
  BackwardScratch<Scalar>& s = scratch.tile;
  std::fill_n(scratch.sums, block_sums_size<Scalar>(width, all), Scalar(0));
  sum_blocks(width, block, 0, all, head.keys, scratch.sums);
  const HeadBlocks<Scalar> blocks{block, top, scratch.sums};
  start_key_gradients(width, count, past, gradients.keys, stride, gradients.document_keys);
  start_key_gradients(width, count, past, gradients.values, stride, gradients.document_values);

  for (Index start = 0; start < count; start += block_queries(top)) {
    const Index many = (std::min)(block_queries(top), count - start), position = past + start;
    const Scalar* queries = head.queries + start * width;
    const HeadForward<Scalar> part{forward.out + start * forward.stride,
                                   forward.d_out + start * forward.stride, forward.stride,
                                   forward.log_sum + start};
    Scalar* d_queries = gradients.queries + start * stride;
    Scalar* dots = scratch.choice.sums;
    for (Index i = 0; i < many; ++i) {
      std::fill_n(d_queries + i * stride, width, Scalar(0));
      dots[i] = dot(width, part.d_out + i * part.stride, part.out + i * part.stride);
    }
    choose_blocks(width, many, position, queries, blocks, scratch.choice.choice, scratch.choice.chosen);
    list_queries(many, position, blocks, scratch.choice);

    const Index last = earlier_blocks(block, position, many);
    for (Index b = 0; b <= last; ++b) {
      const Index first = b * block, end = (std::min)(first + block, position + many);
      const std::span<const Index> choosing =
          b < last ? scratch.choice.choosing(b) : std::span<const Index>();
      const Index own = std::clamp(first - position, Index{0}, many),
                  own_end = (std::max)(own, (std::min)(first + block - position, many));
      if (choosing.empty() && own == own_end) continue;
      const bool wanted = end > past || gradients.document_keys;
      std::fill_n(scratch.d_keys, (end - first) * s.padded, Scalar(0));
      std::fill_n(scratch.d_values, (end - first) * s.padded, Scalar(0));
      // n queries, of which number(i) is the i-th, lane 0 of all at position `query` on, against the keys before to.
      const auto add = [&](Index n, const auto& number, const auto& query, Index to) {
        const Index room = load_gathered(width, n, number, scale, queries, part, dots, s);
        for (Index key = first; key < to; key += kBackwardTile) {
          const Index place = (key - first) * s.padded;
          backward_tile(width, key, (std::min)(kBackwardTile, to - key), head, 0, room, query, s,
                        wanted ? scratch.d_keys + place : nullptr, scratch.d_values + place);
        }
        for (Index i = 0; i < n; ++i) {
          const Scalar* d_query =
              s.d_query + i / kLanes<Scalar> * kLanes<Scalar> * width + i % kLanes<Scalar>;
          for (Index d = 0; d < width; ++d)
            d_queries[number(i) * stride + d] += scale * d_query[d * kLanes<Scalar>];
        }
      };
      const auto chosen = static_cast<Index>(choosing.size());
      for (Index i = 0; i < chosen; i += kBackwardTile) {
        add((std::min)(kBackwardTile, chosen - i),
            [&](Index n) { return choosing[static_cast<std::size_t>(i + n)]; }, [&](Index) { return end; },
            end);
      }
      for (Index i = own; i < own_end; i += kBackwardTile) {
        const Index n = (std::min)(kBackwardTile, own_end - i);
        add(
            n, [&](Index j) { return i + j; }, [&](Index j) { return position + i + j; }, position + i + n);
      }
      if (!wanted) continue;
      add_key_gradients(width, first, end - first, past, scratch.d_keys, s.padded, gradients.keys, stride,
                        gradients.document_keys);
      add_key_gradients(width, first, end - first, past, scratch.d_values, s.padded, gradients.values, stride,
                        gradients.document_values);
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
