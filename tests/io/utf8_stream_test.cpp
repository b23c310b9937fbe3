// SPDX-License-Identifier: MIT
#include "hsm/io/utf8_stream.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hsm/core/random.hpp"

namespace hsm::utf8_stream_test {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

std::string stream_all(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  for (const char c : bytes) text += stream.push(c);
  return text + stream.finish();
}

// UTF-8 of a scalar value by its definition.
std::string utf8(unsigned code) {
  std::string text;
  const auto put = [&](unsigned value) { text += static_cast<char>(static_cast<unsigned char>(value)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 + code / 64);
    put(0x80 + code % 64);
  } else if (code < 0x10000) {
    put(0xE0 + code / 4096);
    put(0x80 + code / 64 % 64);
    put(0x80 + code % 64);
  } else {
    put(0xF0 + code / 262144);
    put(0x80 + code / 4096 % 64);
    put(0x80 + code / 64 % 64);
    put(0x80 + code % 64);
  }
  return text;
}

// The whole text at once: at each place, a well-formed sequence is found by comparing with every row of table
// 3-7, and if there is none the longest beginning of one is replaced.
std::string replace_at_once(const std::string& bytes) {
  struct Row {
    std::vector<std::pair<int, int>> ranges;
  };
  const std::vector<Row> rows = {{{{0x00, 0x7F}}},
                                 {{{0xC2, 0xDF}, {0x80, 0xBF}}},
                                 {{{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}},
                                 {{{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                 {{{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}},
                                 {{{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                 {{{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                 {{{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                 {{{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}}};
  std::string text;
  for (std::size_t at = 0; at < bytes.size();) {
    std::size_t longest = 0;
    bool whole = false;
    for (const Row& row : rows) {
      std::size_t matched = 0;
      while (matched < row.ranges.size() && at + matched < bytes.size()) {
        const int value = static_cast<unsigned char>(bytes[at + matched]);
        if (value < row.ranges[matched].first || value > row.ranges[matched].second) break;
        ++matched;
      }
      if (matched > longest) {
        longest = matched;
        whole = matched == row.ranges.size();
      }
    }
    if (whole) {
      text += bytes.substr(at, longest);
    } else {
      text += kBad;
    }
    at += longest == 0 ? 1 : longest;
  }
  return text;
}

TEST(Utf8Stream, EveryCharacterOfUnicodeComesOutWholeWithItsLastByte) {
  for (unsigned code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    const std::string bytes = utf8(code);
    Utf8Stream stream;
    for (std::size_t i = 0; i + 1 < bytes.size(); ++i) ASSERT_EQ(stream.push(bytes[i]), "") << code;
    ASSERT_EQ(stream.push(bytes.back()), bytes) << code;
    ASSERT_EQ(stream.finish(), "") << code;
  }
}

TEST(Utf8Stream, EverySurrogateIsReplaced) {
  for (unsigned code = 0xD800; code <= 0xDFFF; ++code)
    ASSERT_EQ(stream_all(utf8(code)), kBad + kBad + kBad) << code;
}

TEST(Utf8Stream, OverlongFormsAreReplacedByteByByte) {
  EXPECT_EQ(stream_all("\xC0\x80"), kBad + kBad);
  EXPECT_EQ(stream_all("\xC1\xBF"), kBad + kBad);
  EXPECT_EQ(stream_all("\xE0\x80\x80"), kBad + kBad + kBad);
  EXPECT_EQ(stream_all("\xE0\x9F\xBF"), kBad + kBad + kBad);
  EXPECT_EQ(stream_all("\xF0\x80\x80\x80"), kBad + kBad + kBad + kBad);
  EXPECT_EQ(stream_all("\xF0\x8F\xBF\xBF"), kBad + kBad + kBad + kBad);
}

TEST(Utf8Stream, CodesAboveTheLastOneAreReplacedByteByByte) {
  EXPECT_EQ(stream_all("\xF4\x8F\xBF\xBF"), "\xF4\x8F\xBF\xBF");
  EXPECT_EQ(stream_all("\xF4\x90\x80\x80"), kBad + kBad + kBad + kBad);
  EXPECT_EQ(stream_all("\xF5\x80\x80\x80"), kBad + kBad + kBad + kBad);
  EXPECT_EQ(stream_all("\xFF\xFE"), kBad + kBad);
}

TEST(Utf8Stream, AMaximalSubpartBecomesOneReplacementAndTheByteThatEndsItIsKept) {
  EXPECT_EQ(stream_all("\xE2\x82"
                       "A"),
            kBad + "A");
  EXPECT_EQ(stream_all("\xF0\x9F\x98"
                       "A"),
            kBad + "A");
  EXPECT_EQ(stream_all("\xF0\x9F\xC3\xA9"), kBad + "\xC3\xA9");
  EXPECT_EQ(stream_all("a\x80z"), "a" + kBad + "z");
  EXPECT_EQ(stream_all("\xE2\xE2\x82\xAC"), kBad + "\xE2\x82\xAC");
}

TEST(Utf8Stream, AnIncompleteEndBecomesOneReplacementAndTheStreamStartsAfresh) {
  Utf8Stream stream;
  for (const char byte : {'\xF0', '\x9F', '\x98'}) EXPECT_EQ(stream.push(byte), "");
  EXPECT_EQ(stream.finish(), kBad);
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push('a'), "a");
}

TEST(Utf8Stream, RandomBytesGiveWhatTheTableGivesAtOnce) {
  Random random(1);
  // Bytes near the borders of the table are met more often than others.
  const std::string borders =
      "\x7F\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    const std::uint64_t length = random.below(12);
    for (std::uint64_t i = 0; i < length; ++i) {
      bytes += random.below(4) == 0 ? static_cast<char>(static_cast<unsigned char>(random.below(256)))
                                    : borders[static_cast<std::size_t>(random.below(borders.size()))];
    }
    ASSERT_EQ(stream_all(bytes), replace_at_once(bytes)) << "round " << round;
  }
}

}  // namespace
}  // namespace hsm::utf8_stream_test
