// SPDX-License-Identifier: MIT
//
// What the demonstration learns from: stories that it writes itself, or a file. Both come as a text to train on
// and one to validate on; stories also name the places where a word must be recalled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/io/byte_tokenizer.hpp>

#include "examples/hsm_lm/texts.hpp"
#include "examples/support/stories.hpp"

namespace hsm::examples {

/// A text in two parts.
struct DemoText {
  std::string training, validation;
  std::vector<Recall> recalls;  ///< in `validation`; none for a file
};

/// Stories of the built-in grammar. No two names that meet in a validation story meet in a training story.
inline DemoText story_text(std::uint64_t seed) {
  constexpr std::size_t kTraining = 2'000'000, kValidation = 100'000;
  StorySet training = make_stories({.bytes = kTraining, .seed = seed, .split = Split::train});
  StorySet validation = make_stories({.bytes = kValidation, .seed = seed, .split = Split::validation});
  return {std::move(training.text), std::move(validation.text), std::move(validation.recalls)};
}

/// A file; its last 5 %, 200 kB at most, are for validation. Throws std::runtime_error for a file that cannot
/// be read and std::invalid_argument for one that is too short for windows of `context` bytes.
inline DemoText file_text(const std::string& path, Index context) {
  std::string text = read_text(path);
  const std::size_t held_out = std::min<std::size_t>(text.size() / 20, 200'000);
  const auto least = static_cast<std::size_t>(20 * context + 40);
  if (text.size() < least) {
    throw std::invalid_argument(path + ": the demonstration needs at least " + std::to_string(least) +
                                " bytes, got " + std::to_string(text.size()));
  }
  DemoText parts;
  parts.validation = text.substr(text.size() - held_out);
  text.resize(text.size() - held_out);
  parts.training = std::move(text);
  return parts;
}

}  // namespace hsm::examples
