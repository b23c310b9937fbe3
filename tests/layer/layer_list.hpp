// SPDX-License-Identifier: MIT
//
// The layers that layer/every_layer_test.cpp and layer/every_layer_allocation_test.cpp go through. A new one states its
// case (LayerCase of layer/layer_cases.hpp) and is named here.
#pragma once

#include "hierarchical_attention/hierarchical_attention_cases.hpp"
#include "layer/layer_cases.hpp"
#include "recurrent/linear_attention_cases.hpp"
#include "recurrent/moving_average_cases.hpp"

namespace hsm::test {

using LayerCases = LayerCaseList<MovingAverageCase, LinearAttentionCase, HierarchicalAttentionCase>;

}  // namespace hsm::test
