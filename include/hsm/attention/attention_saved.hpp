// SPDX-License-Identifier: MIT
//
// What a forward pass of attention leaves for its backward pass: N (4 C + H) values for N tokens, no T x T
// matrix. After extend also a copy of the keys and values of each document up to its last token, since the
// cache itself goes on: 2 C values per token of the documents, of which a window leaves the last W-1 before the segment.
#pragma once

#include <cstddef>

#include <hsm/attention/attention_state.hpp>
#include <hsm/core/types.hpp>
#include <hsm/layer/recorded_call.hpp>

namespace hsm::inline HSM_ABI {

/// Filled by CausalAttention::forward, packed and extend, read by backward; keeps its memory from call to
/// call.
template <ComputeScalar Scalar>
struct AttentionSaved : RecordedCall {
  AttentionOptions options;  ///< rotary positions, window and blocks of the call
  Vector<Scalar> heads;      ///< queries, keys (turned), values of each head: [3][H][N][C/H]
  Vector<Scalar> mixed;      ///< the concatenated head outputs: [N][C]
  Vector<Scalar> log_sums;   ///< log2 sum_j exp(score): [H][N]
  /// After extend: stream i is the document of segment i, as the call left it, or what the segment sees of it.
  AttentionState<Scalar> documents;

  /// Bytes held.
  std::size_t bytes() const {
    return static_cast<std::size_t>(heads.size() + mixed.size() + log_sums.size()) * sizeof(Scalar) +
           documents.bytes();
  }
};

}  // namespace hsm::inline HSM_ABI
