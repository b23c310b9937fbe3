// SPDX-License-Identifier: MIT
//
// What the entry points of Mixer ask of their arguments and of the policy itself, before anything is written:
// O(1) each, and O(streams) for states.
#pragma once

#include <string>

#include <hsm/mixing/mixer.hpp>

namespace hsm::inline HSM_ABI {

template <class Policy>
auto Mixer<Policy>::sizes() const -> Sizes {
  return {policy_.channels(), policy_.heads(), detail::taps_of(policy_), detail::sum_count_of(policy_)};
}

/// Throws unless the policy, which parameters() hands out to be changed, still has the sizes that the mixer was
/// made with.
template <class Policy>
void Mixer<Policy>::check_policy(const char* who) const {
  const Sizes now = sizes();
  if (!(now == sizes_)) {
    const auto text = [](const Sizes& sizes) {
      return std::to_string(sizes.channels) + " channels, " + std::to_string(sizes.heads) + " heads, " +
             std::to_string(sizes.taps) + " taps and " + std::to_string(sizes.sums) + " sums";
    };
    detail::fail(who, "the parameters", "of " + text(sizes_) + ", as when the mixer was made", text(now));
  }
  const Index C = sizes_.channels;
  if constexpr (Policy::kStages.projected() > 0)
    check_linear(who, "project", policy_.project, Policy::kStages.projected() * C, C);
  if constexpr (Policy::kStages.output) check_linear(who, "output", policy_.output, C, C);
}

template <class Policy>
void Mixer<Policy>::check_linear(const char* who, const char* name, const Linear<Scalar>& linear, Index out,
                                 Index in) {
  if (linear.out() == out && linear.in() == in && linear.bias.size() <= out) return;
  const auto text = [](Index rows, Index columns, const std::string& bias) {
    return detail::to_text(Shape<2>{rows, columns}) + " with a bias of " + bias + " rows";
  };
  detail::fail(who, name, text(out, in, "at most " + std::to_string(out)),
               text(linear.out(), linear.in(), std::to_string(linear.bias.size())));
}

/// Throws unless every tensor of the policy gets a gradient: those of project and output from the engine, all
/// others from the policy's sums.
template <class Policy>
void Mixer<Policy>::check_gradients_of_own() const {
  if constexpr (!detail::HasSums<Policy>) {
    Policy::visit(
        [&](std::string_view name, const auto& tensor) {
          const void* data = tensor.data();
          bool known = tensor.size() == 0;
          if constexpr (Policy::kStages.projected() > 0)
            known = known || data == policy_.project.weight.data() || data == policy_.project.bias.data();
          if constexpr (Policy::kStages.output)
            known = known || data == policy_.output.weight.data() || data == policy_.output.bias.data();
          if (!known) {
            detail::fail("Mixer", "the policy " + std::string(Policy::kName),
                         "one with sum_count and add_sums, which its tensor " + std::string(name) +
                             " needs for its gradient",
                         "one without");
          }
        },
        policy_);
  }
}

template <class Policy>
void Mixer<Policy>::check_input(const char* who, const Tokens<const Scalar>& x) const {
  check_policy(who);
  detail::check_equal(who, "the channels of x", x.channels, channels());
}

template <class Policy>
void Mixer<Policy>::check_output(const char* who, const Tokens<const Scalar>& x,
                                 const Tokens<Scalar>& y) const {
  detail::check_equal(who, "y", y.shape(), x.shape());
  detail::check_apart(who, "x and y", x, y);
}

template <class Policy>
bool Mixer<Policy>::fits(const State& state) const {
  bool fits = state.rings_.size() == groups_.size();
  const Index rows_per_head = Policy::kStages.planes() * channels() / heads();
  for (std::size_t g = 0; fits && g < groups_.size(); ++g) {
    fits = state.rings_[g].rows == groups_[g].heads * rows_per_head &&
           state.rings_[g].shift == groups_[g].shift &&
           state.rings_[g].slot_count == slot_count(groups_[g], state.spare_);
  }
  return fits;
}

template <class Policy>
void Mixer<Policy>::check_state(const char* who, const State& state) const {
  if (!fits(state))
    detail::raise<std::invalid_argument>(std::string(who) +
                                         ": the state must come from this mixer's make_state, got another's");
}

/// Throws for streams that a call which threw has left in part.
template <class Policy>
void Mixer<Policy>::check_whole(const char* who, const State& state) {
  for (Index stream = 0; stream < state.streams(); ++stream) state.check_whole(who, stream);
}
/// The same for a list, of which those that do not exist are another check's.
template <class Policy>
void Mixer<Policy>::check_whole(const char* who, const State& state, std::span<const Index> streams) {
  for (const Index stream : streams) {
    if (stream >= 0 && stream < state.streams()) state.check_whole(who, stream);
  }
}

template <class Policy>
void Mixer<Policy>::check_saved(const Tokens<const Scalar>& x, const Saved& saved) const {
  constexpr const char* kWho = "Mixer::backward";
  if (saved.shape_[0] < 0)
    detail::fail(kWho, "saved", "the record of a forward, packed or extend", "one that nothing was saved in");
  detail::check_equal(kWho, "x", x.shape(), saved.shape());
  const Index projected = Policy::kStages.projected() * channels();
  const bool fits =
      saved.projected_.rows() == projected && saved.projected_.cols() == x.count() &&
      (!Policy::kStages.output || (saved.mixed_.rows() == channels() && saved.mixed_.cols() == x.count()));
  if (!fits) detail::fail(kWho, "saved", "the record of this mixer", "another's");
  if (saved.entry_.streams() > 0) check_state(kWho, saved.entry_);
}

template <class Policy>
void Mixer<Policy>::check_gradients(const Policy& gradients) const {
  Policy::visit(
      [](std::string_view name, const auto& own, const auto& gradient) {
        const Shape<2> expected{own.rows(), own.cols()}, got{gradient.rows(), gradient.cols()};
        if (got != expected) {
          detail::fail("Mixer::backward", "the gradient of " + std::string(name), detail::to_text(expected),
                       detail::to_text(got));
        }
      },
      policy_, gradients);
}

}  // namespace hsm::inline HSM_ABI
