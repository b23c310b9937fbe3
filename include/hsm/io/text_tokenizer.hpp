// SPDX-License-Identifier: MIT
//
// The tokenizer of a model file, whichever it is: bytes, or the SentencePiece model in the file.
//
//   const SafetensorsFile file = SafetensorsFile::load("tales.safetensors");
//   const auto model = read_model<LanguageModel<float>>(file);
//   const TextTokenizer tokenizer = read_tokenizer(file);
//
// Errors: std::runtime_error for a file whose tokenizer is broken, or needs SentencePiece in a program that was
// built without.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/io/fingerprint.hpp>
#include <hsm/io/model_file.hpp>
#include <hsm/io/sentencepiece_tokenizer.hpp>

namespace hsm::inline HSM_ABI {
inline namespace HSM_DETAIL_PIECES {

/// Bytes, unless it is given another tokenizer.
class TextTokenizer {
 public:
  /// Bytes.
  TextTokenizer() = default;
  /// The pieces of `pieces`.
  explicit TextTokenizer(SentencePieceTokenizer pieces) : pieces_(std::move(pieces)) {}

  /// Whether a token is a byte.
  bool is_bytes() const { return !pieces_; }

  /// The number of different ids, V.
  std::int32_t vocabulary() const { return pieces_ ? pieces_->vocabulary() : ByteTokenizer::vocabulary(); }
  /// The ids of `text`, whatever its bytes.
  std::vector<std::int32_t> encode(std::string_view text) const {
    return pieces_ ? pieces_->encode(text) : ByteTokenizer::encode(text);
  }
  /// The bytes of one id. Throws std::out_of_range for an id outside [0,V).
  std::string_view piece(std::int32_t id) const {
    return pieces_ ? pieces_->piece(id) : ByteTokenizer::piece(id);
  }
  /// The pieces of all ids. Throws std::out_of_range, naming the position, for an id outside [0,V).
  std::string decode(std::span<const std::int32_t> ids) const {
    return pieces_ ? pieces_->decode(ids) : ByteTokenizer::decode(ids);
  }

  /// What a model file holds of it: the SentencePiece model, or nothing for bytes.
  std::string_view model() const { return pieces_ ? std::string_view(pieces_->model()) : std::string_view(); }

 private:
  std::optional<SentencePieceTokenizer> pieces_;
};

static_assert(Tokenizer<ByteTokenizer> && Tokenizer<SentencePieceTokenizer> && Tokenizer<TextTokenizer>);

/// The tokenizer of a model file that is already in memory: bytes where it names none. Throws as load_tokenizer
/// does.
inline TextTokenizer read_tokenizer(const SafetensorsFile& file) {
  const std::optional<std::string_view> stored = detail::stored_tokenizer(file);
  if (!stored) return TextTokenizer();
  return TextTokenizer(SentencePieceTokenizer(std::string(*stored), file.source()));
}

/// The tokenizer of the model file at `path`. Throws std::runtime_error, naming file, what was expected and what
/// came.
inline TextTokenizer load_tokenizer(const std::filesystem::path& path) {
  return read_tokenizer(SafetensorsFile::load(path));
}

}  // namespace HSM_DETAIL_PIECES
}  // namespace hsm::inline HSM_ABI
