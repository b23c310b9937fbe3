// SPDX-License-Identifier: MIT
//
// One head of linear attention over the tokens of a segment in a stretch: chunk by chunk (linear_attention_chunk.hpp),
// or token by token where a state must hold what is remembered after each.
#pragma once

#include <algorithm>

#include <hsm/recurrent/linear_attention_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

/// A token by itself.
template <class Scalar>
void LinearAttentionPass<Scalar>::run_token(Index h, Index place, Scalar g, Memory before, Memory after,
                                            const Stretch& stretch, const Scratch& own) const {
  const Scalar* joint = stretch.joint + place * 3 * sizes_.C;
  read_pair(joint, h, 0, own);
  if (stretch.mixed) read_query(joint, h, 0, own);
  step_head(sizes_.rows, sizes_.width, g, RowsOf<const Scalar>(before), after,
            static_cast<const Scalar*>(own.keys.data), static_cast<const Scalar*>(own.values.data),
            stretch.mixed ? static_cast<const Scalar*>(own.queries.data) : nullptr, own.row);
  if (!stretch.mixed) return;
  const Scalar divisor = own.row[sizes_.width];
  Scalar* out = stretch.mixed + place * sizes_.C + h * sizes_.width;
  for (Index k = 0; k < sizes_.width; ++k) out[k] = own.row[k] / divisor;
  if (stretch.sums) stretch.sums[place * sizes_.H + h] = divisor;
}

/// Tokens that follow what own.memory holds, which then holds them too.
template <class Scalar>
void LinearAttentionPass<Scalar>::run_chunk(Index h, Index place, Index count, const Powers<Scalar>& powers,
                                            const Stretch& stretch, const Scratch& own) const {
  const Index C = sizes_.C, H = sizes_.H, width = sizes_.width;
  for (Index i = 0; i < count; ++i) {
    read_pair(stretch.joint + (place + i) * 3 * C, h, i, own);
    if (stretch.mixed) read_query(stretch.joint + (place + i) * 3 * C, h, i, own);
  }
  if (stretch.mixed) {
    mix_chunk<Sweep::kForth>(count, width, sizes_.rows, RowsOf<const Scalar>(own.keys),
                             RowsOf<const Scalar>(own.queries), RowsOf<const Scalar>(own.values),
                             Left<Order::kRows, Scalar>{own.memory, sizes_.padded}, powers, own.mix,
                             [&](Index first, Index n, const Scalar* strip) {
                               const Scalar* divisors = strip + width * kLanes<Scalar>;
                               for (Index i = 0; i < n; ++i) {
                                 own.row[i] = Scalar(1) / divisors[i];
                                 if (stretch.sums) stretch.sums[(place + first + i) * H + h] = divisors[i];
                               }
                               store_strip(n, width, strip, static_cast<const Scalar*>(own.row),
                                           stretch.mixed + (place + first) * C + h * width, C);
                             });
  }
  absorb_chunk<Sweep::kForth>(count, sizes_.rows, sizes_.padded, RowsOf<const Scalar>(own.keys), own.values,
                              powers, own.memory);
}

/// The tokens of a segment in a stretch. A state gets what is remembered after each of the last as many tokens as it has
/// slots: all but the first of these are run by themselves.
template <class Scalar>
void LinearAttentionPass<Scalar>::run_piece(const Piece& piece, const Segment& segment, Index h,
                                            const Powers<Scalar>& powers, State* state,
                                            const Stretch& stretch, const Scratch& own) const {
  const Index past = past_of(segment, state);
  const RingView<Scalar> ring =
      segment.fresh() ? RingView<Scalar>{nullptr, 0, 0} : state->ring(0, segment.stream);
  const Index kept = segment.count - ring.slot_count;  // from this token on
  const Index head = h * sizes_.rows * sizes_.padded;
  clear(own.memory);  // rows are padded with zeros
  Memory memory = padded(own.memory);
  if (piece.from > 0) {
    memory = padded(stretch.left + head);
  } else if (past > 0) {
    memory = memory_at(ring, past - 1, h);
  }
  const Index end = piece.from + piece.count;
  for (Index t = piece.from; t < end;) {
    const Index place = piece.place + t - piece.from;
    const Index count = (std::min)({kLinearChunk, end - t, std::max<Index>(1, kept + 1 - t)});
    const bool stored = ring.data && t + count > kept;
    if (count == 1) {
      const Memory after = stored ? memory_at(ring, past + t, h) : padded(own.memory);
      run_token(h, place, powers.of[1], memory, after, stretch, own);
      memory = after;
    } else {
      if (memory.data != own.memory) copy(memory, padded(own.memory));
      memory = padded(own.memory);
      run_chunk(h, place, count, powers, stretch, own);
      if (stored) copy(memory, memory_at(ring, past + t + count - 1, h));
    }
    t += count;
  }
  if (end < segment.count) copy(memory, padded(stretch.kept + head));
}

}  // namespace hsm::inline HSM_ABI::detail
