// SPDX-License-Identifier: MIT
//
// The entry that libFuzzer calls, for one target function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "fuzz/property.hpp"

namespace hsm::test {

/// Runs a target; a broken property is printed and ends the process.
template <class Target>
int run_target(Target target, Input input) {
  try {
    target(input);
  } catch (const BrokenProperty& broken) {
    std::fprintf(stderr, "broken property: %s\n", broken.what.c_str());
    std::abort();
  }
  return 0;
}

}  // namespace hsm::test

/// Defines libFuzzer's entry for `target`.
#define HSM_FUZZ_TARGET(target)                                                               \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);          \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {         \
    return hsm::test::run_target([](auto input) { hsm::test::target(input); }, {data, size}); \
  }
