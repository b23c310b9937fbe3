// SPDX-License-Identifier: MIT
//
// Mutations of safetensors files for libFuzzer: header and data are changed apart, and most of the time the
// length before the header is set right again. Plain mutations would nearly all end at that length.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace hsm::test {

/// Changes a file at data[prefix...]; the bytes before it belong to the target.
inline std::size_t mutate_safetensors(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                      unsigned seed, std::size_t prefix) {
  const std::size_t before = prefix + 8;
  std::uint64_t length = 0;
  if (size >= before) std::memcpy(&length, data + prefix, 8);
  if (seed % 16 == 0 || size < before || max_size < before || length > size - before)
    return LLVMFuzzerMutate(data, size, max_size);

  const std::size_t header = static_cast<std::size_t>(length), rest = size - before - header;
  if (seed % 4 != 0) {  // the header; the data moves with its end
    const std::vector<std::uint8_t> tail(data + before + header, data + size);
    const std::size_t grown = LLVMFuzzerMutate(data + before, header, max_size - before);
    const std::size_t kept = std::min(rest, max_size - before - grown);
    std::copy_n(tail.begin(), kept, data + before + grown);
    length = grown;
    std::memcpy(data + prefix, &length, 8);
    return before + grown + kept;
  }
  return before + header + LLVMFuzzerMutate(data + before + header, rest, max_size - before - header);
}

}  // namespace hsm::test

/// Defines libFuzzer's mutator for a target whose file begins at byte `prefix`.
#define HSM_FUZZ_SAFETENSORS(prefix)                                                                     \
  extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, \
                                                 unsigned seed);                                         \
  extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, \
                                                 unsigned seed) {                                        \
    return hsm::test::mutate_safetensors(data, size, most, seed, prefix);                                \
  }
