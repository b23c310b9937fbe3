// SPDX-License-Identifier: MIT
//
// What the mixer tests share: the policies, all of shift/policies.hpp, each of which has an oracle in
// reference/mixer_reference.hpp, how each is made with random parameters, random activations, and short names for the
// comparisons.
#pragma once

#include <gtest/gtest.h>

#include <hsm/core/random.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "reference/mixer_reference.hpp"
#include "shift/mixer_engines.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

/// The policies that are tested: those of the library, or some of them.
#if defined(HSM_TEST_POLICIES)
using TestedPolicies = LayerList<HSM_TEST_POLICIES>;
#else
using TestedPolicies = StandardPolicies;
#endif

namespace detail {
template <class>
struct TypesOf;
template <template <class> class... Policies>
struct TypesOf<LayerList<Policies...>> {
  using Floats = ::testing::Types<Policies<float>...>;
  using Doubles = ::testing::Types<Policies<double>...>;
};
template <class, class>
struct JoinedTypes;
template <class... First, class... Second>
struct JoinedTypes<::testing::Types<First...>, ::testing::Types<Second...>> {
  using Type = ::testing::Types<First..., Second...>;
};
}  // namespace detail

using FloatPolicies = detail::TypesOf<TestedPolicies>::Floats;
/// The typed suites run over these.
#if defined(HSM_TEST_FLOAT_ALONE)
using AllPolicies = FloatPolicies;
#else
using AllPolicies = detail::JoinedTypes<FloatPolicies, detail::TypesOf<TestedPolicies>::Doubles>::Type;
#endif

/// The taps of a policy made by PolicyCase, where it has a choice.
inline constexpr Index kCaseTaps = 3;

/// The same policy in double; never defined.
template <template <class> class Policy, ComputeScalar Scalar>
Policy<double> in_double(const Policy<Scalar>&);

/// How the tests make a policy: constructors (channels, heads), (channels, random, heads) and (channels,
/// random, heads, taps) are known, another one is a specialisation. The oracle is `mix` of
/// reference/mixer_reference.hpp.
template <class Policy>
struct PolicyCase {
  using Scalar = typename Policy::Scalar;
  using Wide = decltype(in_double(std::declval<Policy>()));

  template <class P>
  static P construct(Index C, Index H, Random& random) {
    if constexpr (std::is_constructible_v<P, Index, Random&, Index, Index>) {
      return P(C, random, H, kCaseTaps);
    } else if constexpr (std::is_constructible_v<P, Index, Random&, Index>) {
      return P(C, random, H);
    } else {
      return P(C, H);
    }
  }

  /// Every tensor random, biases too.
  static Policy make(Index C, Index H, Random& random) {
    Policy policy = construct<Policy>(C, H, random);
    const double deviation = Policy::kStages.projected() == 0 ? 1 : 1 / std::sqrt(static_cast<double>(C));
    Policy::visit(
        [&](std::string_view, auto& tensor) {
          for (Index i = 0; i < tensor.size(); ++i)
            tensor.data()[i] = static_cast<Scalar>(random.normal(deviation));
        },
        policy);
    return policy;
  }

  /// The same parameters in double, for the oracle.
  static Wide widened(const Policy& policy) {
    Random unused(0);
    Wide wide = construct<Wide>(policy.channels(), policy.heads(), unused);
    Wide::visit(
        [](std::string_view, auto& to, const auto& from) {
          for (Index i = 0; i < to.size(); ++i) to.data()[i] = static_cast<double>(from.data()[i]);
        },
        wide, policy);
    return wide;
  }
};

/// B x T tokens of C channels that own their values.
template <class Scalar>
struct Activations {
  Index batch, time, channels;
  std::vector<Scalar> values;

  Activations(Index B, Index T, Index C, Scalar fill = 0)
      : batch(B), time(T), channels(C), values(static_cast<std::size_t>(B * T * C), fill) {}
  Activations(Index B, Index T, Index C, Random& random) : Activations(B, T, C) {
    for (Scalar& value : values) value = static_cast<Scalar>(random.normal());
  }

  Tokens<Scalar> view() { return {values.data(), batch, time, channels}; }
  Tokens<const Scalar> view() const { return {values.data(), batch, time, channels}; }
  /// Tokens first ... first + count - 1 of every sequence, in place.
  Tokens<Scalar> part(Index first, Index count) { return view().slice(first, count); }
  Tokens<const Scalar> part(Index first, Index count) const { return view().slice(first, count); }

  Values wide() const { return Values(values.begin(), values.end()); }
};

/// Whatever comes: y must not depend on what was in it.
template <class Scalar>
inline constexpr Scalar kGarbage = std::numeric_limits<Scalar>::quiet_NaN();

/// y of a fresh forward.
template <class Policy>
Activations<typename Policy::Scalar> forward(const Mixer<Policy>& mixer,
                                             const Activations<typename Policy::Scalar>& x) {
  using Scalar = typename Policy::Scalar;
  Activations<Scalar> y(x.batch, x.time, x.channels, kGarbage<Scalar>);
  mixer.forward(x.view(), y.view());
  return y;
}

/// What the oracle says about the same.
template <class Policy>
Values expected(const Policy& policy, const Shifts& shifts, const Activations<typename Policy::Scalar>& x) {
  return mix_documents(PolicyCase<Policy>::widened(policy), shifts, x.wide(), x.time);
}

/// Results of the same policy by two modes: the same bits where the policy has no product, else within
/// Tolerance::mode of the largest value.
template <class Policy, class Got, class Reference>
void expect_same_result(const Got& got, const Reference& reference, std::string_view label) {
  if constexpr (Policy::kStages.projected() == 0 && !Policy::kStages.output) {
    expect_same_bits(got, reference, label);
  } else {
    expect_close_to_scale(got, reference, Tolerance<typename Policy::Scalar>::mode, label);
  }
}

/// Every tensor of `got` within tolerance of the largest value of its partner in `reference`.
template <class Policy, class Reference>
void expect_close_parameters(const Policy& got, const Reference& reference, double tolerance) {
  Policy::visit([&](std::string_view name, const auto& tensor,
                    const auto& other) { expect_close_to_scale(tensor, other, tolerance, name); },
                got, reference);
}

template <class Policy>
void expect_same_parameters(const Policy& got, const Policy& reference) {
  Policy::visit([&](std::string_view name, const auto& tensor,
                    const auto& other) { expect_same_bits(tensor, other, name); },
                got, reference);
}

}  // namespace hsm::test
