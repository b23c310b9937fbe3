// SPDX-License-Identifier: MIT
//
// The words of a command line as CLI11 is to read them. CLI11 drops an empty value behind "=" and takes the next word
// for it, whatever that is; and of an option that is given twice it says "At Most 1 required but received 2".
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace hsm::examples {

/// What `command.parse` takes, the last word first: "--name=" has become "--name" and an empty word. Throws
/// std::invalid_argument for an option that is given twice, and for a flag with an empty value.
inline std::vector<std::string> words_of(const CLI::App& command, int argc, const char* const* argv) {
  std::vector<std::string> words;
  std::set<const CLI::Option*> given;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const CLI::Option* option = name.starts_with("--") ? command.get_option_no_throw(name) : nullptr;
    if (option == nullptr) {
      words.push_back(word);
      continue;
    }
    const bool empty = equals + 1 == word.size(), flag = option->get_items_expected_max() == 0;
    if (flag && empty) throw std::invalid_argument(name + " must be true or false behind =, got ''");
    if (option->get_items_expected_max() == 1 && !given.insert(option).second)
      throw std::invalid_argument(name + " is given twice");
    words.push_back(empty ? name : word);
    if (empty) words.emplace_back();
    // The next word is its value, even if it looks like an option.
    if (!flag && equals == std::string::npos && i + 1 < argc) words.emplace_back(argv[++i]);
  }
  std::reverse(words.begin(), words.end());
  return words;
}

}  // namespace hsm::examples
