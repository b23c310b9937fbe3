// SPDX-License-Identifier: MIT
#include "hsm/io/tokenizer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <hsm/io/text_tokenizer.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "io_test_support.hpp"

namespace hsm::tokenizer_test {
namespace {

/// A tokenizer of a user: pairs of the letters a and b.
struct Pairs {
  std::int32_t vocabulary() const { return 4; }
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
      ids.push_back((text[i] - 'a') * 2 + text[i + 1] - 'a');
    return ids;
  }
  std::string_view piece(std::int32_t id) const {
    return std::string_view("aaabbabb").substr(2 * static_cast<std::size_t>(id), 2);
  }
};
struct WithoutPieces {
  std::int32_t vocabulary() const { return 4; }
  std::vector<std::int32_t> encode(std::string_view) const { return {}; }
};

static_assert(Tokenizer<ByteTokenizer> && Tokenizer<SentencePieceTokenizer> && Tokenizer<TextTokenizer>);
static_assert(Tokenizer<Pairs> && !Tokenizer<WithoutPieces> && !Tokenizer<int>);

TEST(Tokenizer, BytesGiveEachByteAsAPiece) {
  for (std::int32_t id = 0; id < 256; ++id)
    EXPECT_EQ(ByteTokenizer::piece(id), std::string(1, static_cast<char>(static_cast<unsigned char>(id))))
        << id;
  for (const std::int32_t id : {-1, 256}) {
    EXPECT_TRUE(test::mentions(test::message_of_exactly<std::out_of_range>([&] { ByteTokenizer::piece(id); }),
                               {"ByteTokenizer::piece", "0..255", std::to_string(id)}));
  }
}

TEST(Tokenizer, OfAFileIsBytesUnlessItIsGivenAnother) {
  const TextTokenizer bytes;
  const std::string text("a\0\xFF\n", 4);
  EXPECT_TRUE(bytes.is_bytes());
  EXPECT_EQ(bytes.vocabulary(), 256);
  EXPECT_EQ(bytes.encode(text), ByteTokenizer::encode(text));
  EXPECT_EQ(bytes.decode(bytes.encode(text)), text);
  EXPECT_EQ(bytes.piece(255), "\xFF");
  EXPECT_EQ(bytes.model(), "");
}

TEST(Tokenizer, OfAUserIsJoinedTheSameWay) {
  const std::vector<std::int32_t> ids = Pairs().encode("abbaaa");
  EXPECT_EQ(detail::join_pieces("Pairs", Pairs(), ids), "abbaaa");
  EXPECT_THROW(detail::join_pieces("Pairs", Pairs(), std::vector<std::int32_t>{4}), std::out_of_range);
}

}  // namespace
}  // namespace hsm::tokenizer_test
