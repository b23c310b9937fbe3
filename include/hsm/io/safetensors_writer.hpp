// SPDX-License-Identifier: MIT
//
// Writes a safetensors file: 8 bytes with the length of the header (little-endian), the JSON header padded
// with spaces to a multiple of 8, then the bytes of the tensors without holes.
//
//   SafetensorsWriter writer;
//   writer.set_metadata("format", "hsm");
//   writer.add("head.weight", {256, 64}, std::span<const float>(weight));   // must live until write
//   writer.write("model.safetensors");
//
// Same content and order, same bytes: tensors stand in the order of `add`, metadata sorted by key. Tensors
// are aligned to their element if no larger type follows a smaller one. Cost O(bytes). Errors:
// std::invalid_argument for a wrong tensor, std::runtime_error if the file cannot be written, with an
// existing file untouched.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/io/dtype.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/output_file.hpp>
#include <hsm/io/tensor_info.hpp>

namespace hsm::inline HSM_ABI {

static_assert(
    std::endian::native == std::endian::little,
    "Safetensors files are little-endian and are written byte for byte; this machine is not little-endian.");

/// Collects metadata and tensors and writes them as one file.
class SafetensorsWriter {
 public:
  /// Sets one entry of `__metadata__`; a later value replaces an earlier one.
  /// Throws std::invalid_argument if key or value is not valid UTF-8.
  void set_metadata(const std::string& key, const std::string& value) {
    std::string json_key = json_string(key, "set_metadata");
    metadata_[std::move(json_key)] = json_string(value, "set_metadata");
  }

  /// Adds a tensor, row-major. `bytes` is not copied: the memory must live, unchanged, until the last
  /// `write`. Throws std::invalid_argument if the name is taken, reserved or not valid UTF-8, or if `bytes`
  /// has not the size that shape and type ask for.
  void add(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
           std::span<const std::byte> bytes);

  /// Adds a tensor of floats, doubles or fixed-width integers; otherwise as above.
  template <class Element>
  void add(const std::string& name, std::vector<std::int64_t> shape, std::span<const Element> elements) {
    add(name, dtype_of<Element>(), std::move(shape), std::as_bytes(elements));
  }

  /// Writes the file whole or not at all. Can be called again.
  /// Throws std::runtime_error if the file cannot be written or its header passes 100 MB.
  void write(const std::filesystem::path& path) const;

 private:
  struct Entry {
    TensorInfo info;
    std::string json_name;
    std::span<const std::byte> bytes;
  };

  static std::string json_string(const std::string& text, const char* function);
  std::string header() const;

  std::map<std::string, std::string> metadata_;  // both already written as JSON
  std::set<std::string> names_;
  std::vector<Entry> entries_;
};

inline std::string SafetensorsWriter::json_string(const std::string& text, const char* function) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw std::invalid_argument("SafetensorsWriter::" + std::string(function) +
                                ": text must be valid UTF-8, got " + detail::in_quotes(text));
  }
}

inline void SafetensorsWriter::add(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                                   std::span<const std::byte> bytes) {
  const auto fail = [&](const std::string& problem) {
    throw std::invalid_argument("SafetensorsWriter::add: tensor " + detail::in_quotes(name) + ": " + problem);
  };
  if (name == detail::kMetadataKey) fail("the name must not be the reserved one of the metadata");
  if (names_.contains(name)) fail("the name must be new, got it twice");
  if (shape.size() > detail::kMaxRank)
    fail("shape must have at most 64 dimensions, got " + std::to_string(shape.size()));
  const std::optional<std::uint64_t> expected = detail::tensor_bytes(shape, dtype);
  if (!expected)
    fail("shape must have dimensions from 0 on and fewer than 2^63 bytes, got " + detail::shape_text(shape));
  if (*expected != bytes.size()) {
    fail(std::string(dtype_name(dtype)) + " " + detail::shape_text(shape) + " must have " +
         detail::counted(*expected, "byte") + ", got " + std::to_string(bytes.size()));
  }
  const std::uint64_t begin = entries_.empty() ? 0 : entries_.back().info.end;
  entries_.push_back(
      {{name, dtype, std::move(shape), begin, begin + bytes.size()}, json_string(name, "add"), bytes});
  names_.insert(name);
}

inline std::string SafetensorsWriter::header() const {
  std::string text = "{";
  const auto separate = [&] {
    if (text.back() != '{') text += ',';
  };
  if (!metadata_.empty()) {
    text += "\"" + std::string(detail::kMetadataKey) + "\":{";
    for (const auto& [key, value] : metadata_) {
      separate();
      text += key + ":" + value;
    }
    text += "}";
  }
  for (const Entry& entry : entries_) {
    separate();
    text += entry.json_name + ":{\"dtype\":\"" + std::string(dtype_name(entry.info.dtype)) +
            "\",\"shape\":" + detail::shape_text(entry.info.shape) + ",\"data_offsets\":[" +
            std::to_string(entry.info.begin) + "," + std::to_string(entry.info.end) + "]}";
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

inline void SafetensorsWriter::write(const std::filesystem::path& path) const {
  const std::string text = header();
  const std::uint64_t length = text.size();
  if (length > detail::kMaxHeaderBytes) {
    throw std::runtime_error(detail::path_text(path) + ": the header must have at most " +
                             std::to_string(detail::kMaxHeaderBytes) + " bytes, got " +
                             std::to_string(length));
  }
  OutputFile file(path);
  file.reserve(sizeof length + length + (entries_.empty() ? 0 : entries_.back().info.end));
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const Entry& entry : entries_) file.write(entry.bytes);
  file.commit();
}

}  // namespace hsm::inline HSM_ABI
