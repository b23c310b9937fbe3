// SPDX-License-Identifier: MIT
//
// What a call that is refused says.
#pragma once

#include <exception>
#include <string>

namespace hsm::test {

/// The message of what f throws, an Error; "nothing" where it throws nothing.
template <class Error = std::exception, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

}  // namespace hsm::test
