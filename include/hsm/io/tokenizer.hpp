// SPDX-License-Identifier: MIT
//
// What turns text into token ids and back.
//
//   vocabulary()   V: the ids are 0 ... V-1
//   encode(text)   ids of any bytes at all, of text that is no UTF-8 too
//   piece(id)      the bytes that an id stands for; std::out_of_range for an id that is none
//
// The pieces of encode(text), joined together, are the text, byte for byte. So text can be shown while it is
// generated: push the bytes of each piece through `Utf8Stream`.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI {

/// Turns any bytes into token ids, and each id into its bytes.
template <class Type>
concept Tokenizer = requires(const Type& tokenizer, std::string_view text, std::int32_t id) {
  { tokenizer.vocabulary() } -> std::same_as<std::int32_t>;
  { tokenizer.encode(text) } -> std::same_as<std::vector<std::int32_t>>;
  { tokenizer.piece(id) } -> std::same_as<std::string_view>;
};

namespace detail {

/// Throws std::out_of_range for an id outside [0,V); `who` starts the message.
inline void check_token(std::string_view who, std::int32_t id, std::int32_t V) {
  if (id >= 0 && id < V) return;
  throw std::out_of_range(std::string(who) + " must be in 0.." + std::to_string(V - 1) + ", got " +
                          std::to_string(id));
}

/// The pieces of all `ids` joined together; `who` is the name of the tokenizer. Throws std::out_of_range, naming
/// the position, for an id that is none.
template <Tokenizer Type>
std::string join_pieces(std::string_view who, const Type& tokenizer, std::span<const std::int32_t> ids) {
  std::string text;
  text.reserve(ids.size());
  for (std::size_t position = 0; position < ids.size(); ++position) {
    const std::int32_t id = ids[position], V = tokenizer.vocabulary();
    if (id < 0 || id >= V)
      check_token(std::string(who) + "::decode: id at position " + std::to_string(position), id, V);
    text += tokenizer.piece(id);
  }
  return text;
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
