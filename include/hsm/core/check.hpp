// SPDX-License-Identifier: MIT
//
// Precondition checks at public entries and their messages: "Mixer::forward: y must be [2,128,512], got
// [2,128,256]". Each check is O(1) against work of O(T C), is on in every build, and throws
// std::invalid_argument; compiled without exceptions, see core/raise.hpp.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include <hsm/core/raise.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// Sizes of an array, outermost first.
template <std::size_t Rank>
using Shape = std::array<Index, Rank>;

namespace detail {

template <std::size_t Rank>
[[gnu::cold]] std::string to_text(const Shape<Rank>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < Rank; ++i) {
    if (i > 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text += ']';
}

[[gnu::cold]] inline std::string to_text(Index value) { return std::to_string(value); }

/// "1 token", "2 tokens".
template <std::integral Count>
[[gnu::cold, gnu::noinline]] std::string counted(Count count, std::string_view what) {
  std::string text = std::to_string(count);
  text.append(" ").append(what);
  if (count != 1) text += 's';
  return text;
}

// What throws is cold and takes views: a check then costs its caller a comparison and a call, to run and to
// compile.

/// Throws "who: what must be <expected>, got <got>".
[[noreturn, gnu::cold, gnu::noinline]] inline void fail(std::string_view who, std::string_view what,
                                                        std::string_view expected, std::string_view got) {
  std::string message(who);
  message.append(": ").append(what).append(" must be ").append(expected).append(", got ").append(got);
  raise<std::invalid_argument>(message);
}

template <class Value>
[[noreturn, gnu::cold, gnu::noinline]] void fail_equal(const char* who, const char* what, const Value& got,
                                                       const Value& expected) {
  fail(who, what, to_text(expected), to_text(got));
}

template <class Value>
void check_equal(const char* who, const char* what, const Value& got, const Value& expected) {
  if (!(got == expected)) fail_equal(who, what, got, expected);
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_at_least(const char* who, const char* what, Index got,
                                                                 Index least) {
  fail(who, what, "at least " + to_text(least), to_text(got));
}

inline void check_at_least(const char* who, const char* what, Index got, Index least) {
  if (got < least) fail_at_least(who, what, got, least);
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_number(const char* who, const char* what,
                                                               const char* expected, double got) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", got);
  fail(who, what, expected, text);
}

/// Throws unless `good`, which says whether the number `got` is as expected.
inline void check_number(const char* who, bool good, const char* what, const char* expected, double got) {
  if (!good) fail_number(who, what, expected, got);
}

/// B T, the tokens of B sequences. Throws for sizes below 0 and a product that an Index cannot hold.
inline Index count_tokens(const char* who, Index B, Index T) {
  check_at_least(who, "batch", B, 0);
  check_at_least(who, "time", T, 0);
  if (T > 0 && B > (std::numeric_limits<Index>::max)() / T)
    fail(who, "[batch,time]", "small enough to count", to_text(Shape<2>{B, T}));
  return B * T;
}

/// Throws std::out_of_range for a token id outside [0,V); `of` says of what it is one, such as " of the training text".
inline void check_token_ids(const char* who, std::span<const std::int32_t> ids, Index V,
                            const char* of = "") {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < V) continue;
    raise<std::out_of_range>(std::string(who) + ": token id " + std::to_string(i) + of + " must be 0 to " +
                             std::to_string(V - 1) + ", got " + std::to_string(ids[i]));
  }
}

/// Throws unless heads >= 1 divides channels.
inline void check_heads(const char* who, Index heads, Index channels) {
  check_at_least(who, "heads", heads, 1);
  if (channels % heads != 0) {
    fail(who, "heads", "a divisor of " + counted(channels, "channel"), std::to_string(heads));
  }
}

/// Throws if two memory ranges share an element. Interleaved views of one buffer count as overlapping.
template <class A, class B>
void check_apart(const char* who, const char* what, const A& a, const B& b) {
  if (a.count() == 0 || b.count() == 0) return;
  const auto* a_end = a.at(a.batch - 1, a.time - 1) + a.channels;
  const auto* b_end = b.at(b.batch - 1, b.time - 1) + b.channels;
  const std::less<const void*> before;
  if (before(a.data, b_end) && before(b.data, a_end))
    fail(who, what, "apart in memory", "buffers that overlap");
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
