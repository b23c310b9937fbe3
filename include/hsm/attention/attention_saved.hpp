// SPDX-License-Identifier: MIT
//
// What a forward pass of attention leaves for its backward pass: N (4 C + H) values for N tokens, no T x T
// matrix.
#pragma once

#include <vector>

#include <hsm/core/types.hpp>
#include <hsm/mixing/segment.hpp>

namespace hsm {

/// Filled by CausalAttention::forward and packed, read by backward; keeps its memory from call to call.
template <ComputeScalar Scalar>
struct AttentionSaved {
  /// The documents of the call.
  std::vector<Segment> segments;
  /// N, all tokens of the call.
  Index tokens = 0;
  Vector<Scalar> heads;     ///< queries, keys, values of each head: [3][H][N][C/H]
  Vector<Scalar> mixed;     ///< the concatenated head outputs: [N][C]
  Vector<Scalar> log_sums;  ///< log2 sum_j exp(score): [H][N]
};

}  // namespace hsm
