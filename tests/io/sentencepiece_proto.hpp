// SPDX-License-Identifier: MIT
//
// The bytes of SentencePiece models, put together by hand: what a test changes in them is no business of the library.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hsm::test {

inline std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7Fu) | 0x80u);
  return bytes + static_cast<char>(value);
}

inline std::string number_field(std::uint64_t number, std::uint64_t value) {
  return varint(number << 3) + varint(value);
}

inline std::string bytes_field(std::uint64_t number, std::string_view bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

inline std::string float_field(std::uint64_t number, float value) {
  std::string bytes = varint(number << 3 | 5);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xFFu);
  return bytes;
}

/// A piece as field 1 of a model; kinds are 1 text, 2 unknown, 3 control, 6 byte.
inline std::string piece_field(std::string_view text, std::uint64_t kind = 1, float score = 0) {
  return bytes_field(1, bytes_field(1, text) + float_field(2, score) + number_field(3, kind));
}

inline std::string byte_pieces() {
  std::string all;
  for (unsigned value = 0; value < 256; ++value) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    all += piece_field(std::string("<0x") + kDigits[value >> 4] + kDigits[value & 15u] + ">", 6);
  }
  return all;
}

// Of each file that includes this and not inline: clang may otherwise make them after what is made of them.

/// How a model was trained: BPE with byte pieces.
const std::string kTrainedAsBpe = bytes_field(2, number_field(3, 2) + number_field(35, 1));
/// What it does to text: nothing.
const std::string kTextAsItIs =
    bytes_field(3, bytes_field(1, "identity") + number_field(3, 0) + number_field(4, 0));

/// A correct model with these pieces of text, all merges of what is before them.
inline std::string sentencepiece_model(const std::vector<std::string>& texts) {
  std::string model = piece_field("<unk>", 2) + byte_pieces();
  float score = 0;
  for (const std::string& text : texts) model += piece_field(text, 1, score--);
  return model + kTrainedAsBpe + kTextAsItIs;
}

}  // namespace hsm::test
