// SPDX-License-Identifier: MIT
//
// Causal linear attention (arXiv 2006.16236), `linear-attention` in recipes: attention whose weights are products of
// features, so that what a head has read fits into one matrix S and one vector z, however much it was:
//
//   S_t = g S_{t-1} + phi(k_t) v_t^T,   z_t = g z_{t-1} + phi(k_t),   [q; k; v] = W x + b
//   y_t = W_o concat_h (phi(q_t)^T S_t) / (phi(q_t)^T z_t) + b_o,     phi(u) = elu(u) + 1
//
//   hsm::Random random(1);
//   hsm::CausalLinearAttention<float> mixer(hsm::LinearAttention<float>(512, 8, random));
//
// g = 1, or with decay = 1 a constant of each head, g_h = 1 - 2^(-5-h), as in the retention of RetNet (arXiv
// 2307.08621): the older a token the less it counts, so a head averages over about 32, 64, 128, ... tokens. Of that form
// only g is RetNet's. The features and the division by phi(q)^T z stay, where RetNet has neither, but rotary positions,
// a norm over each head and a gate: this is the average of arXiv 2006.16236 with fading weights, whose result never
// leaves the range of the values.
//
// No sum is 0. phi of a very negative number would round to 0, and 0 / 0 follow. So phi of a key is at least 2^-90, which
// changes keys below -62.4 and nothing else; their slope is 0. And a query whose largest value m of a head is below 0 is
// taken as q - m there, which changes nothing: phi is exp there, and its factor exp(-m) cancels. The divisor is then at
// least 2^-90, not 1e-6 added to it as elsewhere. At the other end sums of C/H T products q k v must be finite: in float
// those of queries, keys and values of 10^11 are, up to 10^5 products, of 10^30 none are, and they give NaN.
//
// 8 C^2 flop and 4 C (C/H + 1) for the state per token, 4 C^2 + 4 C parameters, and a state of C (C/H + 1) values per
// stream, whatever it has read; as many for each token that can be taken back (StateOptions::spare), and tokens that can
// are computed one by one. Longer texts are worked through kLinearChunk tokens at a time, the products within a chunk
// as a quadratic form. Scratch does not grow with T, but for records: 4 C + H values per token. Tokens that are not
// seen, those after t, other documents and other streams change no bit of output t, be they NaN. Modes agree within 1e-5
// (float) and 1e-13 (double) of the largest output over some thousand tokens, their gradients within 1e-4 and 1e-12 of
// the largest of a tensor. S and z are sums of Scalar: without decay, in float, each token adds its rounding, and after
// some 10^7 of them a new one no longer counts. Threads share heads and streams and change no bit.
#pragma once

#include <hsm/layer/token_mixer.hpp>
#include <hsm/recurrent/linear_attention_layer.hpp>

namespace hsm::inline HSM_ABI {

/// Linear attention as a token mixer.
template <ComputeScalar Scalar>
using CausalLinearAttention = TokenMixer<LinearAttentionLayer<Scalar>>;

}  // namespace hsm::inline HSM_ABI
