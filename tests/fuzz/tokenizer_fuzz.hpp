// SPDX-License-Identifier: MIT
//
// Tokenizer files: the bytes of a SentencePiece model. What is not refused with std::runtime_error has 256 bytes and
// pieces of UTF-8 as its ids. Where the library is there, what it takes besides has these ids, and the pieces of any
// text are the text.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/sentencepiece_tokenizer.hpp>
#include <hsm/io/sentencepiece_vocabulary.hpp>

#include "fuzz/property.hpp"
#include "fuzz/text_fuzz.hpp"

namespace hsm::test {

/// Encodes `text` and puts it together again.
inline void require_lossless(const SentencePieceTokenizer& tokenizer, const std::string& text) {
  require(tokenizer.decode(tokenizer.encode(text)) == text, "the pieces of a text must be the text");
}

/// Returns whether `input` is a tokenizer file.
inline bool fuzz_tokenizer(Input input) {
  const std::string model = text_of(input);
  std::vector<SentencePieceVocabulary> read;
  if (!accepts<std::runtime_error>("file: ", [&] { read.emplace_back(model, "file"); })) return false;
  const SentencePieceVocabulary& vocabulary = read[0];
  const std::int32_t V = vocabulary.count();
  require(V >= ByteTokenizer::kVocabulary, "there must be an id for every byte");
  std::string all;
  for (std::int32_t id = 0; id < V; ++id) {
    const std::string_view piece = vocabulary.piece(id);
    require(id < ByteTokenizer::kVocabulary ? piece.size() == 1 : piece.size() > 1 && is_utf8(piece),
            "an id must stand for a byte, or for text of two bytes or more");
    all += piece;
  }
  // Numbers of the file: byte pieces are numbers too, so there are no more than bytes of the file.
  const auto numbers = static_cast<std::int32_t>(model.size());
  for (std::int32_t number = -1; number <= numbers; ++number) {
    const std::int32_t id = vocabulary.id_of(number);
    require(id >= -1 && id < V, "a number of the file must be an id or none");
  }
  if (!SentencePieceTokenizer::kAvailable) return true;

  std::vector<SentencePieceTokenizer> tokenizer;
  if (!accepts<std::runtime_error>("file: ", [&] { tokenizer.emplace_back(model, "file"); })) {
    return false;  // what the reader lets pass, such as options of the library's, and the library does not
  }
  require(tokenizer[0].vocabulary() == V, "the tokenizer must have the ids of its file");
  require_lossless(tokenizer[0], all);
  require_lossless(tokenizer[0], model.substr(0, 300));
  require_lossless(tokenizer[0], "the cat  sat.\n\n the\tcat\xC3\xA9 \xE2\x96\x81 sat");
  return true;
}

}  // namespace hsm::test
