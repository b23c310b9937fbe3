// SPDX-License-Identifier: MIT
#include <hsm/core/pack.hpp>
#include <span>

#include "support/matchers.hpp"
#include "support/scalars.hpp"

namespace hsm::test::pack_test {
namespace {

template <class Scalar>
class Packs : public ::testing::Test {};
TYPED_TEST_SUITE(Packs, Scalars);

TYPED_TEST(Packs, ReadWriteAndRoundAsMultiplyAddDoes) {
  using P = hsm::detail::Pack<TypeParam>;
  constexpr Index n = P::kSize;
  TypeParam a[n + 1], x[n + 1], sums[n + 1], expected[n];
  for (Index i = 0; i <= n; ++i) {
    a[i] = TypeParam(1) / static_cast<TypeParam>(i + 3);
    x[i] = TypeParam(1) / static_cast<TypeParam>(2 * i + 7);
    sums[i] = -a[i] * x[i];  // what is left is the rounding of the product
  }
  for (Index i = 0; i < n; ++i) expected[i] = multiply_add(a[i + 1], x[i + 1], sums[i + 1]);
  P pack = P::read(sums + 1);  // at an address of any alignment
  pack.add_product(P::read(a + 1), P::read(x + 1));
  TypeParam got[n];
  pack.write(got);
  expect_same_bits(std::span(got), std::span(expected), "pack");
}

}  // namespace
}  // namespace hsm::test::pack_test
