// SPDX-License-Identifier: MIT
// expect: ComputeScalar
#include <hsm/shift/policies/scalar_pair.hpp>

int main() { hsm::ScalarPair<int> policy(4); }
