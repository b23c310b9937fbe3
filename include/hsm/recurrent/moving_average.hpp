// SPDX-License-Identifier: MIT
//
// The damped multi-dimensional moving average of Mega (arXiv 2209.10655), a token mixer with a recurrence: formula and
// parameters in recurrent/ema.hpp, `ema` in recipes.
//
//   hsm::Random random(1);
//   hsm::MovingAverage<float> mixer(hsm::Ema<float>(512, 4, random));
//
// 6 n C flop per token, 4 n C parameters and a state of n C values per stream, whatever it has read. Tokens run one
// after another in each channel, so threads share channels: kEmaChannels each at least. A step computes 2 n C sigmoids
// besides. Forward is bitwise equal in every mode and under every cut of time or batch, and so are dx and the gradient
// of a state; gradients of parameters agree within 1e-5 (float) and 1e-13 (double) of the largest of a tensor. No later
// token, other document or other stream changes a bit of an output, be it NaN.
#pragma once

#include <hsm/layer/token_mixer.hpp>
#include <hsm/recurrent/ema_layer.hpp>

namespace hsm::inline HSM_ABI {

/// A moving average as a token mixer.
template <ComputeScalar Scalar>
using MovingAverage = TokenMixer<EmaLayer<Scalar>>;

}  // namespace hsm::inline HSM_ABI
