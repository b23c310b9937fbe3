// SPDX-License-Identifier: MIT
//
// The main function of the tests that run on several ranks, as support/main.cpp. Rank 0 tells how it goes, the others what
// fails.
#include <gtest/gtest.h>

#include <cstdio>

#include <hsm/distributed/run_ranks.hpp>

#include "distributed/ranks.hpp"
#include "support/chosen_file.hpp"

namespace hsm::test {
namespace {

/// Tells what fails on another rank than 0.
class Failures : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const char* file = result.file_name() ? result.file_name() : "";
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", all_ranks->rank(), file, result.line_number(),
                 result.message());
  }
};

/// All tests on every rank; 1 where any of them fails on any rank.
int run_tests(int count, char** arguments) {
  return run_ranks(count, arguments, [](Communicator& ranks) {
    all_ranks = &ranks;
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    if (ranks.rank() > 0) {
      delete listeners.Release(listeners.default_result_printer());
      listeners.Append(new Failures);
    }
    std::int64_t failed = run_chosen();
    ranks.sum(std::span(&failed, 1));
    return failed == 0 ? 0 : 1;
  });
}

}  // namespace
}  // namespace hsm::test

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  return hsm::test::choose_file(count, arguments) ? hsm::test::run_tests(count, arguments) : 2;
}
