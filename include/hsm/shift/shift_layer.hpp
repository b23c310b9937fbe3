// SPDX-License-Identifier: MIT
//
// The layer behind Mixer: a policy at the shift of each of its heads, as a layer that mixes tokens
// (layer/mixing_layer.hpp). What it computes is in shift_pass.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/layer/mixing_layer.hpp>
#include <hsm/shift/mixer_saved.hpp>
#include <hsm/shift/mixer_state.hpp>
#include <hsm/shift/mixing_policy.hpp>
#include <hsm/shift/timeline.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Calls f(name, tensor) for tensors, and for matrices of products where those are wanted, however they are stored.
template <bool kMatrices, class F>
struct TensorWalk {
  using SeesStorage = void;
  F f;

  template <class Tensor>
  void operator()(std::string_view name, const Tensor& tensor) {
    f(name, tensor);
  }
  template <class Matrix>
  void matrix(std::string_view name, const Matrix& weight, const NarrowMatrix&) {
    if constexpr (kMatrices) f(name, weight);
  }
};

template <bool kMatrices, class Policy, class F>
void walk_tensors(const Policy& policy, F f) {
  TensorWalk<kMatrices, F> walk{std::move(f)};
  Policy::visit(walk, policy);
}

}  // namespace detail

/// A policy (its parameters) and the shift of each of its heads.
template <class Policy>
class ShiftLayer {
  static_assert(detail::explain_policy<Policy>());

 public:
  /// float or double.
  using Scalar = typename Policy::Scalar;
  /// The policy.
  using Parameters = Policy;
  /// Rings of what taps read.
  using State = MixerState<Scalar>;
  /// What was projected and mixed.
  using Saved = MixerSaved<Scalar>;
  /// In messages.
  static constexpr std::string_view kType = "Mixer";

  /// Throws std::invalid_argument for another number of shifts than heads, a shift < 1, and a policy whose sizes do
  /// not fit together or one of whose tensors would never get a gradient.
  ShiftLayer(Policy policy, std::span<const Index> head_shifts) : policy_(std::move(policy)) {
    set_shifts(head_shifts);
  }
  /// All heads at one shift.
  ShiftLayer(Policy policy, Index shift) : policy_(std::move(policy)) {
    set_shifts(std::vector<Index>(static_cast<std::size_t>(heads()), shift));
  }

  /// C.
  Index channels() const { return policy_.channels(); }
  /// H.
  Index heads() const { return policy_.heads(); }
  /// K.
  Index taps() const { return detail::taps_of(policy_); }
  /// What a token costs.
  LayerFootprint footprint() const {
    return {.products = Policy::kStages.projected() + (Policy::kStages.output ? 1 : 0),
            .local = Policy::kStages.local,
            .kept = Policy::kStages.planes(),
            .reads = taps()};
  }
  /// Policy, taps and the shift of every head.
  std::string description() const {
    std::string text = "mixer " + std::string(Policy::kName) + " taps " + std::to_string(taps()) + " shifts";
    for (const detail::HeadGroup& group : groups_) {
      for (Index h = 0; h < group.heads; ++h) text += " " + std::to_string(group.shift);
    }
    return text;
  }
  /// Heads at equal shifts beside each other, in order.
  const std::vector<detail::HeadGroup>& groups() const { return groups_; }
  /// The policy.
  const Policy& parameters() const { return policy_; }
  /// The policy, to change.
  Policy& parameters() { return policy_; }

