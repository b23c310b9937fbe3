// SPDX-License-Identifier: MIT
//
// What a session file of hsm_lm generate holds beside the session: where its text was cut.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include <hsm/io/session_file.hpp>
#include <hsm/io/text_tokenizer.hpp>

#include "examples/hsm_lm/options.hpp"
#include "examples/support/numbers.hpp"
#include "examples/support/terminal.hpp"

namespace hsm::examples {

/// What a session file tells besides the state. The same numbers mean other texts to another tokenizer, so its
/// fingerprint is a note too; bytes have none.
struct SessionText {
  std::optional<std::uint64_t> random, last;
  std::string pending;

  SessionText(const SessionNotes& notes, const TextTokenizer& tokenizer, const std::string& file) {
    constexpr Bounds<std::uint64_t> kByte{0, 255};
    const auto found = notes.find("tokenizer");
    const std::string own = fingerprint_of(tokenizer), got = found == notes.end() ? "" : found->second;
    if (got != own) {
      throw std::runtime_error(file + ": must be a session of the tokenizer of this model, " +
                               (own.empty() ? "bytes" : own) + ", got " +
                               (got.empty() ? "bytes" : hsm::detail::in_quotes(got)));
    }
    random = number_in(notes, "random", kSeeds, file);
    last = number_in(notes, "last", {0, static_cast<std::uint64_t>(tokenizer.vocabulary() - 1)}, file);
    for (const char* key : {"pending.0", "pending.1", "pending.2"}) {
      const auto byte = number_in(notes, key, kByte, file);
      if (!byte) break;
      pending += static_cast<char>(*byte);
    }
    if (TerminalText(pending).pending() != pending)
      throw std::runtime_error(file + ": the notes 'pending' must be the first bytes of a character");
  }

  /// Notes for a text that ends with token `last`, in the character of `pending`.
  static SessionNotes notes(const TextTokenizer& tokenizer, std::int32_t last, std::uint64_t random,
                            const std::string& pending) {
    SessionNotes notes{{"last", std::to_string(last)}, {"random", std::to_string(random)}};
    if (!tokenizer.is_bytes()) notes["tokenizer"] = fingerprint_of(tokenizer);
    for (std::size_t i = 0; i < pending.size(); ++i)
      notes["pending." + std::to_string(i)] = std::to_string(static_cast<unsigned char>(pending[i]));
    return notes;
  }

 private:
  static std::string fingerprint_of(const TextTokenizer& tokenizer) {
    return tokenizer.is_bytes() ? std::string() : hsm::detail::tokenizer_fingerprint(tokenizer.model());
  }

  static std::optional<std::uint64_t> number_in(const SessionNotes& notes, const std::string& key,
                                                const Bounds<std::uint64_t>& bounds,
                                                const std::string& file) {
    const auto found = notes.find(key);
    if (found == notes.end()) return std::nullopt;
    try {
      return read_number(found->second, bounds);
    } catch (const std::invalid_argument& error) {
      throw std::runtime_error(file + ": the note '" + key + "' " + error.what());
    }
  }
};

}  // namespace hsm::examples
