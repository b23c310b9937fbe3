// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "paths.hpp"

namespace hsm {
namespace {

std::string file_text(const std::string& name) {
  std::ifstream file(std::filesystem::path(HSM_SOURCE_DIR) / name, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

/// What lies between the line `open` and the next line `close`; empty if either is missing.
std::string between(std::string_view text, std::string_view open, std::string_view close) {
  const std::string begin = std::string(open) + "\n", end = "\n" + std::string(close) + "\n";
  const std::size_t first = text.find(begin);
  if (first == std::string_view::npos) return "";
  const std::size_t last = text.find(end, first + begin.size());
  if (last == std::string_view::npos) return "";
  return std::string(text.substr(first + begin.size(), last - first - begin.size()));
}

TEST(Readme, ItsFirstSnippetIsTheMarkedPartOfTheQuickstart) {
  const std::string program = between(file_text("examples/quickstart.cpp"), "// [readme]", "// [/readme]");
  ASSERT_NE(program, "");
  EXPECT_EQ(between(file_text("README.md"), "```cpp", "```"), program);
}

}  // namespace
}  // namespace hsm
