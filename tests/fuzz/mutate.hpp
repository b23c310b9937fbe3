// SPDX-License-Identifier: MIT
//
// Our own mutations of inputs, for the short pass in the tests: the same on every machine, from a seed. What a
// fuzzer does blindly too: bits, bytes, digits, pieces taken out, doubled or brought in from another input,
// and lengths and words that formats care about.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/random.hpp>

namespace hsm::test {

using Bytes = std::vector<std::uint8_t>;

/// One change to `bytes`; `other` lends pieces.
inline void mutate_once(Bytes& bytes, const Bytes& other, Random& random) {
  static constexpr std::array<std::string_view, 12> kWords{
      "-1", "9223372036854775807", "18446744073709551616", "null", "1e9", "[", "{}", ":", ",", "NaN", "\"",
      "=0"};
  const auto place = [&](const Bytes& of) {
    return static_cast<std::ptrdiff_t>(random.below(of.size() + 1));
  };
  const auto insert = [&](auto first, auto last) { bytes.insert(bytes.begin() + place(bytes), first, last); };
  const auto piece = [&](const Bytes& of) {  // up to 32 bytes
    const auto first = place(of);
    const auto most = std::min<std::ptrdiff_t>(32, static_cast<std::ptrdiff_t>(of.size()) - first);
    return std::pair(first,
                     first + static_cast<std::ptrdiff_t>(random.below(static_cast<std::uint64_t>(most) + 1)));
  };
  const std::uint64_t kind = random.below(8);
  if (kind <= 2 && bytes.empty()) return;
  const auto at = bytes.empty() ? 0 : static_cast<std::size_t>(random.below(bytes.size()));
  if (kind == 0) {
    bytes[at] ^= static_cast<std::uint8_t>(1u << random.below(8));
  } else if (kind == 1) {
    bytes[at] = static_cast<std::uint8_t>(random.bits());
  } else if (kind == 2) {
    bytes[at] = static_cast<std::uint8_t>('0' + random.below(10));
  } else if (kind == 3) {
    const auto [first, last] = piece(bytes);
    bytes.erase(bytes.begin() + first, bytes.begin() + last);
  } else if (kind == 4) {
    const auto [first, last] = piece(bytes);
    const Bytes copy(bytes.begin() + first, bytes.begin() + last);
    insert(copy.begin(), copy.end());
  } else if (kind == 5) {
    const auto [first, last] = piece(other);
    insert(other.begin() + first, other.begin() + last);
  } else if (kind == 6) {
    const std::string_view word = kWords[random.below(kWords.size())];
    insert(word.begin(), word.end());
  } else {
    bytes.resize(static_cast<std::size_t>(place(bytes)));
  }
}

/// `from` after one to four changes.
inline Bytes mutated(const Bytes& from, const Bytes& other, Random& random) {
  Bytes bytes = from;
  for (std::uint64_t n = 1 + random.below(4); n > 0; --n) mutate_once(bytes, other, random);
  return bytes;
}

/// The same for a safetensors file that begins at byte `prefix`: only the header or only the data is changed,
/// and the length before the header is right again.
inline Bytes mutated_safetensors(const Bytes& from, const Bytes& other, Random& random, std::size_t prefix) {
  std::uint64_t length = 0;
  if (from.size() >= prefix + 8) std::memcpy(&length, from.data() + prefix, 8);
  if (from.size() < prefix + 8 || length > from.size() - prefix - 8) return mutated(from, other, random);
  const auto begin = from.begin() + static_cast<std::ptrdiff_t>(prefix) + 8;
  const auto end = begin + static_cast<std::ptrdiff_t>(length);
  Bytes header(begin, end), data(end, from.end());
  Bytes& changed = random.below(4) == 0 ? data : header;
  changed = mutated(changed, other, random);
  Bytes bytes(from.begin(), begin);
  length = header.size();
  std::memcpy(bytes.data() + prefix, &length, 8);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

}  // namespace hsm::test
