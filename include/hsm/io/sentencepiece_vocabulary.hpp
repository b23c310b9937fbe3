// SPDX-License-Identifier: MIT
//
// The ids of a SentencePiece BPE model, read from the bytes of its model file without the library:
//
//   0 ... 255   the bytes
//   256 ...     the pieces of two bytes or more, in the order of the file, a space where the file has U+2581
//
// A piece of one byte in the file is that byte; what stands for unknown characters is no id, since bytes spell
// them. The file is a protocol buffer: field 1 the pieces (text, score, kind), 2 how it was trained, 3 and 5 how
// text is changed before and after. Only models that change no text are taken: BPE with byte pieces and identity
// normalization, no dummy prefix, no whitespace removed, no control or user-defined symbols, as
// `train_sentencepiece` makes them. Cost O(bytes). Errors: std::runtime_error `source: what was expected, what
// came`; nothing of the bytes is trusted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/bit_cast.hpp>
#include <hsm/core/quote.hpp>
#include <hsm/core/types.hpp>
#include <hsm/io/byte_tokenizer.hpp>
#include <hsm/io/proto_reader.hpp>
#include <hsm/io/sentencepiece_text.hpp>

namespace hsm::inline HSM_ABI {

/// The largest model of a tokenizer that is read or written, in bytes.
inline constexpr std::size_t kMostTokenizerBytes = std::size_t{1} << 26;

/// The ids of a SentencePiece model and their bytes.
class SentencePieceVocabulary {
 public:
  /// Reads the bytes of a model file. Throws std::runtime_error; `source` starts its message.
  SentencePieceVocabulary(std::string_view model, std::string source) : source_(std::move(source)) {
    if (model.size() > kMostTokenizerBytes)
      fail("at most " + std::to_string(kMostTokenizerBytes) + " bytes", std::to_string(model.size()));
    read_model(model);
  }

  /// The number of ids, V.
  std::int32_t count() const {
    return ByteTokenizer::kVocabulary + static_cast<std::int32_t>(pieces_.size());
  }

  /// The bytes of id `id`, which must be in [0,V).
  std::string_view piece(std::int32_t id) const {
    constexpr std::int32_t kBytes = ByteTokenizer::kVocabulary;
    return id < kBytes ? ByteTokenizer::piece(id)
                       : std::string_view(pieces_[static_cast<std::size_t>(id - kBytes)]);
  }

  /// The id of number `number` of the file, or -1 for what is none.
  std::int32_t id_of(std::int32_t number) const {
    const auto index = static_cast<std::size_t>(number);
    return number >= 0 && index < ids_.size() ? ids_[index] : -1;
  }

 private:
  enum Kind : std::uint64_t { kNormal = 1, kUnknown = 2, kByte = 6 };

  void read_model(std::string_view model) {
    int trained = 0, before = 0, after = 0;
    detail::ProtoReader fields(model, source_);
    while (fields.next()) {
      if (fields.number() == 1) {
        read_piece(fields.bytes());
      } else if (fields.number() == 2) {
        read_training(fields.bytes());
        ++trained;
      } else if (fields.number() == 3) {
        read_normalizer(fields.bytes(), true);
        ++before;
      } else if (fields.number() == 5) {
        read_normalizer(fields.bytes(), false);
        ++after;
      } else {
        fail("no fields but 1, 2, 3 and 5", std::to_string(fields.number()));
      }
    }
    if (trained != 1 || before != 1 || after > 1) fail("one description of itself", "none or several");
    if (unknown_ != 1) fail("one piece for unknown characters", std::to_string(unknown_));
    for (const bool there : bytes_)
      if (!there) fail("all 256 byte pieces", "fewer; train it with byte_fallback");
  }

