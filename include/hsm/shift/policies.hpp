// SPDX-License-Identifier: MIT
//
// The mixing policies of the library, in one list. hsm.hpp, the layers that a stack holds (model/layer_list.hpp), the
// tests, the benchmarks and the tool go by it: a policy joins all of them here.
#pragma once

#include <hsm/layer/mixing_layer.hpp>
#include <hsm/shift/policies/channel_pair.hpp>
#include <hsm/shift/policies/fusion.hpp>
#include <hsm/shift/policies/gated.hpp>
#include <hsm/shift/policies/gated_pair.hpp>
#include <hsm/shift/policies/matrix_pair.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>
#include <hsm/shift/policies/softmax_local.hpp>

namespace hsm::inline HSM_ABI {

/// The mixing policies of the library.
using StandardPolicies =
    LayerList<ScalarPair, ChannelPair, MatrixPair, Gated, GatedPair, Fusion, SoftmaxLocal>;

}  // namespace hsm::inline HSM_ABI
