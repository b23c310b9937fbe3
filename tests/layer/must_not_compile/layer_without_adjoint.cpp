// SPDX-License-Identifier: MIT
// expect: hsm: a layer that mixes tokens needs every type, constant and function
#include <hsm/attention/causal_attention.hpp>

/// All of attention but its adjoint.
struct Layer : private hsm::AttentionLayer<float> {
  using Base = hsm::AttentionLayer<float>;
  using Base::check;
  using Base::fits;
  using Base::kType;
  using Base::make_state;
  using Base::parameters;
  using Base::run;
  using typename Base::Parameters;
  using typename Base::Saved;
  using typename Base::Scalar;
  using typename Base::State;
};

int main() { return static_cast<int>(sizeof(hsm::TokenMixer<Layer>)); }
