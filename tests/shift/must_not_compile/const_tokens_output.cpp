// SPDX-License-Identifier: MIT
// expect: hsm: this Tokens view has another scalar than the mixer, or is const where the result is written
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

int main() {
  const hsm::Tokens<const float> x, y;
  hsm::Mixer(hsm::ScalarPair<float>(4), 1).forward(x, y);
}
