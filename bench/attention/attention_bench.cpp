// SPDX-License-Identifier: MIT
//
// Dense causal attention at C = 512, H = 8, the baseline of every claim: its core is 2 T T C flop forward
// (the causal half of both products), the projections 8 C C T. And attention with a window of 256, whose core is
// 4 T W C: its time per token should not grow with T; and over 8 chosen blocks of 128, whose time per token should grow
// with T by what choosing costs alone, 2 C T / 128 of 4 C (8 + 1) 128 flop. And attention over a hierarchy of three
// levels, whose products have 11 to 8 of attention's flop and whose core 37 to 32.
#include "bench/support/layer_cases.hpp"

namespace hsm::bench {

void add_attention(const Selection& selection) {
  add_layer_cases<DenseAttention>(selection, kLongestAttention, 0.6, 0.5);
  add_layer_cases<WindowLayer>(selection, 4 * kLongestAttention, 0, 0);
  add_layer_cases<BlockLayer>(selection, 4 * kLongestAttention, 0, 0);
  add_layer_cases<HierarchyLayer>(selection, kLongestAttention, 0, 0);
}

}  // namespace hsm::bench
