// SPDX-License-Identifier: MIT
//
// Causal attention over a hierarchy, tokens and E levels above them, in the manner of the Hierarchical Kernel Transformer
// (arXiv 2604.08829):
//
//   y_t = W_o concat_h sum_{i <= t} softmax_i(score(t, i)) v_i + b_o,    [q^0; k^0; v] = W x + b
//   score(t, i) = sum_e w_e q^e_n . k^e_m / sqrt(C/H),    w = softmax(lambda),    0 of a level where m > n
//   x^0 = x,   x^e_j = a^e x^{e-1}_{2j} + b^e x^{e-1}_{2j+1} (value by value),    [q^e; k^e] = W^e x^e + c^e,  e >= 1
//
// Block j of level e is the tokens 2^e j ... 2^e (j+1) - 1 of the document, counted from its start. m = i / 2^e is the block
// of the key, n = (t+1) / 2^e - 1 the last block that is complete at t, both rounded down: what is not complete at t is not
// seen, so nothing is from later. Values are those of the tokens. With E = 0, and where w is (1,0,0), it is CausalAttention.
//
// Of the paper we know the abstract: levels of causal downsampling, products of each level's own queries and keys that one
// softmax sums with learned weights, and a cost of 4/3 of attention's at most, of three levels 21/16. The form of all this is
// ours: two taps without overlap, how the last complete block is found, that incomplete blocks give 0, and that values have
// no levels.
//
// 8 C^2 + 4 (1 - 2^-E) C^2 flop per token and, for each pair of tokens that is seen, 4 C of attention and 2 C / 4^e of
// level e, since a pair of blocks is multiplied once. A step costs O(C^2 + count C). No T x T matrix. A stream's state is
// C (3 - 2^-E) values per token and 2 E C (1 + spare) besides (hierarchical_attention_state.hpp), and takes as many
// tokens back as options.spare says, or all, but backward cannot go through a call that was taken back in part; it has room up to options.capacity. Tokens that are not seen change no bit of
// output t, be they NaN.
//
// Modes agree within 1e-5 (float) and 1e-13 (double) of the largest output, their gradients within 1e-4 and 1e-12 of the
// largest of a tensor, in float with scores as CausalAttention says; step is bitwise equal to step of as many streams. A call that throws leaves every stream as it was,
// or, where it takes several passes (more than 2048 tokens), one that cannot be rewound so far not whole.
#pragma once

#include <hsm/hierarchical_attention/hierarchical_attention_layer.hpp>
#include <hsm/layer/token_mixer.hpp>

namespace hsm::inline HSM_ABI {

/// Attention over a hierarchy as a token mixer.
template <ComputeScalar Scalar>
using HierarchicalKernelAttention = TokenMixer<HierarchicalAttentionLayer<Scalar>>;

}  // namespace hsm::inline HSM_ABI
