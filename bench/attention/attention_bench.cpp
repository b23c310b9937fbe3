// SPDX-License-Identifier: MIT
//
// Dense causal attention at C = 512, H = 8, the baseline of every claim: its core is 2 T T C flop forward
// (the causal half of both products), the projections 8 C C T. And attention with a window of 256, whose core is
// 4 T W C: its time per token should not grow with T.
#include "bench/support/layer_cases.hpp"

namespace hsm::bench {

void add_attention(const Selection& selection) {
  add_layer_cases<AttentionLayer>(selection, kLongestAttention, 0.6, 0.5);
  add_layer_cases<WindowLayer>(selection, 4 * kLongestAttention, 0, 0);
}

}  // namespace hsm::bench
