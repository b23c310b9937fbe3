// SPDX-License-Identifier: MIT
//
// The model of the tool, in float, and what its tokens are. Its code is compiled once, in model.cpp.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include <hsm/io/model_file.hpp>
#include <hsm/io/text_tokenizer.hpp>
#include <hsm/model/language_model.hpp>

extern template class hsm::LanguageModel<float>;

namespace hsm::examples {

using Model = LanguageModel<float>;

/// A model and the tokenizer that gives its ids their meaning.
struct TextModel {
  Model model;
  TextTokenizer tokenizer;
};

/// "byte" or "token": what a text of this tokenizer is counted in.
inline std::string unit_of(const TextTokenizer& tokenizer) { return tokenizer.is_bytes() ? "byte" : "token"; }

/// Throws std::runtime_error for a pipe or a device, which opening could wait for without end.
inline void check_regular(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
      !std::filesystem::is_directory(status))
    throw std::runtime_error(path + ": must be a regular file, got a pipe or a device");
}

namespace detail {

/// The model in a file; throws std::runtime_error for one whose ids are neither bytes nor those of a tokenizer.
inline Model read_described_model(const SafetensorsFile& file) {
  Model model = read_model<Model>(file);
  if (model.config().vocabulary != ByteTokenizer::kVocabulary && !hsm::detail::stored_tokenizer(file)) {
    throw std::runtime_error(file.source() +
                             ": hsm_lm needs a model of bytes, with a vocabulary of 256, or one that brings "
                             "its tokenizer along, got " +
                             std::to_string(model.config().vocabulary) + " and none");
  }
  return model;
}

}  // namespace detail

/// The model in the file at `path`, to look at: its tokenizer is checked but not made. Throws as hsm::load_model
/// does, and std::runtime_error for a model whose tokens are neither bytes nor those of a tokenizer in the file.
inline Model load_described_model(const std::string& path) {
  check_regular(path);
  return detail::read_described_model(SafetensorsFile::load(path));
}

/// The model in the file at `path` and its tokenizer. Throws as load_described_model and hsm::load_tokenizer do.
inline TextModel load_text_model(const std::string& path) {
  check_regular(path);
  const SafetensorsFile file = SafetensorsFile::load(path);
  TextTokenizer tokenizer = read_tokenizer(file);
  return {detail::read_described_model(file), std::move(tokenizer)};
}

}  // namespace hsm::examples
