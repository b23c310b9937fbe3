// SPDX-License-Identifier: MIT
//
// What a mixer is made of. A policy is one struct: its parameters, and how a token and its partners become
// one token, in three stages
//
//   project : x[t] -> local[t], shifted[t]            a product, `Linear project` [(local + shifted) C, C], or absent
//   combine : local[t], shifted[t], shifted[t-s], ... -> z[t]   element-wise, memory-bound
//   output  : z[t] -> y[t]                            a product, `Linear output` [C, C], or absent
//
// Planes are C rows each, local first and then the shifted ones, as rows of `project`; in each of them head h owns the
// rows h C/H ... (h+1) C/H - 1, as it owns these channels of a token (shift/run.hpp says which a call covers).
// Shifted planes are read at every tap and are all that a state ever holds; local planes are read at t only. With
// `shifts_input` the shifted plane 0 is x itself, and the projected planes follow. The engine runs the products,
// their gradients, time, batches, states and threads; the policy states combine and its adjoint:
//
//   pairs, K = 2   adjoint_now    what the pair (t, t-s) gives to t: writes d.local() and all planes of d.tap(0),
//                                 adds to sums
//                  adjoint_past   what the pair (t, t-s) gives to t-s: adds to d.tap(1)
//                  adjoint_token  may be left out: all that token t gets, from the pairs (t, t-s) and (t+s, t), in one
//                                 pass; `next` is dz[t+s], or nullptr where there is none
//                  channel_weights(a, b)  may be left out: for policies that are z = a .* x[t] + b .* x[t-s], the
//                                 weights of all channels; stacks of them then run faster (shift/stack.hpp)
//   any K          adjoint        writes d.local(), adds to all planes of d.tap(k) of the taps that are present,
//                                 the farthest tap first (any order is right, this one gives the same bits
//                                 however a text is cut in time); adjoint(run, dz, d), or
//                                 adjoint(run, dz, d, sums) for policies with sums
//
// `sums` are the gradients of combine's own parameters (a, b, ...) as a flat list of doubles,
// policy.sum_count() of them, which policy.add_sums(sums, gradients) adds to a gradient struct at the end.
// Policies without such parameters leave the two functions out. check(who), which may be left out too, throws
// std::invalid_argument, which `who` begins, unless the policy's own tensors fit together; a Mixer asks it once. A member that may be left out is left out or
// right: one that the engine could not call, since it is not const or takes something else, is refused, as is a policy
// that is final, of which that cannot be told. What only running it can show is told by check_policy of
// testing/check.hpp.
#pragma once

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>

#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/layer/layer_options.hpp>
#include <hsm/shift/policy_members.hpp>
#include <hsm/shift/run.hpp>
#include <hsm/shift/stages.hpp>

