// SPDX-License-Identifier: MIT
//
// Walks over the fields of one message of a protocol buffer: each is a key (field number and wire type) as a
// varint, and a value
//
//   0 varint   at most 10 bytes of 7 bits, low ones first     2 bytes   a varint length and so many bytes
//   1, 5       8 or 4 bytes, little-endian                    others    refused
//
// Cost O(bytes of the keys). Errors: std::runtime_error for a message that is cut off or broken, or a field of
// another wire type than the one asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The fields of a message, one after another.
class ProtoReader {
 public:
  /// `source` starts every message and must outlive the reader.
  ProtoReader(std::string_view message, const std::string& source) : rest_(message), source_(source) {}

  /// Goes to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const std::uint64_t key = read_varint();
    number_ = key >> 3;
    wire_ = static_cast<int>(key & 7u);
    constexpr std::uint64_t kMostNumber = (std::uint64_t{1} << 29) - 1;
    if (number_ < 1 || number_ > kMostNumber) broken();
    if (wire_ == kVarint) {
      value_ = read_varint();
    } else if (wire_ == kFixed64) {
      bytes_ = take(8);
    } else if (wire_ == kBytes) {
      bytes_ = take(read_varint());
    } else if (wire_ == kFixed32) {
      bytes_ = take(4);
    } else {
      broken();
    }
    return true;
  }

  /// Its number.
  std::uint64_t number() const { return number_; }
  /// Its value, each throwing if it is of another kind.
  std::uint64_t varint() const {
    if (wire_ != kVarint) broken();
    return value_;
  }
  std::string_view bytes() const {
    if (wire_ != kBytes) broken();
    return bytes_;
  }
  std::uint32_t fixed32() const {
    if (wire_ != kFixed32) broken();
    std::uint32_t value = 0;
    for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes_[i]);
    return value;
  }

 private:
  enum Wire : int { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  std::uint64_t read_varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) broken();
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      if (shift == 63 && byte > 1) broken();
      value |= static_cast<std::uint64_t>(byte & 0x7Fu) << shift;
      if (byte < 0x80) return value;
    }
    broken();
  }

  std::string_view take(std::uint64_t count) {
    if (count > rest_.size()) broken();
    const std::string_view bytes = rest_.substr(0, static_cast<std::size_t>(count));
    rest_.remove_prefix(bytes.size());
    return bytes;
  }

  [[noreturn]] void broken() const {
    throw std::runtime_error(source_ + ": must be a SentencePiece model, got bytes that are none");
  }

  std::string_view rest_, bytes_;
  const std::string& source_;
  std::uint64_t number_ = 0, value_ = 0;
  int wire_ = kVarint;
};

}  // namespace hsm::inline HSM_ABI::detail
