// SPDX-License-Identifier: MIT
//
// Learns the pieces of a SentencePiece BPE model from a text:
//
//   const SentencePieceTokenizer tokenizer = train_sentencepiece(text, 1024);
//
// The vocabulary is exactly the number asked for: 256 bytes, the characters of more than one byte that make up
// all but 0.05 % of the text's characters, and merged pieces of at most 16 characters. What is no word
// (io/sentencepiece_text.hpp) is not learned from. One thread and no random choice: the same text gives the same
// bytes. Needs the library, as `SentencePieceTokenizer` does; its log is silenced. Cost: a few seconds for some
// MB of text, memory of some times its size. Errors: std::invalid_argument for a vocabulary that the text or a
// model does not allow, std::runtime_error if the library fails.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/io/sentencepiece_tokenizer.hpp>

#if defined(HSM_USE_SENTENCEPIECE)
#include <sentencepiece_trainer.h>
#endif

namespace hsm::inline HSM_ABI {
namespace detail {
inline namespace HSM_DETAIL_PIECES {

/// The characters that pieces are made of: those of one byte, and the frequent ones of more.
class PieceAlphabet {
 public:
  explicit PieceAlphabet(std::string_view text) {
    std::unordered_map<std::string_view, std::uint64_t> counts;
    std::uint64_t all = 0;
    cut_words(
        text,
        [&](std::string_view word) {
          for (std::string_view rest = word; !rest.empty(); ++all) {
            const std::size_t length = character_bytes(rest);
            ++counts[rest.substr(0, length)];
            rest.remove_prefix(length);
          }
        },
        [](std::string_view) {});
    std::vector<std::pair<std::uint64_t, std::string_view>> rare;
    for (const auto& [character, count] : counts) {
      if (character.size() == 1) {
        ++single_;
      } else {
        rare.emplace_back(count, character);
      }
    }
    std::sort(rare.begin(), rare.end());
    constexpr std::uint64_t kShare = 2000;  // one in so many characters may be left to bytes
    std::uint64_t left = all / kShare;
    std::size_t first = 0;
    for (; first < rare.size() && rare[first].first <= left; ++first) left -= rare[first].first;
    for (; first < rare.size(); ++first) several_.insert(rare[first].second);
  }

  bool contains(std::string_view character) const {
    return character.size() == 1 || several_.contains(character);
  }
  /// How many have one byte, and more than one.
  std::int32_t single() const { return single_; }
  std::int32_t several() const { return static_cast<std::int32_t>(several_.size()); }

 private:
  std::int32_t single_ = 0;
  std::set<std::string_view> several_;
};

/// Whether a text begins with a mark of SentencePiece, "<unk>" or that of a byte, "<0x41>".
inline bool begins_with_mark(std::string_view text) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.starts_with("<unk>") || (text.size() >= 6 && text.starts_with("<0x") && is_digit(text[3]) &&
                                       is_digit(text[4]) && text[5] == '>');
}

/// The text as SentencePiece learns from it: words of the alphabet, joined where they meet in the text, and cut within
/// its marks, from which it would not learn.
inline std::vector<std::string> training_sentences(std::string_view text, const PieceAlphabet& alphabet) {
  constexpr std::size_t kEnough = 2048;
  std::vector<std::string> sentences;
  std::string sentence;
  const auto end = [&] {
    std::size_t first = 0;
    for (std::size_t at = sentence.find('<'); at != std::string::npos; at = sentence.find('<', at + 1)) {
      if (!begins_with_mark(std::string_view(sentence).substr(at))) continue;
      sentences.push_back(sentence.substr(first, at + 1 - first));
      first = at + 1;
    }
    if (first < sentence.size()) sentences.push_back(sentence.substr(first));
    sentence.clear();
  };
  cut_words(
      text,
      [&](std::string_view word) {
        if (word[0] != ' ' || sentence.size() > kEnough) end();  // a long word must not grow together again
        for (std::string_view rest = word; !rest.empty();) {
          const std::string_view character = rest.substr(0, character_bytes(rest));
          if (alphabet.contains(character)) {
            sentence += character;
          } else {
            end();
          }
          rest.remove_prefix(character.size());
        }
      },
      [&](std::string_view) { end(); });
  end();
  return sentences;
}

#if defined(HSM_USE_SENTENCEPIECE)
/// Hands the sentences to the library.
class SentenceList final : public sentencepiece::SentenceIterator {
 public:
  explicit SentenceList(const std::vector<std::string>& sentences) : sentences_(sentences) {}
  bool done() const override { return next_ >= sentences_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return sentences_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& sentences_;
  std::size_t next_ = 0;
};

inline std::string run_sentencepiece(const std::vector<std::string>& sentences, std::int32_t pieces) {
  const std::unordered_map<std::string, std::string> options{
      {"minloglevel", "3"},  // nothing but what ends the program
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(pieces)},
      {"hard_vocab_limit", "false"},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"character_coverage", "1"},
      {"max_sentence_length", "1048576"},
      {"input_sentence_size", "0"},
      {"shuffle_input_sentence", "false"},
      {"num_threads", "1"},
      {"unk_id", "0"},
      {"bos_id", "-1"},
      {"eos_id", "-1"},
      {"pad_id", "-1"}};
  SentenceList list(sentences);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &list, &model);
  if (!status.ok()) {
    throw std::runtime_error("train_sentencepiece: SentencePiece cannot learn from this text, it says " +
                             in_quotes(status.message()));
  }
  return model;
}
#else
inline std::string run_sentencepiece(const std::vector<std::string>&, std::int32_t) {
  refuse_without_sentencepiece("train_sentencepiece: learning pieces");
}
#endif

}  // namespace HSM_DETAIL_PIECES
}  // namespace detail

