// SPDX-License-Identifier: MIT
//
// The main function of a program of tests:   hsm_io_test [FILE] [OPTIONS OF GOOGLETEST]
// FILE, such as io/model_file_test.cpp, runs the tests of that file alone, unless --gtest_filter chooses others.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace {

/// Names of the tests that stand in the file, as a filter; empty where there are none.
std::string tests_of(std::string_view file) {
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  const std::string end = "/" + std::string(file);
  std::string names;
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const testing::TestInfo& test = *suite.GetTestInfo(t);
      if (std::string_view(test.file()).ends_with(end))
        names += (names.empty() ? "" : ":") + std::string(suite.name()) + "." + test.name();
    }
  }
  return names;
}

}  // namespace

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  if (count > 2) {
    std::fprintf(stderr, "give one file of tests, got %d arguments\n", count - 1);
    return 2;
  }
  if (count == 2) {
    const std::string names = tests_of(arguments[1]);
    if (names.empty()) {
      std::fprintf(stderr, "expected a file with tests of this program, got '%s'\n", arguments[1]);
      return 2;
    }
    if (GTEST_FLAG_GET(filter) == "*")
      GTEST_FLAG_SET(filter, names);  // a death test names its own in its process
  }
  return RUN_ALL_TESTS();
}
