// SPDX-License-Identifier: MIT
#include "hsm/io/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace hsm::dtype_test {
namespace {

// The value that a sign bit, `exponent_bits` and `fraction_bits` stand for, by the definition of the formats.
double decode(unsigned bits, int exponent_bits, int fraction_bits) {
  const double sign = (bits >> 15) != 0 ? -1.0 : 1.0;
  const int largest = (1 << exponent_bits) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & largest;
  const int fraction = static_cast<int>(bits) & ((1 << fraction_bits) - 1);
  const int bias = largest / 2;
  if (exponent == largest) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  const double scale = std::pow(2.0, fraction_bits);
  if (exponent == 0) return sign * std::pow(2.0, 1 - bias) * (fraction / scale);
  return sign * std::pow(2.0, exponent - bias) * (1.0 + fraction / scale);
}

void expect_same(float got, double expected, unsigned bits) {
  if (std::isnan(expected)) {
    ASSERT_TRUE(std::isnan(got)) << bits;
  } else {
    ASSERT_EQ(static_cast<double>(got), expected) << bits;
    ASSERT_EQ(std::signbit(got), std::signbit(expected)) << bits;
  }
}

TEST(DType, EveryHalfIsWidenedExactly) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    expect_same(float16_to_float(static_cast<std::uint16_t>(bits)), decode(bits, 5, 10), bits);
  }
}

TEST(DType, EveryBfloat16IsWidenedExactly) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    expect_same(bfloat16_to_float(static_cast<std::uint16_t>(bits)), decode(bits, 8, 7), bits);
  }
}

TEST(DType, EveryTypeHasTheNameAndSizeOfTheFormat) {
  struct Row {
    DType dtype;
    std::string name;
    std::size_t size;
  };
  const std::vector<Row> rows = {
      {DType::boolean, "BOOL", 1},    {DType::u8, "U8", 1},           {DType::i8, "I8", 1},
      {DType::f8_e4m3, "F8_E4M3", 1}, {DType::f8_e5m2, "F8_E5M2", 1}, {DType::u16, "U16", 2},
      {DType::i16, "I16", 2},         {DType::f16, "F16", 2},         {DType::bf16, "BF16", 2},
      {DType::u32, "U32", 4},         {DType::i32, "I32", 4},         {DType::f32, "F32", 4},
      {DType::u64, "U64", 8},         {DType::i64, "I64", 8},         {DType::f64, "F64", 8}};
  for (const Row& row : rows) {
    EXPECT_EQ(dtype_name(row.dtype), row.name);
    EXPECT_EQ(dtype_size(row.dtype), row.size);
    EXPECT_EQ(find_dtype(row.name), row.dtype);
  }
  for (const char* name : {"", "f32", "F32 ", "F128", "F4"})
    EXPECT_FALSE(find_dtype(name).has_value()) << name;
}

TEST(DType, EveryElementTypeHasItsStoredType) {
  EXPECT_EQ(dtype_of<float>(), DType::f32);
  EXPECT_EQ(dtype_of<double>(), DType::f64);
  EXPECT_EQ(dtype_of<std::int32_t>(), DType::i32);
  EXPECT_EQ(dtype_of<std::int64_t>(), DType::i64);
  EXPECT_EQ(dtype_of<std::uint32_t>(), DType::u32);
  EXPECT_EQ(dtype_of<std::uint64_t>(), DType::u64);
  EXPECT_EQ(dtype_of<std::uint8_t>(), DType::u8);
}

}  // namespace
}  // namespace hsm::dtype_test
