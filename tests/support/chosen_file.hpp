// SPDX-License-Identifier: MIT
//
// The tests of one file, of a program that has those of several: hsm_io_test io/model_file_test.cpp.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace hsm::test {

/// Names of the tests that stand in the file, as a filter; empty where there are none.
inline std::string tests_of(std::string_view file) {
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

/// Chooses the tests of the file that is named on the command line, unless --gtest_filter chooses others; after
/// InitGoogleTest. False, having said so, where the file has none in this program.
inline bool choose_file(int count, char** arguments) {
  if (count > 2) {
    std::fprintf(stderr, "give one file of tests, got %d arguments\n", count - 1);
    return false;
  }
  if (count < 2) return true;
  const std::string names = tests_of(arguments[1]);
  if (names.empty()) {
    std::fprintf(stderr, "expected a file with tests of this program, got '%s'\n", arguments[1]);
    return false;
  }
  if (GTEST_FLAG_GET(filter) == "*")
    GTEST_FLAG_SET(filter, names);  // a death test names its own in its process
  return true;
}

/// Runs them; not 0 where there are none, as behind a filter that matches nothing.
inline int run_chosen() {
  const int failed = RUN_ALL_TESTS();
  if (failed == 0 && testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    std::fprintf(stderr, "expected a test to run, got a filter or a shard that has none\n");
    return 2;
  }
  return failed;
}

}  // namespace hsm::test
