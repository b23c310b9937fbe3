// SPDX-License-Identifier: MIT
//
// Which members a mixing policy has: each can be called as the engine calls it, or has the name and cannot be.
// The second would be left out as if it were not there; mixing_policy.hpp refuses it by a sentence.
#pragma once

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <hsm/core/linear.hpp>
#include <hsm/shift/run.hpp>
#include <hsm/shift/stages.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class P>
concept HasBasics = requires(const P& policy) {
  typename P::Scalar;
  { P::kName } -> std::convertible_to<std::string_view>;
  { P::kStages } -> std::convertible_to<Stages>;
  typename std::integral_constant<int, P::kStages.planes()>;  // known when it is compiled
  { policy.channels() } -> std::convertible_to<Index>;
  { policy.heads() } -> std::convertible_to<Index>;
};

// The arguments of the engine, as values: what takes one by a reference that is not const is not callable.
template <class P>
using RunOf = const Run<typename P::Scalar>&;
template <class P>
using GradientOf = const RunGradient<typename P::Scalar>&;
template <class P>
using ReadOf = ConstColumns<typename P::Scalar>&&;
using SumsOf = std::span<double>&&;

template <class P>
concept HasCombine = requires(const P& policy, RunOf<P> run, Columns<typename P::Scalar>&& z) {
  policy.combine(run, std::move(z));
};

template <class P>
concept HasPairAdjoint = requires(const P& policy, RunOf<P> run, ReadOf<P> dz, GradientOf<P> d, SumsOf sums) {
  policy.adjoint_now(run, std::move(dz), d, std::move(sums));
  policy.adjoint_past(run, std::move(dz), d);
};

template <class P>
concept HasTokenAdjoint = HasPairAdjoint<P> &&
    requires(const P& policy, RunOf<P> run, ReadOf<P> dz, const ConstColumns<typename P::Scalar>* next,
             GradientOf<P> d, SumsOf sums) {
  policy.adjoint_token(run, std::move(dz), next, d, std::move(sums));
};

/// The adjoint of any number of taps, for a policy without and with parameters of its own.
template <class P>
concept HasPlainTapAdjoint = requires(const P& policy, RunOf<P> run, ReadOf<P> dz, GradientOf<P> d) {
  policy.adjoint(run, std::move(dz), d);
};
template <class P>
concept HasSumTapAdjoint = requires(const P& policy, RunOf<P> run, ReadOf<P> dz, GradientOf<P> d,
                                    SumsOf sums) {
  policy.adjoint(run, std::move(dz), d, std::move(sums));
};
template <class P>
concept HasTapAdjoint = HasPlainTapAdjoint<P> || HasSumTapAdjoint<P>;

template <class P>
concept HasSums = requires(const P& policy, P& gradients, std::span<const double>&& sums) {
  { policy.sum_count() } -> std::convertible_to<Index>;
  policy.add_sums(std::move(sums), gradients);
};

template <class P>
concept HasTaps = requires(const P& policy) {
  { policy.taps() } -> std::convertible_to<Index>;
};

/// A policy that is a weight a and a weight b per channel: channel_weights(a, b) writes C values each.
template <class P>
concept HasChannelWeights = P::kStages.projected() == 0 && !P::kStages.output &&
                            requires(const P& policy, typename P::Scalar* values) {
  policy.channel_weights(values, values);
};

// Visitors count and collect: one that is copied would do so in vain.
struct AnyVisitor {
  AnyVisitor() = default;
  AnyVisitor(const AnyVisitor&) = delete;
  AnyVisitor& operator=(const AnyVisitor&) = delete;

  template <class Tensor>
  void operator()(std::string_view, Tensor&) const {}
  template <class Tensor, class Other>
  void operator()(std::string_view, Tensor&, Other&) const {}
};

template <class P>
concept HasVisit = requires(P& policy, const P& other, AnyVisitor& visitor) {
  P::visit(AnyVisitor{}, policy);
  P::visit(AnyVisitor{}, policy, other);
  P::visit(visitor, policy);
};

template <class P>
concept HasProject = requires(P& policy) {
  { policy.project } -> std::same_as<Linear<typename P::Scalar>&>;
};

template <class P>
concept HasOutput = requires(P& policy) {
  { policy.output } -> std::same_as<Linear<typename P::Scalar>&>;
};

/// The names of the members that may be left out. A class that inherits a name from two sides cannot tell which
/// is meant: that finds a member of P whatever its signature, overloads and templates too. P is a class that is not final,
/// which MixingPolicy asks first.
struct OptionalNames {
  int adjoint, adjoint_now, adjoint_past, adjoint_token, sum_count, add_sums, channel_weights, taps;
};
template <class P>
struct WithNames : P, OptionalNames {};

// clang-format off
template <class P> concept NamesAdjoint = !requires { &WithNames<P>::adjoint; };
template <class P> concept NamesPairAdjoint =
    !(requires { &WithNames<P>::adjoint_now; } && requires { &WithNames<P>::adjoint_past; });
template <class P> concept NamesTokenAdjoint = !requires { &WithNames<P>::adjoint_token; };
template <class P> concept NamesSums = !(requires { &WithNames<P>::sum_count; } && requires { &WithNames<P>::add_sums; });
template <class P> concept NamesChannelWeights = !requires { &WithNames<P>::channel_weights; };
template <class P> concept NamesTaps = !requires { &WithNames<P>::taps; };
// clang-format on

// Each member that may be left out is left out, or as the engine calls it.
template <class P>
concept WholePairAdjoint = HasPairAdjoint<P> || !NamesPairAdjoint<P>;
template <class P>
concept WholeTapAdjoint = HasTapAdjoint<P> || !NamesAdjoint<P>;
template <class P>
concept WholeTokenAdjoint = HasTokenAdjoint<P> || !NamesTokenAdjoint<P>;
template <class P>
concept WholeSums = HasSums<P> || !NamesSums<P>;
template <class P>
concept WholeChannelWeights = HasChannelWeights<P> || !NamesChannelWeights<P>;
template <class P>
concept WholeTaps = HasTaps<P> || !NamesTaps<P>;

/// The adjoint that runs takes the sums of parameters of its own.
template <class P>
concept SumsReachAdjoint = !HasSums<P> || HasPairAdjoint<P> || HasSumTapAdjoint<P>;

}  // namespace hsm::inline HSM_ABI::detail
