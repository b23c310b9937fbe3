// SPDX-License-Identifier: MIT
// expect: hsm: a mixing policy needs a type Scalar, constants kName and kStages, and the functions channels()
#include <hsm/shift/mixer.hpp>

struct Policy {};

int main() { hsm::Mixer<Policy>(Policy(), 1); }
