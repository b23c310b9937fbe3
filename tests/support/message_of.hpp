// SPDX-License-Identifier: MIT
//
// What a call that is refused says.
#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <typeinfo>

namespace hsm::test {

/// The message of what f throws, an Error or what derives from it; "nothing" where it throws nothing.
template <class Error = std::exception, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

/// The message of what f throws; a failure unless that is exactly an Error, not even what derives from it.
template <class Error, class F>
std::string message_of_exactly(F&& f) {
  try {
    f();
  } catch (const std::exception& error) {
    EXPECT_TRUE(typeid(error) == typeid(Error)) << "another exception: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace hsm::test
