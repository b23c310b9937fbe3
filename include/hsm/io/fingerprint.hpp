// SPDX-License-Identifier: MIT
//
// A short text that tells one set of parameters from another, so that a state is not continued by a model
// that it does not belong to:
//
//   fnv1a-64:cbf29ce484222325      the name of the hash, and its 64 bits as 16 hexadecimal digits
//
// It covers a description (sizes, shifts), and of each tensor its name, shape, type and bytes: any change of
// a bit changes it, but for accidents of 1 in 2^64. It is no defence against somebody who means to deceive.
// O(bytes), about 1 ns per byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <hsm/core/narrow_matrix.hpp>
#include <hsm/io/dtype.hpp>
#include <hsm/layer/token_mixer.hpp>

namespace hsm::inline HSM_ABI {

/// The 64-bit Fowler-Noll-Vo hash, variant 1a, of all bytes that are added.
class Fnv1a64 {
 public:
  /// What the text begins with.
  static constexpr std::string_view kName = "fnv1a-64";

  /// Takes more bytes in.
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) {
      state_ ^= static_cast<std::uint64_t>(b);
      state_ *= 0x100000001B3ull;
    }
  }
  /// The bytes of `text` and where it ends.
  void add(std::string_view text) {
    add(std::as_bytes(std::span(text.data(), text.size())));
    constexpr std::byte kEnd{0};
    add(std::span(&kEnd, 1));
  }

  /// The hash of what was added so far.
  std::uint64_t value() const { return state_; }
  /// "fnv1a-64:" and 16 hexadecimal digits.
  std::string text() const {
    std::string result = std::string(kName) + ":";
    for (int shift = 60; shift >= 0; shift -= 4) result += "0123456789abcdef"[(state_ >> shift) & 15];
    return result;
  }

 private:
  std::uint64_t state_ = 0xCBF29CE484222325ull;
};

namespace detail {

/// Takes tensors into a hash, matrices in fewer bytes as they are stored: other weights than those they came from.
struct TensorHash {
  using SeesStorage = void;
  Fnv1a64& hash;

  template <class Tensor>
  void operator()(std::string_view name, const Tensor& tensor) const {
    add(name, dtype_of<typename Tensor::Scalar>(), tensor, tensor.rows(), tensor.cols());
  }
  template <class Matrix>
  void matrix(std::string_view name, const Matrix& weight, const NarrowMatrix& narrow) const {
    if (narrow.empty()) return (*this)(name, weight);
    if (narrow.storage() == Storage::kBfloat16)
      return add(name, DType::bf16, narrow.bfloat16s(), narrow.rows(), narrow.cols());
    add(name, DType::i8, narrow.int8s(), narrow.rows(), narrow.cols());
    add("scales", DType::f32, narrow.scales(), narrow.rows(), narrow.groups());
  }

 private:
  template <class Tensor>
  void add(std::string_view name, DType dtype, const Tensor& tensor, Index rows, Index columns) const {
    hash.add(name);
    hash.add(std::string(dtype_name(dtype)) + "," + std::to_string(rows) + "," + std::to_string(columns));
    hash.add(std::as_bytes(std::span(tensor.data(), static_cast<std::size_t>(tensor.size()))));
  }
};

}  // namespace detail

/// The fingerprint of parameters (anything with `visit`) under a description of what they are.
template <class Parameters>
std::string fingerprint(std::string_view description, const Parameters& parameters) {
  Fnv1a64 hash;
  hash.add(description);
  Parameters::visit(detail::TensorHash{hash}, parameters);
  return hash.text();
}

/// The fingerprint of a layer: its description and its parameters.
template <class Layer>
std::string fingerprint(const TokenMixer<Layer>& mixer) {
  return fingerprint(mixer.layer().description(), mixer);
}

}  // namespace hsm::inline HSM_ABI
