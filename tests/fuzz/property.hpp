// SPDX-License-Identifier: MIT
//
// What the fuzz targets share: a property that must hold whatever the input is, and the one kind of exception
// in which a reader may refuse it.
//
// A broken property is thrown as a type of its own that no reader throws and no target catches: under the
// fuzzer it ends the process, which is a finding; the test shows it as a failure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>

namespace hsm::test {

/// A fuzzer's input.
using Input = std::span<const std::uint8_t>;

inline std::string text_of(Input input) { return std::string(input.begin(), input.end()); }

/// A property that did not hold.
struct BrokenProperty {
  std::string what;
};

/// Throws BrokenProperty unless `holds`.
inline void require(bool holds, const std::string& what) {
  if (!holds) throw BrokenProperty{what};
}

/// What every message must be, however hostile the input: one line of printable ASCII that begins as the
/// reader's messages do and has an end.
inline void require_message(std::string_view message, std::string_view begin) {
  const bool printable =
      std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; });
  require(printable, "a message must be printable");
  require(message.starts_with(begin), "a message must begin with '" + std::string(begin) + "', got '" +
                                          std::string(message.substr(0, 200)) + "'");
  require(message.size() <= 1000,
          "a message must have at most 1000 bytes, got " + std::to_string(message.size()));
}

/// Runs `read`. True where it returns; false where it throws exactly an `Error` with a proper message.
/// Anything else that it throws, std::bad_alloc first of all, is a broken property.
template <class Error, class Read>
bool accepts(std::string_view begin, Read&& read) {
  try {
    read();
  } catch (const std::exception& error) {
    require(typeid(error) == typeid(Error),
            std::string("another kind of exception came out: ") + error.what());
    require_message(error.what(), begin);
    return false;
  }
  return true;
}

}  // namespace hsm::test
