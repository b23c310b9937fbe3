// SPDX-License-Identifier: MIT
//
// What `hsm_lm compare` learns from and is tested on, as tokens. The text to validate on is used in two halves: the
// first chooses learning rates, the second is what is reported.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/io/fingerprint.hpp>

#include "examples/hsm_lm/texts.hpp"
#include "examples/support/stories.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// The texts of one comparison.
struct CompareTexts {
  std::vector<std::int32_t> training{}, selection{}, report{};
  Index vocabulary = 0;
  double bytes_per_token = 1;  ///< of the reported half
  std::string what{};          ///< for people, without the path of a machine
  std::string fingerprint{};   ///< of all tokens
};

/// Where texts come from: files, or stories of the built-in grammar where there are none.
struct CompareSources {
  std::string text{}, valid{};  ///< without `valid` the last 5 % of the text are it
  std::string tokenizer{};      ///< a file of hsm_lm tokenize; bytes without
  std::size_t story_bytes = 0;  ///< to train on; a tenth as many to validate
};

namespace detail {

inline SplitText compare_bytes(const CompareSources& sources) {
  if (sources.text.empty()) {
    const auto stories = [](std::size_t bytes, Split split) {
      return make_stories({.bytes = bytes, .seed = 1, .split = split}).text;
    };
    return {stories(sources.story_bytes, Split::train), stories(sources.story_bytes / 10, Split::validation)};
  }
  return read_split_text(sources.text, sources.valid);
}

}  // namespace detail

/// Reads the texts; this is the only place that knows what a token is. Throws std::runtime_error for a file that
/// cannot be read, std::invalid_argument for one with too little in it for windows of `context` tokens.
inline CompareTexts read_compare_texts(const CompareSources& sources, Index context) {
  const SplitText bytes = detail::compare_bytes(sources);
  CompareTexts texts;
  const TextTokenizer tokenizer = load_tokenizer_file(sources.tokenizer);
  texts.vocabulary = tokenizer.vocabulary();
  texts.training = tokenizer.encode(bytes.training);
  const std::size_t half = bytes.validation.size() / 2;
  const std::string_view validation = bytes.validation, reported = validation.substr(half);
  texts.selection = tokenizer.encode(validation.substr(0, half));
  texts.report = tokenizer.encode(reported);
  if (texts.training.size() <= static_cast<std::size_t>(context)) {
    throw std::invalid_argument((sources.text.empty() ? "the stories" : sources.text) + ": a context of " +
                                std::to_string(context) + " needs more tokens than that to train on, got " +
                                std::to_string(texts.training.size()));
  }
  if (texts.selection.size() < 2 || texts.report.size() < 2) {
    throw std::invalid_argument(
        (sources.valid.empty() ? sources.text + ": the last 5 %, for validation," : sources.valid + ":") +
        " must have at least 2 tokens in each half, got " + std::to_string(texts.selection.size()) + " and " +
        std::to_string(texts.report.size()));
  }
  texts.bytes_per_token = static_cast<double>(reported.size()) / static_cast<double>(texts.report.size());
  const std::string name = sources.text.empty()
                               ? "built-in stories"
                               : shown(std::filesystem::path(sources.text).filename().string());
  texts.what = format("%s: %zu bytes to train on, %zu to choose rates, %zu to report", name.c_str(),
                      bytes.training.size(), half, reported.size());
  if (!tokenizer.is_bytes()) texts.what += format("; a vocabulary of %td", texts.vocabulary);
  Fnv1a64 hash;
  for (const auto* ids : {&texts.training, &texts.selection, &texts.report}) {
    hash.add(std::to_string(ids->size()));  // or another cut of the same text would have the same mark
    hash.add(std::as_bytes(std::span(*ids)));
  }
  texts.fingerprint = hash.text();
  return texts;
}

}  // namespace hsm::examples
