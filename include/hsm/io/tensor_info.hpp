// SPDX-License-Identifier: MIT
//
// What a safetensors file says about one tensor, and the limits that reading and writing share.
//
// A tensor is row-major and fills data_offsets [begin, end) without a hole: end - begin = product(shape) *
// dtype_size(dtype).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/io/dtype.hpp>

namespace hsm::inline HSM_ABI {

/// One tensor of a safetensors file. `begin` and `end` are byte offsets into the data that follows the
/// header.
struct TensorInfo {
  /// Unique in its file.
  std::string name;
  /// The type of its elements.
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  ///< Row-major, slowest first; empty for a single number.
  /// Offset of the first byte.
  std::uint64_t begin = 0;
  /// Offset behind the last byte.
  std::uint64_t end = 0;
};

namespace detail {

/// The key of the header that holds the metadata and can be no tensor's name.
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// Longest header that is read or written, as in the reference implementation of the format.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

/// Longest shape that is read or written.
inline constexpr std::size_t kMaxRank = 64;

/// `[2,3]`.
inline std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ",") + std::to_string(shape[i]);
  return text + "]";
}

/// Bytes of a tensor, or nothing if a dimension is negative or a running product passes 2^63 - 1.
inline std::optional<std::uint64_t> tensor_bytes(const std::vector<std::int64_t>& shape, DType dtype) {
  constexpr std::uint64_t kLimit = (std::numeric_limits<std::int64_t>::max)();
  std::uint64_t bytes = dtype_size(dtype);
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    const auto factor = static_cast<std::uint64_t>(dimension);
    if (factor != 0 && bytes > kLimit / factor) return std::nullopt;
    bytes *= factor;
  }
  return bytes;
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
