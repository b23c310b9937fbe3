// SPDX-License-Identifier: MIT
//
// Nothing that a terminal would obey gets through, whatever it stands beside and however it is cut.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "examples/support/progress.hpp"
#include "examples/support/terminal.hpp"

namespace hsm::examples::terminal_test {
namespace {

const std::string kGone = "\xEF\xBF\xBD";

std::string on_terminal(const std::string& text) {
  TerminalText stream;
  std::string shown;
  for (const char byte : text) shown += stream.push(byte);
  return shown + stream.finish();
}

/// Whether some byte, or character made of bytes, of a shown text steers.
bool steers(const std::string& shown) {
  for (std::size_t at = 0; at < shown.size();) {
    const detail::CodePoint c(std::string_view(shown).substr(at));
    if (c.value != '\n' && c.value != '\t' && detail::steers_terminal(c.value)) return true;
    at += c.length;
  }
  return false;
}

TEST(TerminalText, LeavesTextAsItIs) {
  for (const std::string text :
       {"plain\n\ttext ~", "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", "\xEF\xBF\xBD", ""})
    EXPECT_EQ(on_terminal(text), text);
}

TEST(TerminalText, TakesControlsAway) {
  EXPECT_EQ(on_terminal("x\xE2\x1B[31m"), "x" + kGone + kGone + "[31m") << "behind a cut character";
  EXPECT_EQ(on_terminal("\x1B[2J"), kGone + "[2J");
  EXPECT_EQ(on_terminal("a\x7F\r\b\a"), "a" + kGone + kGone + kGone + kGone);
  EXPECT_EQ(on_terminal("\xC2\x9B"
                        "31m"),
            kGone + "31m")
      << "U+009B begins a sequence too";
  EXPECT_EQ(on_terminal("\x9B"
                        "31m"),
            kGone + "31m")
      << "as a byte it is no UTF-8";
  for (const std::string bidi : {"\xD8\x9C", "\xE2\x80\x8E", "\xE2\x80\x8F", "\xE2\x80\xAA", "\xE2\x80\xAE",
                                 "\xE2\x81\xA6", "\xE2\x81\xA9", "\xE2\x80\xA8"})
    EXPECT_EQ(on_terminal("a" + bidi + "b"), "a" + kGone + "b");
  EXPECT_EQ(on_terminal("\xE2\x82"), kGone);
}

TEST(TerminalText, GoesOnWithACharacterThatWasCut) {
  TerminalText first;
  EXPECT_EQ(first.push('\xE2'), "");
  EXPECT_EQ(first.push('\x82'), "");
  EXPECT_EQ(first.pending(), "\xE2\x82");
  TerminalText second(first.pending());
  EXPECT_EQ(second.push('\xAC'), "\xE2\x82\xAC");
  EXPECT_EQ(second.pending(), "");
}

TEST(TerminalText, NoBytesWhatsoeverSteer) {
  // Every byte behind every start of a sequence, and behind it bytes of every kind.
  const std::string starts[] = {"", "\xC2", "\xD8", "\xE2", "\xE2\x80", "\xE2\x81", "\xF0\x9F", "\x1B"};
  for (const std::string& start : starts) {
    for (int a = 0; a < 256; ++a) {
      for (const int b : {0x00, 0x0A, 0x1B, 0x6D, 0x7F, 0x80, 0x9B, 0xA8, 0xAE, 0xBF, 0xC2, 0xE2, 0xFF}) {
        const std::string text = start + static_cast<char>(a) + static_cast<char>(b);
        ASSERT_FALSE(steers(on_terminal(text))) << shown(text);
        const std::string message = shown(text);
        ASSERT_FALSE(steers(message) || message.find('\n') != std::string::npos) << message;
        ASSERT_EQ(on_terminal(message), message) << "a message is UTF-8";
      }
    }
  }
}

TEST(Shown, KeepsNamesAndEscapesTheRest) {
  EXPECT_EQ(shown("caf\xC3\xA9.txt"), "caf\xC3\xA9.txt");
  EXPECT_EQ(shown("\xEF\xBF\xBD"), "\xEF\xBF\xBD");
  EXPECT_EQ(shown("a\x1B[31mb"), "a\\x1b[31mb");
  EXPECT_EQ(shown("x\xE2\x1B[0m"), "x\\xe2\\x1b[0m");
  EXPECT_EQ(shown("x\xE2\xC3\xA9y"), "x\\xe2\xC3\xA9y");
  EXPECT_EQ(shown("x\xE2\x82"), "x\\xe2\\x82");
  EXPECT_EQ(shown("\xC2\x9B\xFF"
                  "a\n"),
            "\\xc2\\x9b\\xff"
            "a\\x0a");
  EXPECT_EQ(shown("\xE2\x80\xAE"
                  "gpj.exe"),
            "\\xe2\\x80\\xae"
            "gpj.exe");
  const std::string text = shown(std::string(100'000, 'x'));
  EXPECT_LT(text.size(), 2100u);
  EXPECT_NE(text.find(" ... "), std::string::npos);
}

TEST(Terminal, LinesOfProgressAreShownTheSameWay) {
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    ProgressLine line(file, 0);
    line.update("a\x1B[31m: 1 %");
    line.keep("b\x1B[2J: cannot write");
  }
  std::rewind(file);
  char read[100] = {};
  const std::size_t size = std::fread(read, 1, sizeof read, file);
  std::fclose(file);
  EXPECT_EQ(std::string(read, size), "a\\x1b[31m: 1 %\nb\\x1b[2J: cannot write\n");
}

}  // namespace
}  // namespace hsm::examples::terminal_test
