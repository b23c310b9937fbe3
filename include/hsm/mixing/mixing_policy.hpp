// SPDX-License-Identifier: MIT
//
// What a mixer is made of. A policy is one struct: its parameters, and how a token and its partners become
// one token, in three stages
//
//   project : x[t] -> own[t], kept[t]                 a product, `Linear project` [(own + kept) C, C], or absent
//   combine : own[t], kept[t], kept[t-s], ... -> z[t]   element-wise, memory-bound
//   output  : z[t] -> y[t]                            a product, `Linear output` [C, C], or absent
//
// Planes are C rows each, own first and then the kept ones, as rows of `project`; in each of them head h owns the
// rows h C/H ... (h+1) C/H - 1, as it owns these channels of a token (mixing/run.hpp says which a call covers).
// Kept planes are read at every tap and are all that a state ever holds; own planes are read at t only. With
// `keeps_input` the kept plane 0 is x itself, and the projected planes follow. The engine runs the products,
// their gradients, time, batches, states and threads; the policy states combine and its adjoint:
//
//   pairs, K = 2   adjoint_now    what the pair (t, t-s) gives to t: writes d.own() and all planes of d.kept(0),
//                                 adds to sums
//                  adjoint_past   what the pair (t, t-s) gives to t-s: adds to d.kept(1)
//                  adjoint_token  may be left out: all that token t gets, from the pairs (t, t-s) and (t+s, t), in one
//                                 pass; `next` is dz[t+s], or nullptr where there is none
//                  channel_weights(a, b)  may be left out: for policies that are z = a .* x[t] + b .* x[t-s], the
//                                 weights of all channels; stacks of them then run faster (mixing/stack.hpp)
//   any K          adjoint        writes d.own(), adds to all planes of d.kept(k) of the taps that are present,
//                                 the farthest tap first: any order is right, this one gives the same bits
//                                 however a text is cut in time
//
// `sums` are the gradients of combine's own parameters (a, b, ...) as a flat list of doubles,
// policy.sum_count() of them, which policy.add_sums(sums, gradients) adds to a gradient struct at the end.
// Policies without such parameters leave the two functions out.
#pragma once

#include <concepts>
#include <span>
#include <string_view>

#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/mixing/policy_options.hpp>
#include <hsm/mixing/run.hpp>

namespace hsm::inline HSM_ABI {

/// Which stages a policy has, and how many planes of C rows each makes per token.
struct Stages {
  bool keeps_input = false;  ///< kept plane 0 is x, not a product
  int own = 0;               ///< projected planes read at t only (0 or 1)
  int kept = 0;              ///< projected planes read at every tap
  bool output = false;       ///< z goes through a product
  /// Without products: combine takes tap 0 itself as z, writing a column only after all that read it.
  bool in_place = false;