  /// Throws where the policy has other sizes than when the layer was made, or its products do not fit it.
  void check(const char* who) const;
  /// (K-1) s + spare columns of the shifted planes for each group and stream.
  State make_state(StateOptions options) const;
  /// Whether the rings are those of this layer.
  bool fits(const State& state) const;
  /// Whether the record is one of this layer, for x.
  bool fits(const Saved& saved, const Tokens<const Scalar>& x) const;
  /// Throws unless d has the streams and rings of the state that was extended.
  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    if (!saved.entry.same_shape(d))
      detail::fail(who, "state_gradient", "of the shape of the state that was extended", "of another");
  }

  /// See layer/mixing_layer.hpp.
  void run(const Tokens<const Scalar>& x, std::span<const Segment> segments, const Tokens<Scalar>& y,
           State* state, Saved* saved, Workspace& workspace) const;
  /// See layer/mixing_layer.hpp.
  void run_adjoint(const Tokens<const Scalar>& x, const Saved& saved, const Tokens<const Scalar>& dy,
                   const Tokens<Scalar>& dx, Policy& gradients, State* state_gradient,
                   Workspace& workspace) const;

  /// How many of the last tokens its state depends on: the longest of its rings.
  Index state_reach() const {
    Index farthest = 0;
    for (const detail::HeadGroup& group : groups_) farthest = (std::max)(farthest, reach(group));
    return farthest;
  }
  /// The farthest partner of a head of the group: (K-1) s.
  Index reach(const detail::HeadGroup& group) const { return (taps() - 1) * group.shift; }

 private:
  /// What of a policy must stay as it was when the layer was made.
  struct Sizes {
    Index channels = 0, heads = 0, taps = 0, sums = 0;
    bool operator==(const Sizes&) const = default;
  };

  void set_shifts(std::span<const Index> head_shifts);
  Sizes sizes() const { return {channels(), heads(), taps(), detail::sum_count_of(policy_)}; }
  void check_products(const char* who) const;
  std::uint64_t shapes_mark() const;
  HSM_NOINLINE void find_shape(const char* who) const;
  void check_policy_gradients() const;
  [[noreturn]] HSM_NOINLINE void fail_sizes(const char* who, const Sizes& now) const;
  [[noreturn]] HSM_NOINLINE static void fail_shape(const char* who, std::string_view name,
                                                   const Shape<2>& before, const Shape<2>& now);
  RingShape ring_shape(const detail::HeadGroup& group) const {
    return {.rows = group.heads * (Policy::kStages.planes() * sizes_.channels / sizes_.heads),
            .shift = group.shift,
            .reach = reach(group),
            .kind = Policy::kName};
  }

  Policy policy_;
  std::vector<detail::HeadGroup> groups_;
  Sizes sizes_;
  std::vector<Shape<2>> shapes_;   // of the tensors that are no matrices of products
  std::uint64_t shapes_mark_ = 0;  // one number of them, since each call asks
};

template <class Policy>
void ShiftLayer<Policy>::set_shifts(std::span<const Index> head_shifts) {
  const Index H = heads();
  detail::check_at_least("Mixer", "channels", channels(), 1);
  detail::check_heads("Mixer", H, channels());
  if (static_cast<Index>(head_shifts.size()) != H) {
    detail::fail("Mixer", "the shifts", std::to_string(H) + ", one per head",
                 std::to_string(head_shifts.size()));
  }
  if (taps() < 2 || taps() > kMostTaps)
    detail::fail("Mixer", "taps", "2 to " + std::to_string(kMostTaps), std::to_string(taps()));
  if (detail::HasPairAdjoint<Policy> && taps() != 2)
    detail::fail("Mixer", "taps of a policy with adjoint_now and adjoint_past", "2", std::to_string(taps()));
  for (Index h = 0; h < H; ++h) {
    const Index s = head_shifts[static_cast<std::size_t>(h)];
    detail::check_at_least("Mixer", "shift", s, 1);
    if (s > Index{1} << (kIndexBits - 6)) {  // (kMostTaps - 1) s and sums with a position do not overflow
      detail::fail("Mixer", "shift", "at most 2^" + std::to_string(kIndexBits - 6), std::to_string(s));
    }
    if (!groups_.empty() && groups_.back().shift == s) {
      ++groups_.back().heads;
    } else {
      groups_.push_back({s, h, 1});
    }
  }
  if constexpr (requires { std::as_const(policy_).check("Mixer"); }) std::as_const(policy_).check("Mixer");
  sizes_ = sizes();
  detail::walk_tensors<false>(policy_, [&](std::string_view, const auto& tensor) {
    shapes_.push_back({tensor.rows(), tensor.cols()});
  });
  shapes_mark_ = shapes_mark();
  check_products("Mixer");
  check_policy_gradients();
}