  void read_piece(std::string_view message) {
    std::string_view text;
    float score = 0;
    std::uint64_t kind = kNormal;
    detail::ProtoReader fields(message, source_);
    while (fields.next()) {
      if (fields.number() == 1) {
        text = fields.bytes();
      } else if (fields.number() == 2) {
        score = detail::bit_cast<float>(fields.fixed32());
      } else if (fields.number() == 3) {
        kind = fields.varint();
      } else {
        fail("pieces of text, score and kind", "field " + std::to_string(fields.number()));
      }
    }
    if (!detail::is_finite(score)) fail("finite scores", "another at piece " + std::to_string(ids_.size()));
    if (text.empty() || text.find('\0') != std::string_view::npos)
      fail("pieces of text without zero bytes", "another at piece " + std::to_string(ids_.size()));
    ids_.push_back(kind == kUnknown ? unknown(text) : kind == kByte ? byte(text) : normal(text, kind));
  }

  std::int32_t unknown(std::string_view) {
    ++unknown_;
    return -1;
  }

  std::int32_t byte(std::string_view text) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    if (text.size() == 6 && text.starts_with("<0x") && text.ends_with(">")) {
      const std::size_t high = kDigits.find(text[3]), low = kDigits.find(text[4]);
      if (high != std::string_view::npos && low != std::string_view::npos) {
        const std::size_t value = 16 * high + low;
        if (bytes_[value]) fail("each byte piece once", detail::in_quotes(text) + " twice");
        bytes_[value] = true;
        return static_cast<std::int32_t>(value);
      }
    }
    fail("byte pieces such as <0x0A>", detail::in_quotes(text));
  }

  std::int32_t normal(std::string_view text, std::uint64_t kind) {
    if (kind != kNormal)
      fail("pieces that are text or bytes, and one for unknown characters; no control symbols",
           detail::in_quotes(text) + " of kind " + std::to_string(kind));
    constexpr std::string_view kSpace = "\xE2\x96\x81";
    std::string bytes;
    while (!text.empty()) {
      const std::size_t length = detail::character_bytes(text);
      if (length == 0) fail("pieces of UTF-8", detail::in_quotes(text));
      bytes += text.starts_with(kSpace) ? std::string_view(" ") : text.substr(0, length);
      text.remove_prefix(length);
    }
    if (bytes.size() == 1) return static_cast<unsigned char>(bytes[0]);
    pieces_.push_back(std::move(bytes));
    return count() - 1;
  }

  void read_training(std::string_view message) {
    constexpr std::uint64_t kBpe = 2;
    std::uint64_t type = 1, fallback = 0;  // what a file does not state
    detail::ProtoReader fields(message, source_);
    while (fields.next()) {
      if (fields.number() == 3) type = fields.varint();
      if (fields.number() == 35) fallback = fields.varint();
    }
    if (type != kBpe) fail("the type BPE", "another");
    if (fallback == 0) fail("byte pieces for what it does not know", "none; train it with byte_fallback");
  }

  void read_normalizer(std::string_view message, bool before) {
    std::uint64_t prefix = 1, remove = 1, escape = 1;
    bool rules = false;
    detail::ProtoReader fields(message, source_);
    while (fields.next()) {
      if (fields.number() == 2 || fields.number() == 6) rules = rules || !fields.bytes().empty();
      if (fields.number() == 3) prefix = fields.varint();
      if (fields.number() == 4) remove = fields.varint();
      if (fields.number() == 5) escape = fields.varint();
    }
    if (rules) fail("text left as it is", "rules that change it; train it with identity normalization");
    if (before && (prefix != 0 || remove != 0 || escape == 0))
      fail("text left as it is",
           "a change of spaces; train it without add_dummy_prefix and "
           "remove_extra_whitespaces");
  }

  [[noreturn]] void fail(const std::string& expected, const std::string& got) const {
    throw std::runtime_error(source_ + ": a SentencePiece model must have " + expected + ", got " + got);
  }

  std::string source_;
  std::vector<std::string> pieces_;  // of the ids from 256 on
  std::vector<std::int32_t> ids_;    // of the numbers of the file
  std::array<bool, 256> bytes_{};    // which byte pieces the file has
  int unknown_ = 0;
};

}  // namespace hsm::inline HSM_ABI
