// SPDX-License-Identifier: MIT
//
// The model of the tool: bytes in float. Its code is compiled once, in model.cpp.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

#include <hsm/io/byte_tokenizer.hpp>
#include <hsm/io/model_file.hpp>
#include <hsm/model/language_model.hpp>

extern template class hsm::LanguageModel<float>;

namespace hsm::examples {

using Model = LanguageModel<float>;

/// Throws std::runtime_error for a pipe or a device, which opening could wait for without end.
inline void check_regular(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
      !std::filesystem::is_directory(status))
    throw std::runtime_error(path + ": must be a regular file, got a pipe or a device");
}

/// The model in the file at `path`. Throws as hsm::load_model does, and std::runtime_error for a model whose
/// tokens are not bytes.
inline Model load_byte_model(const std::string& path) {
  check_regular(path);
  Model model = load_model<Model>(path);
  if (model.config().vocabulary != ByteTokenizer::kVocabulary) {
    throw std::runtime_error(path + ": hsm_lm needs a model of bytes, with a vocabulary of 256, got " +
                             std::to_string(model.config().vocabulary));
  }
  return model;
}

}  // namespace hsm::examples
