// SPDX-License-Identifier: MIT
//
// A call that is refused, in a program without exceptions: its sentence must stand on standard error.
#include <hsm/hsm.hpp>

int main() {
  hsm::Mixer(hsm::ScalarPair<float>(4), 0);
  return 0;
}