  /// Planes that the project stage makes per token.
  constexpr int projected() const { return own + kept; }
  /// Planes that a token keeps.
  constexpr int planes() const { return kept + (keeps_input ? 1 : 0); }
};

namespace detail {

template <class P>
concept HasBasics = requires(const P& policy) {
  typename P::Scalar;
  { P::kName } -> std::convertible_to<std::string_view>;
  { P::kStages } -> std::convertible_to<Stages>;
  { policy.channels() } -> std::convertible_to<Index>;
  { policy.heads() } -> std::convertible_to<Index>;
};

template <class P>
concept HasCombine = requires(const P& policy, const Run<typename P::Scalar>& run,
                              Columns<typename P::Scalar> z) {
  policy.combine(run, z);
};

template <class P>
concept HasPairAdjoint = requires(const P& policy, const Run<typename P::Scalar>& run,
                                  ConstColumns<typename P::Scalar> dz,
                                  const RunGradient<typename P::Scalar>& d, std::span<double> sums) {
  policy.adjoint_now(run, dz, d, sums);
  policy.adjoint_past(run, dz, d);
};

template <class P>
concept HasTokenAdjoint = HasPairAdjoint<P> &&
    requires(const P& policy, const Run<typename P::Scalar>& run, ConstColumns<typename P::Scalar> dz,
             const RunGradient<typename P::Scalar>& d, std::span<double> sums) {
  policy.adjoint_token(run, dz, &dz, d, sums);
};

template <class P>
concept HasTapAdjoint = requires(const P& policy, const Run<typename P::Scalar>& run,
                                 ConstColumns<typename P::Scalar> dz,
                                 const RunGradient<typename P::Scalar>& d) {
  policy.adjoint(run, dz, d);
};

template <class P>
concept HasSums = requires(const P& policy, P& gradients, std::span<const double> sums) {
  { policy.sum_count() } -> std::convertible_to<Index>;
  policy.add_sums(sums, gradients);
};

struct AnyVisitor {
  template <class Tensor>
  void operator()(std::string_view, Tensor&) const {}
  template <class Tensor, class Other>
  void operator()(std::string_view, Tensor&, Other&) const {}
};

template <class P>
concept HasVisit = requires(P& policy, const P& other) {
  P::visit(AnyVisitor{}, policy);
  P::visit(AnyVisitor{}, policy, other);
};

template <class P>
concept HasProject = requires(P& policy) {
  { policy.project } -> std::same_as<Linear<typename P::Scalar>&>;
};

template <class P>
concept HasOutput = requires(P& policy) {
  { policy.output } -> std::same_as<Linear<typename P::Scalar>&>;
};

}  // namespace detail

/// A policy of any number of taps. See the file comment for what each member means.
template <class P>
concept MixingPolicy = detail::HasBasics<P> && ComputeScalar<typename P::Scalar> && std::copyable<P> &&
    detail::HasVisit<P> && detail::HasCombine<P> &&
    (detail::HasPairAdjoint<P> || detail::HasTapAdjoint<P>)&&(P::kStages.projected() == 0 ||
                                                              detail::HasProject<P>)&&(!P::kStages.output ||
                                                                                       detail::HasOutput<P>);

namespace detail {

/// The mandates behind MixingPolicy, one sentence each, in the order in which an author meets them.
template <class P>
consteval bool explain_policy() {
  static_assert(HasBasics<P>,
                "hsm: a mixing policy needs a type Scalar, constants kName and kStages, and the functions "
                "channels() and heads() const");
  if constexpr (HasBasics<P>) {
    static_assert(ComputeScalar<typename P::Scalar>,
                  "hsm: the Scalar of a mixing policy must be float or double");
    static_assert(HasVisit<P>,
                  "hsm: a mixing policy needs a static visit(f, self, more...) that calls f(name, "
                  "self.tensor, more.tensor...) for each of "
                  "its tensors; an empty one if it has none");
    static_assert(HasCombine<P>,
                  "hsm: a mixing policy needs combine(const Run<Scalar>& run, Columns<Scalar> z) const, "
                  "which writes z");
    static_assert(HasPairAdjoint<P> || HasTapAdjoint<P>,
                  "hsm: a mixing policy needs its adjoint: adjoint_now(run, dz, d, sums) and "
                  "adjoint_past(run, dz, d) for pairs, or "
                  "adjoint(run, dz, d) for any number of taps, all const");
    if constexpr (P::kStages.projected() > 0) {
      static_assert(
          HasProject<P>,
          "hsm: kStages names projected planes, so the policy needs a member Linear<Scalar> project");
    }
    if constexpr (P::kStages.output) {
      static_assert(HasOutput<P>,
                    "hsm: kStages names an output, so the policy needs a member Linear<Scalar> output");
    }
    static_assert(
        P::kStages.planes() >= 1 && P::kStages.planes() <= kMostPlanes && P::kStages.own <= 1,
        "hsm: a mixing policy keeps 1 to 3 planes per token (x itself counts) and has at most 1 own plane");
  }
  return true;
}

/// K: policy.taps() where there is one, else 2.
template <class P>
Index taps_of(const P& policy) {
  if constexpr (requires { policy.taps(); }) {
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
