// SPDX-License-Identifier: MIT
//
// Reads a safetensors file: 8 bytes with the length of the header (little-endian), the JSON header, the bytes
// of the tensors.
//
//   const auto file = SafetensorsFile::load("model.safetensors");
//   file.read("head.weight", {256, 64}, std::span<float>(weight));
//
// The header is checked as a whole before any data is read, and a loaded file is complete: every range lies
// inside the data. Cost O(bytes); the whole file is held in memory. Errors: std::runtime_error `path: what
// was expected, what came`.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/core/bfloat16.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/io/dtype.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/input_file.hpp>
#include <hsm/io/safetensors_header.hpp>
#include <hsm/io/tensor_info.hpp>

namespace hsm::inline HSM_ABI {

static_assert(
    std::endian::native == std::endian::little,
    "Safetensors files are little-endian and are copied byte for byte; this machine is not little-endian.");

/// A safetensors file in memory, checked and complete.
class SafetensorsFile {
 public:
  /// Keys and values of the optional `__metadata__`.
  using Metadata = std::map<std::string, std::string, std::less<>>;

  /// Reads the file at `path`. Throws std::runtime_error if it cannot be read or is not a correct file.
  static SafetensorsFile load(const std::filesystem::path& path);

  /// Takes the bytes of a whole file; `name` stands in messages where a path would.
  /// Throws std::runtime_error if they are not a correct file.
  static SafetensorsFile parse(std::vector<std::byte> bytes, std::string name);

  /// The metadata; empty if the file has none.
  const Metadata& metadata() const { return header_.metadata; }

  /// All tensors, in the order of their data.
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }

  /// The tensor called `name`, or nullptr.
  const TensorInfo* find(std::string_view name) const {
    const auto found = header_.index.find(name);
    return found == header_.index.end() ? nullptr : &header_.tensors[found->second];
  }

  /// The tensor called `name`. Throws std::runtime_error if there is none.
  const TensorInfo& at(std::string_view name) const {
    if (const TensorInfo* info = find(name)) return *info;
    throw std::runtime_error(source_ + ": tensor " + detail::in_quotes(name) + " is missing");
  }

  /// The bytes of a tensor of this file, row-major. They need not be aligned for its type.
  /// Throws std::out_of_range if `info` does not lie in this file.
  std::span<const std::byte> bytes(const TensorInfo& info) const;

  /// Copies the tensor `name`, row-major, into `out` as float or double.
  ///
  /// Stored as F64, F32, F16 or BF16; all conversions are exact but F64 to float, which rounds to nearest.
  /// Throws std::runtime_error, with `out` unchanged, if the tensor is missing, has another shape or another
  /// type, or if a finite F64 passes the range of float; std::invalid_argument if `out` has not as many
  /// elements as `expected_shape`.
  template <ComputeScalar Scalar>
  void read(std::string_view name, const std::vector<std::int64_t>& expected_shape,
            std::span<Scalar> out) const;

  /// The path or name that the file was read from.
  const std::string& source() const { return source_; }

 private:
  SafetensorsFile(std::string source, detail::SafetensorsHeader header, std::vector<std::byte> storage,
                  std::size_t data_begin)
      : source_(std::move(source)),
        header_(std::move(header)),
        storage_(std::move(storage)),
        data_begin_(data_begin) {}

  static constexpr std::size_t kPrefixBytes = 8;

  static std::uint64_t header_length(std::span<const std::byte> prefix, std::uint64_t file_bytes,
                                     const std::string& source);

  template <class Stored, class Scalar, class Convert>
  static void copy_elements(std::span<const std::byte> from, std::span<Scalar> to, Convert convert) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      Stored value;
      std::memcpy(&value, from.data() + i * sizeof(Stored), sizeof(Stored));
      to[i] = convert(value);
    }
  }

  template <class Scalar>
  void copy_doubles(const TensorInfo& info, std::span<Scalar> out) const;

  std::string source_;
  detail::SafetensorsHeader header_;
  std::vector<std::byte> storage_;  // the data begins at data_begin_
  std::size_t data_begin_ = 0;
};

