// SPDX-License-Identifier: MIT
// expect: nothing
#include <hsm/attention/causal_attention.hpp>

struct Layer : hsm::AttentionLayer<float> {};

int main() { return static_cast<int>(sizeof(hsm::TokenMixer<Layer>)); }
