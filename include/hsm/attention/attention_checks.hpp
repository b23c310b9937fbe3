// SPDX-License-Identifier: MIT
//
// What the entry points of CausalAttention ask of their arguments, before anything is written: O(1) each, and
// O(streams) for states.
#pragma once

#include <string>

#include <hsm/attention/causal_attention.hpp>

namespace hsm::inline HSM_ABI {

/// Throws unless the tensors, which parameters() hands out to be changed, fit together.
template <ComputeScalar Scalar>
void CausalAttention<Scalar>::check_parameters(const char* who) const {
  const Index C = channels();
  detail::check_at_least(who, "channels", C, 1);
  detail::check_heads(who, heads(), C);
  detail::check_rotary(who, rotary(), heads(), C);
  check_linear(who, "project", parameters_.project, 3 * C, C);
  check_linear(who, "output", parameters_.output, C, C);
}

template <ComputeScalar Scalar>
void CausalAttention<Scalar>::check_linear(const char* who, const char* name, const Linear<Scalar>& linear,
                                           Index out, Index in) {
  const Shape<2> expected{out, in}, got{linear.out(), linear.in()};
  const Shape<1> rows{out}, biased{linear.bias.size()};
  if (got != expected)
    detail::fail(who, std::string(name) + ".weight", detail::to_text(expected), detail::to_text(got));
  if (biased != rows)
    detail::fail(who, std::string(name) + ".bias", detail::to_text(rows), detail::to_text(biased));
}

template <ComputeScalar Scalar>
void CausalAttention<Scalar>::check_pair(const char* who, const In& x, const char* y_name,
                                         const In& y) const {
  check_parameters(who);
  detail::check_equal(who, "x", x.shape(), Shape<3>{x.batch, x.time, channels()});
  detail::check_equal(who, y_name, y.shape(), x.shape());
  detail::check_apart(who, y_name, x, y);
}

template <ComputeScalar Scalar>
void CausalAttention<Scalar>::check_state(const char* who, const char* what, const State& state) const {
  if (fits(state)) return;  // no text, no allocation
  detail::check_equal(who, ("channels of " + std::string(what)).c_str(), state.channels(), channels());
  detail::check_equal(who, ("heads of " + std::string(what)).c_str(), state.heads(), heads());
  detail::check_equal(who, ("the rotary base of " + std::string(what)).c_str(), state.rotary(), rotary());
}

template <ComputeScalar Scalar>
void CausalAttention<Scalar>::check_saved(const In& x, const Saved& saved) const {
  const char* who = "CausalAttention::backward";
  if (saved.shape[0] < 0)
    detail::fail(who, "saved", "the record of a forward, packed or extend", "one that nothing was saved in");
  detail::check_equal(who, "x", x.shape(), saved.shape);
  detail::check_equal(who, "the values in saved", saved.mixed.size(), channels() * x.count());
  detail::check_equal(who, "the log-sums in saved", saved.log_sums.size(), heads() * x.count());
  detail::check_equal(who, "the rotary base of saved", saved.rotary, rotary());
  if (saved.streams != Segment::kFresh) check_state(who, "saved", saved.documents);
}

template <ComputeScalar Scalar>
void CausalAttention<Scalar>::check_state_gradient(const Saved& saved, const State& state_gradient) const {
  const char* who = "CausalAttention::backward";
  if (saved.streams == Segment::kFresh)
    detail::fail(who, "state_gradient", "absent unless saved is the record of an extend", "one");
  check_state(who, "state_gradient", state_gradient);
  detail::check_equal(who, "the streams of state_gradient", state_gradient.streams(), saved.streams);
  for (std::size_t i = 0; i < saved.segments.size(); ++i) {
    const Index stream = saved.segments[i].stream, held = saved.past(i) + saved.segments[i].count;
    const Index count = state_gradient.count(stream), capacity = state_gradient.capacity();
    if (count > held) {
      detail::fail(who, "the tokens of stream " + std::to_string(stream) + " in state_gradient",
                   "at most " + std::to_string(held) + ", what the call left", std::to_string(count));
    }
    if (capacity > 0 && capacity < held) {
      detail::fail(who, "the capacity of state_gradient",
                   "at least " + std::to_string(held) + ", the tokens of stream " + std::to_string(stream),
                   std::to_string(capacity));
    }
  }
}

}  // namespace hsm::inline HSM_ABI