namespace hsm::inline HSM_ABI {

/// A policy of any number of taps. See the file comment for what each member means.
template <class P>
concept MixingPolicy =
    detail::HasBasics<P> && !std::is_final_v<P> && ComputeScalar<typename P::Scalar> && std::copyable<P> &&
    detail::HasVisit<P> && detail::HasCombine<P> && detail::WholePairAdjoint<P> &&
    detail::WholeTapAdjoint<P> &&
    (detail::HasPairAdjoint<P> || detail::HasTapAdjoint<P>)&&detail::WholeTokenAdjoint<P> &&
    detail::WholeSums<P> && detail::SumsReachAdjoint<P> && detail::WholeChannelWeights<P> &&
    detail::WholeTaps<P> &&
    (P::kStages.projected() == 0 || detail::HasProject<P>)&&(!P::kStages.output || detail::HasOutput<P>);

namespace detail {

/// The mandates behind MixingPolicy, one sentence each, in the order in which an author meets them; only the
/// first that does not hold is said.
template <class P>
consteval bool explain_policy() {
  if constexpr (!HasBasics<P>) {
    static_assert(HasBasics<P>,
                  "hsm: a mixing policy needs a type Scalar, constants kName and kStages, and the functions "
                  "channels() and heads() const; kStages must be static constexpr");
  } else if constexpr (std::is_final_v<P>) {
    static_assert(
        !std::is_final_v<P>,
        "hsm: a mixing policy must not be final: the members that it may leave out are looked for by "
        "deriving from it");
  } else if constexpr (!ComputeScalar<typename P::Scalar>) {
    static_assert(ComputeScalar<typename P::Scalar>,
                  "hsm: the Scalar of a mixing policy must be float or double");
  } else if constexpr (!HasVisit<P>) {
    static_assert(HasVisit<P>,
                  "hsm: a mixing policy needs a static visit(f, self, more...) that calls f(name, "
                  "self.tensor, more.tensor...) for each of its tensors, with f by reference (F&&); an empty "
                  "one if it has none");
  } else if constexpr (!HasCombine<P>) {
    static_assert(HasCombine<P>,
                  "hsm: a mixing policy needs combine(const Run<Scalar>& run, Columns<Scalar> z) const, "
                  "which writes z");
  } else if constexpr (!WholePairAdjoint<P>) {
    static_assert(
        WholePairAdjoint<P>,
        "hsm: the adjoint of a pair must be both adjoint_now(const Run<Scalar>& run, "
        "ConstColumns<Scalar> dz, const RunGradient<Scalar>& d, std::span<double> sums) const and "
        "adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) "
        "const; this policy has one of the names, but not both functions");
  } else if constexpr (!WholeTapAdjoint<P>) {
    static_assert(
        WholeTapAdjoint<P>,
        "hsm: the adjoint of a policy with any number of taps must be adjoint(const Run<Scalar>& run, "
        "ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const, with std::span<double> sums "
        "behind it where the policy has sum_count and add_sums; this policy has the name, but not the "
        "function");
  } else if constexpr (!HasPairAdjoint<P> && !HasTapAdjoint<P>) {
    static_assert(
        HasPairAdjoint<P> || HasTapAdjoint<P>,
        "hsm: a mixing policy needs its adjoint: adjoint_now(run, dz, d, sums) and "
        "adjoint_past(run, dz, d) for pairs, or adjoint(run, dz, d) for any number of taps, all const");
  } else if constexpr (!WholeTokenAdjoint<P>) {
    static_assert(
        WholeTokenAdjoint<P>,
        "hsm: adjoint_token must be adjoint_token(const Run<Scalar>& run, ConstColumns<Scalar> dz, "
        "const ConstColumns<Scalar>* next, const RunGradient<Scalar>& d, std::span<double> sums) const "
        "beside adjoint_now and adjoint_past; this policy has the name, but not the function");
  } else if constexpr (!WholeSums<P>) {
    static_assert(
        WholeSums<P>,
        "hsm: a mixing policy with parameters of its own needs both sum_count() const and "
        "add_sums(std::span<const double> sums, Policy& gradients) const; this policy has one of the "
        "names, but not both functions");
  } else if constexpr (!SumsReachAdjoint<P>) {
    static_assert(
        SumsReachAdjoint<P>,
        "hsm: this policy has sum_count and add_sums, so its adjoint must take the sums that it adds "
        "to: adjoint(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d, "
        "std::span<double> sums) const");
  } else if constexpr (!WholeChannelWeights<P>) {
    static_assert(
        WholeChannelWeights<P>,
        "hsm: channel_weights must be channel_weights(Scalar* a, Scalar* b) const, in a policy without "
        "products; this policy has the name, but not the function");
  } else if constexpr (!WholeTaps<P>) {
    static_assert(
        WholeTaps<P>,
        "hsm: taps must be a function taps() const that returns the number of taps; this policy has "
        "the name, but not the function");
  } else if constexpr (P::kStages.projected() > 0 && !HasProject<P>) {
    static_assert(HasProject<P>,
                  "hsm: kStages names projected planes, so the policy needs a member Linear<Scalar> project");
  } else if constexpr (P::kStages.output && !HasOutput<P>) {
    static_assert(HasOutput<P>,
                  "hsm: kStages names an output, so the policy needs a member Linear<Scalar> output");
  } else {
    static_assert(
        P::kStages.planes() >= 1 && P::kStages.planes() <= kMostPlanes && P::kStages.shifted >= 0 &&
            P::kStages.local >= 0 && P::kStages.local <= 1,
        "hsm: a mixing policy keeps 1 to 3 planes per token (x itself counts) and has 0 or 1 local planes");
  }
  return true;
}

/// K: policy.taps() where there is one, else 2.
template <class P>
Index taps_of(const P& policy) {
  if constexpr (HasTaps<P>) {
    return policy.taps();
  } else {
    return 2;
  }
}

template <class P>
Index sum_count_of(const P& policy) {
  if constexpr (HasSums<P>) {
    return policy.sum_count();
  } else {
    return 0;
  }
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