inline std::uint64_t SafetensorsFile::header_length(std::span<const std::byte> prefix,
                                                    std::uint64_t file_bytes, const std::string& source) {
  if (prefix.size() < kPrefixBytes) {
    throw std::runtime_error(source + ": a safetensors file must have at least 8 bytes, got " +
                             std::to_string(prefix.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, prefix.data(), kPrefixBytes);
  const std::uint64_t room = file_bytes - kPrefixBytes;
  if (length > detail::kMaxHeaderBytes) {
    throw std::runtime_error(source + ": the header must have at most " +
                             std::to_string(detail::kMaxHeaderBytes) + " bytes, got the length " +
                             std::to_string(length));
  }
  if (length > room) {
    throw std::runtime_error(source + ": the header must fit into the file, which has " +
                             detail::counted(room, "byte") + " left, got the length " +
                             std::to_string(length));
  }
  return length;
}

inline SafetensorsFile SafetensorsFile::load(const std::filesystem::path& path) {
  std::string source = detail::path_text(path);
  InputFile file(path);
  const std::uint64_t file_bytes = file.size();
  const auto fill = [&](std::span<std::byte> buffer) {
    if (file.read(buffer) != buffer.size())
      throw std::runtime_error(source + ": must have " + detail::counted(file_bytes, "byte") +
                               ", got fewer while reading");
  };
  std::vector<std::byte> prefix(
      static_cast<std::size_t>(file_bytes < kPrefixBytes ? file_bytes : kPrefixBytes));
  fill(prefix);
  const std::uint64_t length = header_length(prefix, file_bytes, source);
  std::string text(static_cast<std::size_t>(length), '\0');
  fill(std::as_writable_bytes(std::span(text)));
  const std::uint64_t data_bytes = file_bytes - kPrefixBytes - length;
  detail::SafetensorsHeader header = detail::parse_safetensors_header(text, data_bytes, source);
  // Only now is the size of the file known to be the size of what it says it holds.
  if (data_bytes > std::vector<std::byte>().max_size())
    throw std::runtime_error(source +
                             ": must have fewer bytes of data than a program can address here, got " +
                             std::to_string(data_bytes));
  std::vector<std::byte> data(static_cast<std::size_t>(data_bytes));
  fill(data);
  return SafetensorsFile(std::move(source), std::move(header), std::move(data), 0);
}

inline SafetensorsFile SafetensorsFile::parse(std::vector<std::byte> bytes, std::string name) {
  const std::span<const std::byte> all(bytes);
  const std::uint64_t length = header_length(all, all.size(), name);
  const std::size_t data_begin = kPrefixBytes + static_cast<std::size_t>(length);
  const std::string_view text(reinterpret_cast<const char*>(all.data()) + kPrefixBytes,
                              static_cast<std::size_t>(length));
  detail::SafetensorsHeader header = detail::parse_safetensors_header(text, all.size() - data_begin, name);
  return SafetensorsFile(std::move(name), std::move(header), std::move(bytes), data_begin);
}

inline std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& info) const {
  const std::size_t data_bytes = storage_.size() - data_begin_;
  if (info.begin > info.end || info.end > data_bytes) {
    throw std::out_of_range("SafetensorsFile::bytes: the range must lie in " +
                            detail::counted(data_bytes, "byte") + ", got " + std::to_string(info.begin) +
                            " to " + std::to_string(info.end));
  }
  return std::span(storage_).subspan(data_begin_ + static_cast<std::size_t>(info.begin),
                                     static_cast<std::size_t>(info.end - info.begin));
}

template <ComputeScalar Scalar>
void SafetensorsFile::read(std::string_view name, const std::vector<std::int64_t>& expected_shape,
                           std::span<Scalar> out) const {
  const TensorInfo& info = at(name);
  if (info.shape != expected_shape) {
    throw std::runtime_error(source_ + ": tensor " + detail::in_quotes(name) + " must be " +
                             detail::shape_text(expected_shape) + ", got " + detail::shape_text(info.shape));
  }
  const std::span<const std::byte> from = bytes(info);
  const std::size_t count = from.size() / dtype_size(info.dtype);
  if (out.size() != count) {
    throw std::invalid_argument("SafetensorsFile::read: out must have " + detail::counted(count, "element") +
                                " for tensor " + detail::in_quotes(name) + ", got " +
                                std::to_string(out.size()));
  }
  switch (info.dtype) {
    case DType::f32:
      return copy_elements<float>(from, out, [](float value) { return static_cast<Scalar>(value); });
    case DType::f64:
      return copy_doubles(info, out);
    case DType::bf16:
      return copy_elements<std::uint16_t>(
          from, out, [](std::uint16_t bits) { return static_cast<Scalar>(bfloat16_to_float(bits)); });
    case DType::f16:
      return copy_elements<std::uint16_t>(
          from, out, [](std::uint16_t bits) { return static_cast<Scalar>(float16_to_float(bits)); });
    default:
      throw std::runtime_error(
          source_ + ": tensor " + detail::in_quotes(name) +
          " must be stored as F64, F32, F16 or BF16 to be read as numbers of the model, got " +
          std::string(dtype_name(info.dtype)));
  }
}

template <class Scalar>
void SafetensorsFile::copy_doubles(const TensorInfo& info, std::span<Scalar> out) const {
  const std::span<const std::byte> from = bytes(info);
  if constexpr (std::is_same_v<Scalar, float>) {
    // A value outside the range has no float, and half of the tensor would be written when it is met below.
    for (std::size_t i = 0; i < out.size(); ++i) {
      double value = 0;
      std::memcpy(&value, from.data() + i * sizeof(double), sizeof(double));
      if (detail::is_finite(value) &&
          (std::abs)(value) > static_cast<double>((std::numeric_limits<float>::max)())) {
        throw std::runtime_error(source_ + ": tensor " + detail::in_quotes(info.name) +
                                 " must fit the range of float, got " + std::to_string(value) +
                                 " at element " + std::to_string(i));
      }
    }
  }
  copy_elements<double>(from, out, [](double value) { return static_cast<Scalar>(value); });
}

}  // namespace hsm::inline HSM_ABI
