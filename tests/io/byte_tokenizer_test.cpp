// SPDX-License-Identifier: MIT
#include "hsm/io/byte_tokenizer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "io_test_support.hpp"

namespace hsm::byte_tokenizer_test {
namespace {

TEST(ByteTokenizer, EveryByteBecomesItsValueAndComesBack) {
  std::string text;
  for (int value = 0; value < 256; ++value) text += static_cast<char>(value);
  const std::vector<std::int32_t> ids = ByteTokenizer::encode(text);
  ASSERT_EQ(ids.size(), 256u);
  for (std::size_t i = 0; i < 256; ++i) EXPECT_EQ(ids[i], static_cast<std::int32_t>(i));
  EXPECT_EQ(ByteTokenizer::decode(ids), text);
  EXPECT_EQ(ByteTokenizer::kVocabulary, 256);
}

TEST(ByteTokenizer, EmptyTextHasNoTokens) {
  EXPECT_TRUE(ByteTokenizer::encode("").empty());
  EXPECT_EQ(ByteTokenizer::decode({}), "");
}

TEST(ByteTokenizer, AnIdOutsideTheVocabularyIsRefusedWithItsPosition) {
  for (const std::int32_t id :
       {-1, 256, std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()}) {
    const std::vector<std::int32_t> ids{104, 105, id, 106};
    const std::string message =
        test::message_of_exactly<std::out_of_range>([&] { ByteTokenizer::decode(ids); });
    EXPECT_TRUE(
        test::mentions(message, {"ByteTokenizer::decode", "position 2", "0..255", std::to_string(id)}));
  }
}

}  // namespace
}  // namespace hsm::byte_tokenizer_test
