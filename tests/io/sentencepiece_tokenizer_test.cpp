// SPDX-License-Identifier: MIT
//
// SentencePiece as a tokenizer: no byte is ever lost, and the same text gives the same pieces.
#include "hsm/io/sentencepiece_tokenizer.hpp"

#include <gtest/gtest.h>

#include <hsm/core/random.hpp>
#include <hsm/io/sentencepiece_training.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/io_test_support.hpp"
#include "io/sentencepiece_proto.hpp"

namespace hsm::test::sentencepiece_tokenizer_test {
namespace {

TEST(SentencePiece, SaysWhenItIsNotThere) {
  if (SentencePieceTokenizer::kAvailable) GTEST_SKIP() << "this build has SentencePiece";
  EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>(
                           [] { SentencePieceTokenizer(sentencepiece_model({"ab"}), "file"); }),
                       {"file: ", "needs SentencePiece", "built without"}));
  EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>([] { train_sentencepiece("a a", 300); }),
                       {"needs SentencePiece", "built without"}));
}

class SentencePieceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!SentencePieceTokenizer::kAvailable) GTEST_SKIP() << "built without SentencePiece";
  }
};

/// Some 20 kB of words, with a rare and a frequent letter beyond ASCII.
std::string training_text() {
  const std::vector<std::string> words{"the",  "princess", "prince", "went", "into",        "forest",
                                       "once", "upon",     "a",      "time", "caf\xC3\xA9", "was"};
  Random random(2);
  std::string text;
  while (text.size() < 20000) {
    text += words[static_cast<std::size_t>(random.below(words.size()))];
    text += random.below(9) == 0 ? ".\n" : random.below(9) == 0 ? ", " : " ";
  }
  return text + "\xE2\x82\xAC";
}

std::string random_bytes(Random& random, std::size_t size, std::uint64_t below = 256) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i)
    text += static_cast<char>(static_cast<unsigned char>(random.below(below)));
  return text;
}

TEST_F(SentencePieceTest, GivesBackAnyText) {
  const std::string text = training_text();
  const SentencePieceTokenizer tokenizer = train_sentencepiece(text, 320);
  EXPECT_EQ(tokenizer.vocabulary(), 320);
  const auto expect_same = [&](const std::string& whole) {
    const std::vector<std::int32_t> ids = tokenizer.encode(whole);
    for (const std::int32_t id : ids) ASSERT_TRUE(id >= 0 && id < 320) << id;
    ASSERT_TRUE(tokenizer.decode(ids) == whole) << hsm::detail::in_quotes(whole);
  };
  expect_same(text);
  for (const std::string& part : {std::string(), std::string(" "), std::string("   "), std::string("\n"),
                                  std::string(" the"), std::string("the  prince   went\t\tinto\r\n forest "),
                                  std::string("\0the\0", 5), std::string("\xE2\x96\x81the \xE2\x96\x81 a"),
                                  std::string("\xEF\xBF\xBD \xE2\x96\x85"), std::string("\xEF\xBB\xBFthe"),
                                  std::string("caf\xC3\xA9 cafe\xCC\x81 \xEF\xAC\x81 \xC2\xA0 \xE3\x80\x80"),
                                  std::string("\xF0\x9F\x90\xB8\xF0\x9F\x90"), std::string("<0x0A><unk></s>"),
                                  std::string(5000, 'a'), std::string(5000, ' ')})
    expect_same(part);
  Random random(7);
  const std::string mixed = "the  \n\xC3\xA9\xE2\x96\x81\xFF";
  for (int i = 0; i < 300; ++i) {
    expect_same(random_bytes(random, static_cast<std::size_t>(random.below(300))));
    expect_same(random_bytes(random, 50, 128));
    std::string some;
    for (int n = 0; n < 60; ++n) some += mixed[static_cast<std::size_t>(random.below(mixed.size()))];
    expect_same(some);
    const auto first = static_cast<std::size_t>(random.below(text.size()));
    expect_same(text.substr(first, static_cast<std::size_t>(random.below(100))));
  }
}