inline namespace HSM_DETAIL_PIECES {

/// The tokenizer with `vocabulary` ids that fits `text` best. Throws std::invalid_argument if `vocabulary` is not
/// between 257 and what `text` has pieces for, or the text has no words.
inline SentencePieceTokenizer train_sentencepiece(std::string_view text, std::int32_t vocabulary) {
  const auto refuse = [&](const std::string& expected) {
    throw std::invalid_argument("train_sentencepiece: the vocabulary must be " + expected + ", got " +
                                std::to_string(vocabulary));
  };
  if (!SentencePieceTokenizer::kAvailable)
    detail::refuse_without_sentencepiece("train_sentencepiece: learning pieces");
  constexpr std::int32_t kMost = std::int32_t{1} << 20;
  if (vocabulary > kMost) refuse("at most " + std::to_string(kMost));
  const detail::PieceAlphabet alphabet(text);
  const std::int32_t least = ByteTokenizer::kVocabulary + (std::max)(alphabet.several(), std::int32_t{1});
  if (vocabulary < least) {
    refuse("at least " + std::to_string(least) + " for this text, 256 bytes and " +
           (alphabet.several() > 0
                ? detail::counted(alphabet.several(), "character") + " of more than one byte"
                : std::string("a piece")));
  }
  const std::vector<std::string> sentences = detail::training_sentences(text, alphabet);
  if (sentences.empty())
    throw std::invalid_argument("train_sentencepiece: the text must have words to learn pieces from, got " +
                                detail::counted(text.size(), "byte") + " without any");
  // The model has a piece for unknown characters, and one for each character of one byte, whose id is its byte.
  SentencePieceTokenizer tokenizer(detail::run_sentencepiece(sentences, vocabulary + 1 + alphabet.single()),
                                   "train_sentencepiece");
  if (tokenizer.vocabulary() != vocabulary) {
    refuse("at most " + std::to_string(tokenizer.vocabulary()) +
           " for this text, which has no more pieces that come twice");
  }
  return tokenizer;
}

}  // namespace HSM_DETAIL_PIECES
}  // namespace hsm::inline HSM_ABI