template <class Policy>
void ShiftLayer<Policy>::fail_sizes(const char* who, const Sizes& now) const {
  const auto text = [](const Sizes& sizes) {
    return detail::counted(sizes.channels, "channel") + ", " + detail::counted(sizes.heads, "head") + ", " +
           detail::counted(sizes.taps, "tap") + " and " + detail::counted(sizes.sums, "sum");
  };
  detail::fail(who, "the parameters", "of " + text(sizes_) + ", as when the mixer was made", text(now));
}

template <class Policy>
void ShiftLayer<Policy>::check(const char* who) const {
  if (groups_.empty()) detail::fail(who, "the mixer", "one that has its parts", "one that was moved from");
  const Sizes now = sizes();
  if (!(now == sizes_)) fail_sizes(who, now);
  check_products(who);
  if (shapes_mark() != shapes_mark_) find_shape(who);
}

template <class Policy>
std::uint64_t ShiftLayer<Policy>::shapes_mark() const {
  std::uint64_t mark = 0;
  detail::walk_tensors<false>(policy_, [&](std::string_view, const auto& tensor) {
    mark = mark * 0x9E3779B97F4A7C15ull + static_cast<std::uint64_t>(tensor.rows());
    mark = mark * 0x9E3779B97F4A7C15ull + static_cast<std::uint64_t>(tensor.cols());
  });
  return mark;
}

template <class Policy>
void ShiftLayer<Policy>::find_shape(const char* who) const {
  std::size_t i = 0;
  detail::walk_tensors<false>(policy_, [&](std::string_view name, const auto& tensor) {
    const Shape<2> now{tensor.rows(), tensor.cols()},
        before = i < shapes_.size() ? shapes_[i] : Shape<2>{0, 0};
    ++i;
    if (now != before) fail_shape(who, name, before, now);
  });
  detail::fail(who, "the parameters",
               std::to_string(shapes_.size()) + " beside matrices, as when the mixer was made",
               std::to_string(i));
}

template <class Policy>
void ShiftLayer<Policy>::fail_shape(const char* who, std::string_view name, const Shape<2>& before,
                                    const Shape<2>& now) {
  detail::fail(who, "the parameter " + std::string(name),
               "of the shape " + detail::to_text(before) + ", as when the mixer was made",
               detail::to_text(now));
}

template <class Policy>
void ShiftLayer<Policy>::check_products(const char* who) const {
  const Index C = sizes_.channels;
  if constexpr (Policy::kStages.projected() > 0)
    detail::check_linear(who, "project", policy_.project, Policy::kStages.projected() * C, C, 0);
  if constexpr (Policy::kStages.output) detail::check_linear(who, "output", policy_.output, C, C, 0);
}

template <class Policy>
void ShiftLayer<Policy>::check_policy_gradients() const {
  if constexpr (!detail::HasSums<Policy>) {
    detail::walk_tensors<true>(policy_, [&](std::string_view name, const auto& tensor) {
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
    });
  }
}

template <class Policy>
auto ShiftLayer<Policy>::make_state(StateOptions options) const -> State {
  std::vector<RingShape> rings;
  for (const detail::HeadGroup& group : groups_) rings.push_back(ring_shape(group));
  return State("Mixer::make_state", options, rings);
}

template <class Policy>
bool ShiftLayer<Policy>::fits(const State& state) const {
  bool fits = state.ring_count() == groups_.size();
  for (std::size_t g = 0; fits && g < groups_.size(); ++g)
    fits = state.ring_shape(g) == ring_shape(groups_[g]);
  return fits;
}

template <class Policy>
bool ShiftLayer<Policy>::fits(const Saved& saved, const Tokens<const Scalar>& x) const {
  const auto is = [](const auto& matrix, Index rows, Index columns) {
    return matrix.rows() == rows && matrix.cols() == columns;
  };
  return saved.policy == Policy::kName && saved.taps == taps() && saved.groups == groups_ &&
         is(saved.projected, Policy::kStages.projected() * channels(), x.count()) &&
         (!Policy::kStages.output || is(saved.mixed, channels(), x.count())) &&
         (saved.entry.streams() == 0 || fits(saved.entry));
}

}  // namespace hsm::inline HSM_ABI

#include <hsm/shift/shift_pass.hpp>
