// SPDX-License-Identifier: MIT
//
// The engines of the policies, which are what takes a compiler long: compiled once, in support/mixer_instances.cpp, with
// an empty `storage`; here `storage` is extern. A policy that is not listed is compiled with each test.
#pragma once

#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies.hpp>

#if !defined(HSM_TEST_ENGINES)
#define HSM_TEST_ENGINES(use) \
  use(ScalarPair) use(Gated) use(GatedPair) use(SoftmaxLocal) use(ChannelPair) use(MatrixPair) use(Fusion)
#endif
#define HSM_TEST_ENGINE(storage, Policy, Scalar) storage template class ShiftLayer<Policy<Scalar>>;
#if defined(HSM_TEST_FLOAT_ALONE)
#define HSM_TEST_ENGINES_OF(storage, Policy) HSM_TEST_ENGINE(storage, Policy, float)
#else
#define HSM_TEST_ENGINES_OF(storage, Policy) \
  HSM_TEST_ENGINE(storage, Policy, float)    \
  HSM_TEST_ENGINE(storage, Policy, double)
#endif

namespace hsm {
#define HSM_TEST_EXTERN(Policy) HSM_TEST_ENGINES_OF(extern, Policy)
HSM_TEST_ENGINES(HSM_TEST_EXTERN)
#undef HSM_TEST_EXTERN
}  // namespace hsm
