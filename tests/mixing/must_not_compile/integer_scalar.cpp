// SPDX-License-Identifier: MIT
// expect: ComputeScalar
#include <hsm/mixing/policies/scalar_pair.hpp>

int main() { hsm::ScalarPair<int> policy(4); }
