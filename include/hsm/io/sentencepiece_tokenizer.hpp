// SPDX-License-Identifier: MIT
//
// Byte-pair encoding by SentencePiece (arXiv 1808.06226; the library, 0.1.97 or newer), lossless for any bytes:
// the ids are those of `SentencePieceVocabulary`, 256 bytes and then the pieces. Each word is encoded by the
// library and compared with its pieces; where they differ in a bit, and for what is no word
// (io/sentencepiece_text.hpp), bytes stand for it. No id stands for unknown, begin, end or padding.
//
// Needs HSM_USE_SENTENCEPIECE, which the CMake target hsm::sentencepiece defines, and the library; without it the
// class is there and its constructor throws. Cost of encode: O(bytes), and the library once per different word.
// Errors: std::runtime_error for a model that is none or that changes text, std::out_of_range for an id that is
// none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(HSM_USE_SENTENCEPIECE)
#include <sentencepiece_processor.h>
#define HSM_DETAIL_PIECES with_sentencepiece
#else
#define HSM_DETAIL_PIECES without_sentencepiece
#endif

#include <hsm/core/quote.hpp>
#include <hsm/io/byte_tokenizer.hpp>
#include <hsm/io/sentencepiece_text.hpp>
#include <hsm/io/sentencepiece_vocabulary.hpp>

namespace hsm::inline HSM_ABI {
namespace detail {

/// The message of a program without the library.
[[noreturn]] inline void refuse_without_sentencepiece(const std::string& what) {
  throw std::runtime_error(what + " needs SentencePiece, and this program was built without it");
}

}  // namespace detail

inline namespace HSM_DETAIL_PIECES {  // units of one program may differ in it

/// Text as pieces that SentencePiece learned, and bytes for everything else.
class SentencePieceTokenizer {
 public:
#if defined(HSM_USE_SENTENCEPIECE)
  /// Whether this program was built with SentencePiece.
  static constexpr bool kAvailable = true;
#else
  /// Whether this program was built with SentencePiece.
  static constexpr bool kAvailable = false;
#endif

  /// `model`: the bytes of a model file, as `train_sentencepiece` gives them; `source` starts the messages.
  explicit SentencePieceTokenizer(std::string model, const std::string& source = "SentencePieceTokenizer");

  /// The number of different ids, V.
  std::int32_t vocabulary() const { return vocabulary_.count(); }

  /// The ids of `text`, whatever its bytes.
  std::vector<std::int32_t> encode(std::string_view text) const;

  /// The bytes of one id. Throws std::out_of_range for an id outside [0,V).
  std::string_view piece(std::int32_t id) const {
    detail::check_token("SentencePieceTokenizer::piece: id", id, vocabulary());
    return vocabulary_.piece(id);
  }

  /// The pieces of all ids. Throws std::out_of_range, naming the position, for an id outside [0,V).
  std::string decode(std::span<const std::int32_t> ids) const {
    return detail::join_pieces("SentencePieceTokenizer", *this, ids);
  }

  /// The bytes of its model file.
  const std::string& model() const { return model_; }

 private:
  void append_word(std::string_view word, std::vector<std::int32_t>& ids) const;
  static void append_bytes(std::string_view bytes, std::vector<std::int32_t>& ids) {
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  }
  static const std::string& needed(const std::string& source);

  std::string model_;
  SentencePieceVocabulary vocabulary_;
#if defined(HSM_USE_SENTENCEPIECE)
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
#endif
};

inline const std::string& SentencePieceTokenizer::needed(const std::string& source) {
  if (!kAvailable) detail::refuse_without_sentencepiece(source + ": its tokenizer");
  return source;
}

inline SentencePieceTokenizer::SentencePieceTokenizer(std::string model, const std::string& source)
    : model_(std::move(model)), vocabulary_(model_, needed(source)) {
#if defined(HSM_USE_SENTENCEPIECE)
  auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(model_);
  if (!status.ok()) {
    throw std::runtime_error(source + ": must be a model that SentencePiece takes, and it says " +
                             detail::in_quotes(status.message()));
  }
  processor_ = std::move(processor);
#endif
}

inline std::vector<std::int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  struct Place {
    std::size_t first, count;
  };
  std::vector<std::int32_t> ids;
  std::unordered_map<std::string_view, Place> known;  // where the ids of a word are
  detail::cut_words(
      text,
      [&](std::string_view word) {
        const auto [found, fresh] = known.try_emplace(word, Place{ids.size(), 0});
        Place& place = found->second;
        if (fresh) {
          append_word(word, ids);
          place.count = ids.size() - place.first;
        } else {
          for (std::size_t i = 0; i < place.count; ++i) {
            const std::int32_t id = ids[place.first + i];  // a copy: ids grows
            ids.push_back(id);
          }
        }
      },
      [&](std::string_view bytes) { append_bytes(bytes, ids); });
  return ids;
}

inline void SentencePieceTokenizer::append_word([[maybe_unused]] std::string_view word,
                                                [[maybe_unused]] std::vector<std::int32_t>& ids) const {
#if defined(HSM_USE_SENTENCEPIECE)
  std::vector<int> numbers;
  const std::size_t before = ids.size();
  std::string_view rest = word;
  bool same = processor_->Encode(word, &numbers).ok();
  for (std::size_t i = 0; same && i < numbers.size(); ++i) {
    const std::int32_t id = vocabulary_.id_of(numbers[i]);
    same = id >= 0 && rest.starts_with(vocabulary_.piece(id));
    if (!same) break;
    rest.remove_prefix(vocabulary_.piece(id).size());
    ids.push_back(id);
  }
  if (same && rest.empty()) return;
  ids.resize(before);
  append_bytes(word, ids);
#endif
}

}  // namespace HSM_DETAIL_PIECES
}  // namespace hsm::inline HSM_ABI
