// SPDX-License-Identifier: MIT
//
// Rotary positions (arXiv 2104.09864). Of each head's query and key of the token at position p the values i and
// i + D/2 are turned together, as the complex number u_i + j u_{i + D/2}:
//
//   u_i + j u_{i + D/2}  <-  (u_i + j u_{i + D/2}) exp(j p base^(-2 i / D)),    i < D/2,  D = C/H, even
//
// A score then depends on how far apart query and key are, not on where they stand. The source pairs 2i with
// 2i + 1; halves are the same up to the order of the rows of W, and are contiguous. p counts from 0 in each
// sequence, document and stream. Values are not turned. The adjoint turns the gradients back.
//
// Angles come from the position itself, in double, without a recurrence: they are off by a few epsilon (of double)
// times themselves, 1e-9 at position 10^6. A call computes D cosines and sines per position for all heads, at most
// N rows of them: positions that several sequences share are computed once where the range of positions is no
// longer than N. Scratch N D scalars and N indices, work N D (a cosine or sine) + 8 N C flop. Errors: none; see
// AttentionOptions::check.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Tokens per task of the passes here.
inline constexpr Index kRotaryBlock = 32;

/// The cosines and sines of the tokens of a call.
template <class Scalar>
struct RotaryTable {
  Index half;              // D/2
  const Scalar* values;    // row by row D/2 cosines, then D/2 sines
  const Index* positions;  // of the tokens [N]
  Index first;             // where a row is that of a position: that of row 0; -1 where it is that of a token

  const Scalar* row(Index token) const {
    return values + 2 * half * (first >= 0 ? positions[token] - first : token);
  }
};

/// The row of one position.
template <class Scalar>
void fill_rotary_row(Index half, Index position, const double* frequencies, Scalar* row) {
  for (Index i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * frequencies[i];
    row[i] = static_cast<Scalar>(std::cos(angle));
    row[half + i] = static_cast<Scalar>(std::sin(angle));
  }
}

/// The table of N > 0 tokens, all of them in `segments`; past(i) tokens of its document are before segment i. It
/// lives as long as `frame`.
template <class Scalar, class Past>
RotaryTable<Scalar> make_rotary_table(Index base, Index width, Index N, std::span<const Segment> segments,
                                      Past&& past, Workspace::Frame& frame, Executor& executor) {
  const Index half = width / 2;
  Index* positions = frame.take<Index>(N);
  Index least = -1, most = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (segment.count == 0) continue;
    const Index start = past(i);
    for (Index t = 0; t < segment.count; ++t) positions[segment.first + t] = start + t;
    least = least < 0 ? start : (std::min)(least, start);
    most = (std::max)(most, start + segment.count - 1);
  }
  const bool shared = most - least < N;
  const Index rows = shared ? most - least + 1 : N;
  double* frequencies = frame.take<double>(half);
  for (Index i = 0; i < half; ++i) {
    frequencies[i] =
        std::pow(static_cast<double>(base), -2 * static_cast<double>(i) / static_cast<double>(width));
  }
  Scalar* values = frame.take<Scalar>(rows * width);
  parallel_blocks(executor, rows, kRotaryBlock, [&](Index first, Index count, int) {
    for (Index r = first; r < first + count; ++r)
      fill_rotary_row(half, shared ? least + r : positions[r], frequencies, values + r * width);
  });
  return {half, values, positions, shared ? least : -1};
}

/// Which way to turn.
enum class Turn { kForward, kBack };

/// One query or key: its D values by the row of its position, `sign` times the angle.
template <class Scalar>
void turn_pairs(Index half, const Scalar* row, Scalar sign, Scalar* values) {
  HSM_INDEPENDENT
  for (Index i = 0; i < half; ++i) {
    const Scalar a = values[i], b = values[half + i], cosine = row[i], sine = sign * row[half + i];
    values[i] = multiply_add(sine, b * Scalar(-1), cosine * a);
    values[half + i] = multiply_add(sine, a, cosine * b);
  }
}

/// Turns `heads` queries and keys of each of N tokens: number h of token t is the D values from
/// data + h * head_stride + t * token_stride on.
template <class Scalar>
void turn_heads(const RotaryTable<Scalar>& table, Turn turn, Index N, Index heads, Index head_stride,
                Index token_stride, Scalar* data, Executor& executor) {
  const Scalar sign = turn == Turn::kForward ? Scalar(1) : Scalar(-1);
  parallel_blocks(executor, N, kRotaryBlock, [&](Index first, Index count, int) {
    for (Index h = 0; h < heads; ++h) {
      for (Index t = first; t < first + count; ++t)
        turn_pairs(table.half, table.row(t), sign, data + h * head_stride + t * token_stride);
    }
  });
}

}  // namespace hsm::inline HSM_ABI::detail