TEST_F(SentencePieceTest, LearnsPiecesThatAreShorterThanBytes) {
  const std::string text = training_text();
  const SentencePieceTokenizer tokenizer = train_sentencepiece(text, 320);
  EXPECT_LT(3 * tokenizer.encode(text).size(), text.size());
  EXPECT_EQ(tokenizer.encode(" princess").size(), 1u);
  const std::vector<std::int32_t> newline{'\n'}, euro{0xE2, 0x82, 0xAC};
  EXPECT_EQ(tokenizer.encode("\n"), newline);
  EXPECT_EQ(tokenizer.encode("\xE2\x82\xAC"), euro);  // too rare for a piece
  EXPECT_EQ(tokenizer.encode("\xC3\xA9").size(), 1u);
  EXPECT_THROW(tokenizer.piece(320), std::out_of_range);
  EXPECT_TRUE(mentions(message_of_exactly<std::out_of_range>([&] {
                         tokenizer.decode(std::vector<std::int32_t>{1, -1});
                       }),
                       {"position 1", "0..319", "-1"}));
}

#if defined(HSM_USE_SENTENCEPIECE)
TEST_F(SentencePieceTest, CutsALineAsTheLibraryDoes) {
  const SentencePieceTokenizer tokenizer = train_sentencepiece(training_text(), 320);
  sentencepiece::SentencePieceProcessor processor;
  ASSERT_TRUE(processor.LoadFromSerializedProto(tokenizer.model()).ok());
  const std::string line = "once upon a time  the princess went into caf\xC3\xA9, forest. (No forests!)";
  std::vector<std::string> pieces;
  ASSERT_TRUE(processor.Encode(line, &pieces).ok());
  const std::vector<std::int32_t> ids = tokenizer.encode(line);
  ASSERT_EQ(ids.size(), pieces.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 256) continue;
    std::string piece = pieces[i];
    if (piece.starts_with("\xE2\x96\x81")) piece.replace(0, 3, " ");
    EXPECT_EQ(tokenizer.piece(ids[i]), piece) << i;
  }
}
#endif

TEST_F(SentencePieceTest, LearnsTheSameFromTheSameText) {
  const std::string text = training_text();
  const std::string first = train_sentencepiece(text, 300).model();
  EXPECT_TRUE(train_sentencepiece(text, 300).model() == first);
  EXPECT_TRUE(train_sentencepiece(text + "the forest", 301).model() != first);
  const SentencePieceTokenizer again(first);
  EXPECT_EQ(again.encode(text), train_sentencepiece(text, 300).encode(text));
}

TEST_F(SentencePieceTest, LearnsFromTheMarksOfTheLibraryAsFromAnyText) {
  const std::string text = training_text() + " the <unk> went <unk> into <0x41><0xZZ> <<unk> ";
  const SentencePieceTokenizer tokenizer = train_sentencepiece(text, 320);
  EXPECT_EQ(tokenizer.vocabulary(), 320);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST_F(SentencePieceTest, RefusesVocabulariesThatTheTextDoesNotAllow) {
  const auto refusal = [](const std::string& text, std::int32_t vocabulary) {
    return message_of_exactly<std::invalid_argument>([&] { train_sentencepiece(text, vocabulary); });
  };
  const std::string text = training_text();
  EXPECT_TRUE(mentions(refusal(text, 256), {"at least 257", "got 256"}));
  EXPECT_TRUE(mentions(refusal(text, -1), {"at least 257", "got -1"}));
  EXPECT_TRUE(mentions(refusal(text, (1 << 20) + 1), {"at most 1048576", "got 1048577"}));
  EXPECT_TRUE(mentions(refusal(text, 100000), {"at most", "for this text", "got 100000"}));
  EXPECT_TRUE(mentions(refusal("\xC3\xA9\xC3\xA4\xC3\xB6 \xC3\xA9\xC3\xA4\xC3\xB6", 258),
                       {"at least 259", "3 characters", "got 258"}));
  EXPECT_TRUE(mentions(refusal("", 300), {"words", "0 bytes"}));
  EXPECT_TRUE(mentions(refusal("\n\n\xFF", 300), {"words", "3 bytes"}));
}

TEST_F(SentencePieceTest, TakesModelsMadeElsewhereIfTheyLoseNothing) {
  const std::string space = "\xE2\x96\x81";
  const SentencePieceTokenizer tokenizer(sentencepiece_model({"a", "b", space, "ab", space + "ab"}));
  EXPECT_EQ(tokenizer.encode(" abab c"), (std::vector<std::int32_t>{257, 256, ' ', 'c'}));
  EXPECT_TRUE(
      mentions(message_of_exactly<std::runtime_error>([] { SentencePieceTokenizer("nonsense", "file"); }),
               {"file: "}));
  // The library refuses a piece that is there twice.
  EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>([] {
                         SentencePieceTokenizer(sentencepiece_model({"ab", "ab"}), "file");
                       }),
                       {"file: ", "SentencePiece"}));
}

}  // namespace
}  // namespace hsm::test::sentencepiece_tokenizer_test
