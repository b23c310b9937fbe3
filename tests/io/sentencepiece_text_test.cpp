// SPDX-License-Identifier: MIT
#include "hsm/io/sentencepiece_text.hpp"

#include <gtest/gtest.h>

#include <hsm/core/random.hpp>
#include <hsm/io/utf8_stream.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace hsm::sentencepiece_text_test {
namespace {

std::vector<std::string> parts(std::string_view text) {
  std::vector<std::string> all;
  detail::cut_words(
      text, [&](std::string_view word) { all.push_back("word:" + std::string(word)); },
      [&](std::string_view bytes) { all.push_back("plain:" + std::string(bytes)); });
  return all;
}

TEST(SentencePieceText, IsCutBeforeSpacesAndAroundWhatIsNoWord) {
  using Parts = std::vector<std::string>;
  EXPECT_EQ(parts(""), Parts{});
  EXPECT_EQ(parts("a big  cat "), (Parts{"word:a", "word: big", "word: ", "word: cat", "word: "}));
  EXPECT_EQ(parts("one\n\ttwo\x7F"), (Parts{"word:one", "plain:\n\t", "word:two", "plain:\x7F"}));
  EXPECT_EQ(parts("x\xFFy\xE2\x96"), (Parts{"word:x", "plain:\xFF", "word:y", "plain:\xE2\x96"}));
  EXPECT_EQ(parts("a\xE2\x96\x81z\xC3\xA9"), (Parts{"word:a", "plain:\xE2\x96\x81", "word:z\xC3\xA9"}));
  EXPECT_EQ(parts(std::string(2, '\0')), (Parts{"plain:" + std::string(2, '\0')}));
  for (const char* special : {"\xE2\x96\x81", "\xE2\x96\x85", "\xEF\xBF\xBD"})
    EXPECT_EQ(parts(special), (Parts{"plain:" + std::string(special)}));
}

TEST(SentencePieceText, HasNoWordThatIsTooLongAndNoCharacterCutInTwo) {
  std::string text;
  for (int i = 0; i < 1500; ++i) text += "\xE2\x82\xAC";
  std::string joined;
  std::size_t count = 0;
  detail::cut_words(
      text,
      [&](std::string_view word) {
        EXPECT_LE(word.size(), detail::kMostWordBytes);
        EXPECT_EQ(word.size() % 3, 0u);
        joined += word;
        ++count;
      },
      [](std::string_view) { FAIL(); });
  EXPECT_EQ(joined, text);
  EXPECT_EQ(count, 5u);
}

/// The oracle: a text is well-formed if the stream changes nothing and holds nothing back.
bool is_well_formed(std::string_view text) {
  Utf8Stream stream;
  std::string out;
  for (const char byte : text) out += stream.push(byte);
  return out + stream.finish() == text;
}

TEST(SentencePieceText, KnowsCharactersAsTheUtf8StreamDoes) {
  Random random(3);
  for (int i = 0; i < 200000; ++i) {
    std::string text;
    const auto size = 1 + random.below(4);
    for (std::uint64_t b = 0; b < size; ++b) {
      const bool continues = b > 0 && random.below(4) > 0;
      text += static_cast<char>(continues ? 0x80 + random.below(64) : random.below(256));
    }
    const std::size_t length = detail::character_bytes(text);
    ASSERT_LE(length, text.size());
    if (length > 0) {
      EXPECT_TRUE(is_well_formed(std::string_view(text).substr(0, length)));
    } else {
      for (std::size_t n = 1; n <= text.size(); ++n) {
        // No start of it is one whole character; a start of several would have a shorter one.
        EXPECT_FALSE(is_well_formed(std::string_view(text).substr(0, n))) << n;
      }
    }
  }
}

}  // namespace
}  // namespace hsm::sentencepiece_text_test
