// SPDX-License-Identifier: MIT
//
// The main function of a program of tests:   hsm_io_test [FILE] [OPTIONS OF GOOGLETEST]
// FILE, such as io/model_file_test.cpp, runs the tests of that file alone, unless --gtest_filter chooses others.
#include "support/chosen_file.hpp"

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  return hsm::test::choose_file(count, arguments) ? hsm::test::run_chosen() : 2;
}
