// SPDX-License-Identifier: MIT
//
// The texts that a model is trained and validated on, as tokens, and losses per byte of them:
//
//   bits per byte = nats per token * tokens / bytes / ln 2
//
// with the bytes of those tokens that are predicted. It does not depend on the tokenizer, which nats per token do.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <hsm/io/text_file.hpp>
#include <hsm/io/text_tokenizer.hpp>

#include "examples/hsm_lm/model.hpp"
#include "examples/support/process.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// The bytes of all `ids` together.
inline std::size_t bytes_of(const TextTokenizer& tokenizer, std::span<const std::int32_t> ids) {
  if (tokenizer.is_bytes()) return ids.size();
  std::size_t bytes = 0;
  for (const std::int32_t id : ids) bytes += tokenizer.piece(id).size();
  return bytes;
}

/// The texts as token ids, and what gave the ids.
struct Texts {
  std::vector<std::int32_t> training, validation;
  TextTokenizer tokenizer{};
  std::size_t training_bytes = 0, validation_bytes = 0;

  /// A validation loss in nats per token as bits per byte: `validation_tokens` of the validation text are predicted
  /// at most, 0 for all, and their bytes count.
  double validation_bits(double nats, Index validation_tokens) const {
    std::size_t predicted = validation.size() - 1;
    if (validation_tokens > 0) predicted = std::min(predicted, static_cast<std::size_t>(validation_tokens));
    const std::size_t bytes = bytes_of(tokenizer, std::span(validation).subspan(1, predicted));
    return nats / std::numbers::ln2 * static_cast<double>(predicted) / static_cast<double>(bytes);
  }

  /// "2850 bytes", and "900 tokens of 2850 bytes" where they differ.
  std::string training_size() const { return size_text(training.size(), training_bytes); }
  /// "150", and the same.
  std::string validation_size() const {
    return tokenizer.is_bytes() ? std::to_string(validation.size())
                                : size_text(validation.size(), validation_bytes);
  }

 private:
  std::string size_text(std::size_t tokens, std::size_t bytes) const {
    const std::string text = counted(bytes, "byte");
    return tokenizer.is_bytes() ? text : counted(tokens, "token") + " of " + text;
  }
};

/// Reads a text; tells that it waits where it may have to. Throws std::runtime_error for a device that is no terminal:
/// it may have no end.
inline std::string read_text(const std::string& path) {
  std::error_code none;
  const auto status = std::filesystem::status(path, none);
  const bool device = std::filesystem::is_character_file(status) || std::filesystem::is_block_file(status);
  if (device && !is_terminal(path))
    throw std::runtime_error(path + ": must be a file or a pipe to read a text from, got a device");
  if (std::filesystem::is_fifo(status))
    std::fprintf(stderr, "hsm_lm: reading the pipe %s until its end\n", shown(path).c_str());
  return read_text_file(path);
}

/// The bytes to train on, and those to validate on.
struct SplitText {
  std::string training{}, validation{};
};

/// Reads the text and, unless `valid` is empty and the last 5 % of the text stand for it, the validation text.
inline SplitText read_split_text(const std::string& path, const std::string& valid) {
  SplitText text{read_text(path)};
  if (!valid.empty()) {
    text.validation = read_text(valid);
    return text;
  }
  const std::size_t cut = text.training.size() - text.training.size() / 20;
  text.validation = text.training.substr(cut);
  text.training.resize(cut);
  return text;
}

/// The tokenizer in the file at `path`; bytes for an empty path. Throws std::runtime_error.
inline TextTokenizer load_tokenizer_file(const std::string& path) {
  if (path.empty()) return TextTokenizer();
  return TextTokenizer(SentencePieceTokenizer(read_text(path), path));
}

/// The texts of read_split_text as tokens. Throws std::invalid_argument if they are too short for windows of `context` tokens.
inline Texts read_texts(const std::string& path, const std::string& valid, Index context,
                        TextTokenizer tokenizer) {
  const SplitText text = read_split_text(path, valid);
  Texts texts{tokenizer.encode(text.training), tokenizer.encode(text.validation), std::move(tokenizer),
              text.training.size(), text.validation.size()};
  const std::string unit = unit_of(texts.tokenizer);
  const auto got = static_cast<Index>(texts.training.size());
  if (got <= context) {
    throw std::invalid_argument(path + ": a context of " + std::to_string(context) + " needs more than " +
                                counted(context, unit) + " to train on, got " + std::to_string(got) +
                                (valid.empty() ? " without the last 5 %" : ""));
  }
  if (texts.validation.size() < 2) {
    throw std::invalid_argument((valid.empty() ? path + ": the last 5 %, for validation," : valid + ":") +
                                " must have at least 2 " + unit + "s, got " +
                                std::to_string(texts.validation.size()));
  }
  return texts;
}

}  // namespace hsm::examples
