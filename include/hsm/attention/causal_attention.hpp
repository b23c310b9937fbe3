// SPDX-License-Identifier: MIT
//
// Causal multi-head softmax attention, the baseline that the shift mixers are measured against:
//
//   y_t = W_o concat_h sum_j softmax_j(q_t . k_j / sqrt(C/H)) v_j + b_o,    [q; k; v] = W x + b
//
// over all j <= t, with a window of W over t-W+1 ... t alone (attention/window.hpp), or over the own block and `top` chosen
// ones of `block` tokens (attention/block_choice.hpp), where q and k are turned by their positions first if the parameters say
// so (attention/rotary.hpp); these files tell the sources. In every mode (layer/token_mixer.hpp): queries of a segment
// against the keys of its document, which lie in the call's own scratch, or for a continuing segment in the state.
//
// 8 C^2 flop per token and 4 C flop per pair of tokens that is seen: T of a token, min(T, W) with a window, at most
// (top + 1) block with blocks and 2 C T / block flop to choose them. No T x T matrix; scratch 4 C per token, which does not
// grow with T in extend. A step costs O(C^2 + count C), O(C^2 + W C) or O(C^2 + (top block + count / block) C). A
// stream's state is 2 C values per token, 2 C (W-1 + spare) with a window, in memory of up to twice as much, C / block more
// per token with blocks. Tokens that are not seen, those after t, other documents and other streams change no bit of output t, be they NaN; but
// that all earlier blocks take part in the choice.
//
// Modes agree within 1e-5 (float) and 1e-13 (double) of the largest output, their gradients within 1e-4 and 1e-12 of the
// largest of a tensor, in float while scores q_t . k_j / sqrt(C/H) are below 700 in size: backward makes weights again from
// one number per query, which has a rounding of its own. Weights below 2^-64 (float) or 2^-512 (double) of the largest count
// as 0. Step is bitwise equal to step of as many streams; a window that holds every token, or blocks that
// are all chosen, give the bits of dense attention. Which blocks are chosen follows from the bits of queries and keys.
// These differ between modes as their products do: of two blocks that are as good as each other within rounding one mode
// may choose the one and another mode the other. A stream has room up to its capacity, with a window always. A call that
// throws leaves every stream as it was; with a window, where it takes several passes (more than 2048 tokens), or not
// whole.
#pragma once

#include <hsm/attention/attention_layer.hpp>
#include <hsm/layer/token_mixer.hpp>

namespace hsm::inline HSM_ABI {

/// Attention as a token mixer.
template <ComputeScalar Scalar>
class CausalAttention : public TokenMixer<AttentionLayer<Scalar>> {
 public:
  /// Throws std::invalid_argument unless the tensors of `parameters` fit together.
  explicit CausalAttention(Attention<Scalar> parameters)
      : CausalAttention(AttentionLayer<Scalar>(std::move(parameters))) {}
  /// A layer that was made before.
  explicit CausalAttention(AttentionLayer<Scalar> layer)
      : TokenMixer<AttentionLayer<Scalar>>(std::move(layer)) {}

  /// The base of rotary positions, 0 for none.
  Index rotary() const { return this->layer_.rotary(); }
  /// How many tokens each one sees, the last ones up to itself; 0 for all.
  Index window() const { return this->layer_.window(); }
  /// How many tokens a block has, of which each token sees its own and top() chosen ones; 0 for all tokens.
  Index block() const { return this->layer_.block(); }
  /// How many blocks are chosen.
  Index top() const { return this->layer_.top(); }
};

}  // namespace hsm::inline HSM_ABI
