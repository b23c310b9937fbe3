// SPDX-License-Identifier: MIT
//
// What a task of linear attention, one head of a segment, computes in: sizes, and memory of its own for a chunk of
// tokens.
#pragma once

#include <hsm/recurrent/linear_attention_chunk.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The sizes of a layer and of what its tasks compute in.
struct LinearSizes {
  Index C, H;
  Index width;   // C/H
  Index rows;    // C/H + 1
  Index padded;  // C/H as whole strips
  Index held;    // values that a stream remembers of a head

  template <class Scalar>
  static LinearSizes of(Index C, Index H) {
    const Index width = C / H;
    return {C, H, width, width + 1, strips<Scalar>(width) * kLanes<Scalar>, width * (width + 1)};
  }
};

/// What a task computes in: the rows of the tokens of a chunk, what is remembered, scratch.
template <class Scalar>
struct LinearScratch {
  RowsOf<Scalar> queries, keys;  // features [kLinearChunk][padded]
  RowsOf<Scalar> values,
      gradients;  // [kLinearChunk][C/H + 1]: values and 1; the gradient of sums and divisor
  Scalar *memory, *mix, *row;

  static Index size(const LinearSizes& sizes) {
    return kLinearChunk * 2 * (sizes.padded + sizes.rows) + sizes.rows * sizes.padded +
           mix_scratch<Scalar>(sizes.rows) + sizes.rows * kLanes<Scalar>;
  }
  LinearScratch(const LinearSizes& sizes, Scalar* data) {
    const auto next = [&](Index n) {
      Scalar* own = data;
      data += n;
      return own;
    };
    queries = {next(kLinearChunk * sizes.padded), sizes.padded};
    keys = {next(kLinearChunk * sizes.padded), sizes.padded};
    values = {next(kLinearChunk * sizes.rows), sizes.rows};
    gradients = {next(kLinearChunk * sizes.rows), sizes.rows};
    memory = next(sizes.rows * sizes.padded);
    mix = next(mix_scratch<Scalar>(sizes.rows));
    row = next(sizes.rows * kLanes<Scalar>);
  }
};

}  // namespace hsm::inline HSM_ABI::detail
