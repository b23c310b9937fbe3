// SPDX-License-Identifier: MIT
//
// The one place that throws, for headers that also serve programs compiled without exceptions
// (-fno-exceptions). There a refusal cannot be caught: its sentence goes to standard error and the program
// aborts.
#pragma once

#include <string>

#if !defined(__cpp_exceptions)
#include <cstdio>
#include <cstdlib>
#endif

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Throws Error(message, more...); without exceptions prints the message and aborts.
template <class Error, class... More>
[[noreturn, gnu::cold, gnu::noinline]] void raise(const std::string& message, [[maybe_unused]] More... more) {
#if defined(__cpp_exceptions)
  throw Error(message, more...);
#else
  std::fprintf(stderr, "%s\n", message.c_str());
  std::abort();
#endif
}

/// body(), and where that throws, handler() inside the catch block; without exceptions just body().
template <class Body, class Handler>
void guarded(Body&& body, [[maybe_unused]] Handler&& handler) {
#if defined(__cpp_exceptions)
  try {
    body();
  } catch (...) {
    handler();
  }
#else
  body();
#endif
}

}  // namespace hsm::inline HSM_ABI::detail
