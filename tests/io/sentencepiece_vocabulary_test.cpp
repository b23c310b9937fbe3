// SPDX-License-Identifier: MIT
//
// What is read from the bytes of a SentencePiece model, and what is refused; needs no library.
#include "hsm/io/sentencepiece_vocabulary.hpp"

#include <gtest/gtest.h>

#include <hsm/core/random.hpp>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "io/io_test_support.hpp"
#include "io/sentencepiece_proto.hpp"

namespace hsm::test::sentencepiece_vocabulary_test {
namespace {

const std::string kSpace = "\xE2\x96\x81";
const std::string kStart = piece_field("<unk>", 2) + byte_pieces(), kEnd = kTrainedAsBpe + kTextAsItIs;

std::string refusal(const std::string& model) {
  const std::string message =
      message_of_exactly<std::runtime_error>([&] { SentencePieceVocabulary(model, "here"); });
  EXPECT_TRUE(message.starts_with("here: ")) << message;
  return message;
}

TEST(SentencePieceVocabulary, HasBytesFirstAndThenThePieces) {
  const SentencePieceVocabulary v(sentencepiece_model({"a", "b", kSpace, kSpace + "ab", "\xC3\xA9", "ab"}),
                                  "here");
  ASSERT_EQ(v.count(), 259);
  for (std::int32_t id = 0; id < 256; ++id)
    EXPECT_EQ(v.piece(id), std::string(1, static_cast<char>(static_cast<unsigned char>(id))));
  EXPECT_EQ(v.piece(256), " ab");
  EXPECT_EQ(v.piece(257), "\xC3\xA9");
  EXPECT_EQ(v.piece(258), "ab");
  // Numbers of the file: unknown, 256 bytes, pieces.
  EXPECT_EQ(v.id_of(0), -1);
  for (std::int32_t value = 0; value < 256; ++value) EXPECT_EQ(v.id_of(1 + value), value);
  EXPECT_EQ(v.id_of(257), 'a');
  EXPECT_EQ(v.id_of(259), ' ');
  EXPECT_EQ(v.id_of(260), 256);
  EXPECT_EQ(v.id_of(262), 258);
  EXPECT_EQ(v.id_of(263), -1);
  EXPECT_EQ(v.id_of(-1), -1);
  EXPECT_EQ(SentencePieceVocabulary(kStart + kEnd, "here").count(), 256);
}

TEST(SentencePieceVocabulary, RefusesModelsThatLoseText) {
  const auto trained = [](const std::string& fields) { return bytes_field(2, fields); };
  const auto changes = [](const std::string& fields) { return bytes_field(3, fields); };
  const std::string no_prefix = number_field(3, 0), no_removal = number_field(4, 0);
  for (const auto& [model, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"", {"one description"}},
           {kStart, {"one description"}},
           {kStart + kTrainedAsBpe, {"one description"}},
           {kStart + kEnd + kTrainedAsBpe, {"one description"}},
           {kStart + kEnd + kTextAsItIs, {"one description"}},
           {byte_pieces() + kEnd, {"unknown", "got 0"}},
           {kStart + piece_field("<unk>", 2) + kEnd, {"unknown", "got 2"}},
           {piece_field("<unk>", 2) + kEnd, {"256 byte pieces", "byte_fallback"}},
           {kStart + piece_field("<0x0A>", 6) + kEnd, {"each byte piece once", "'<0x0A>' twice"}},
           {kStart + piece_field("<0x0a>", 6) + kEnd, {"byte pieces", "'<0x0a>'"}},
           {kStart + piece_field("<s>", 3) + kEnd, {"control", "'<s>'"}},
           {kStart + piece_field("user", 4) + kEnd, {"'user' of kind 4"}},
           {kStart + piece_field("") + kEnd, {"pieces of text", "257"}},
           {kStart + piece_field(std::string("a\0b", 3)) + kEnd, {"zero bytes"}},
           {kStart + piece_field("\xFFz") + kEnd, {"UTF-8"}},
           {kStart + piece_field("ab", 1, std::numeric_limits<float>::quiet_NaN()) + kEnd, {"finite"}},
           {kStart + piece_field("ab", 1, std::numeric_limits<float>::infinity()) + kEnd, {"finite"}},
           {kStart + trained(number_field(35, 1)) + kTextAsItIs, {"BPE"}},
           {kStart + trained(number_field(3, 1) + number_field(35, 1)) + kTextAsItIs, {"BPE"}},
           {kStart + trained(number_field(3, 2)) + kTextAsItIs, {"byte_fallback"}},
           {kStart + kTrainedAsBpe + changes(no_removal), {"add_dummy_prefix"}},
           {kStart + kTrainedAsBpe + changes(no_prefix), {"remove_extra_whitespaces"}},
           {kStart + kTrainedAsBpe + changes(no_prefix + no_removal + number_field(5, 0)), {"spaces"}},
           {kStart + kTrainedAsBpe + changes(no_prefix + no_removal + bytes_field(2, "map")), {"identity"}},
           {kStart + kEnd + bytes_field(5, bytes_field(2, "map")), {"identity"}},
           {kStart + kEnd + bytes_field(4, "samples"), {"fields", "got 4"}},
       })
    EXPECT_TRUE(mentions(refusal(model), words));
}

TEST(SentencePieceVocabulary, RefusesWhatIsNoProtocolBuffer) {
  const std::string model = sentencepiece_model({"ab"});
  EXPECT_NO_THROW(SentencePieceVocabulary(model, "here"));
  for (std::size_t size = 0; size < model.size(); size += size < model.size() - 100 ? 37 : 1)
    refusal(model.substr(0, size));
  for (const std::string& tail :
       {std::string("\x80"), std::string(11, '\xFF'), varint(1 << 3 | 3), varint(1 << 3 | 6), varint(2),
        varint(1 << 3 | 2) + varint(std::uint64_t{1} << 63), varint(1 << 3 | 1) + "1234567",
        varint(1 << 3 | 5) + "123", number_field(1, 5), float_field(2, 1)})
    refusal(model + tail);
  EXPECT_TRUE(mentions(refusal(std::string(kMostTokenizerBytes + 1, 'a')), {"67108864", "67108865"}));
}

TEST(SentencePieceVocabulary, SurvivesAnyChangeOfItsBytes) {
  const std::string model = sentencepiece_model({"ab", kSpace + "ab", "\xC3\xA9"});
  Random random(5);
  int taken = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string changed = model;
    for (Index n = 0; n <= static_cast<Index>(random.below(3)); ++n)
      changed[static_cast<std::size_t>(random.below(changed.size()))] = static_cast<char>(random.below(256));
    try {
      const SentencePieceVocabulary v(changed, "here");
      ++taken;
      ASSERT_GE(v.count(), 256);
      for (std::int32_t id = 0; id < v.count(); ++id) ASSERT_FALSE(v.piece(id).empty());
      for (std::int32_t number = -1; number < 300; ++number) ASSERT_LT(v.id_of(number), v.count());
    } catch (const std::runtime_error& error) {
      ASSERT_TRUE(std::string(error.what()).starts_with("here: ")) << error.what();
    }
  }
  EXPECT_GT(taken, 0);  // a score can change
}

}  // namespace
}  // namespace hsm::test::sentencepiece_vocabulary_test
