// SPDX-License-Identifier: MIT
//
// The header of a safetensors file: which tensors it holds, of what type and shape, and where their bytes
// are.
//
//   {"__metadata__": {string: string, ...},
//    name: {"dtype": "F32", "shape": [2,3], "data_offsets": [begin, end]}, ...}
//
// The text is untrusted. It is read event by event against exactly this form, so no other tree is ever built
// and nesting cannot go deep; a key that stands twice is refused at every level. Afterwards the tensors must
// tile the data without hole or overlap. Cost O(bytes of the header), plus a sort of the tensors. Errors:
// std::runtime_error `path: what was expected, what came`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/io/dtype.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/tensor_info.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// What a header says. `tensors` is in the order of the data, `index` finds a tensor by name.
struct SafetensorsHeader {
  std::map<std::string, std::string, std::less<>> metadata;
  std::vector<TensorInfo> tensors;
  std::map<std::string, std::size_t, std::less<>> index;
};

/// Takes the events of the JSON parser and builds the header, refusing the first event that does not fit.
class SafetensorsHeaderReader {
 public:
  using Json = nlohmann::json;

  /// `source` starts every message.
  explicit SafetensorsHeaderReader(std::string source) : source_(std::move(source)) {}

  /// The header after the last event. Throws std::runtime_error unless the tensors tile `data_bytes` bytes.
  SafetensorsHeader finish(std::uint64_t data_bytes);

  // What the parser calls. Each returns true, to go on, or throws.
  bool null() { refuse("null"); }
  bool boolean(bool value) { refuse(value ? "true" : "false"); }
  bool number_integer(Json::number_integer_t value) { refuse("the signed number " + std::to_string(value)); }
  bool number_unsigned(Json::number_unsigned_t value);
  bool number_float(Json::number_float_t, const std::string& text) {
    refuse("the number " + in_quotes(text));
  }
  bool string(std::string& text);
  bool binary(Json::binary_t&) { refuse("binary data"); }
  bool start_object(std::size_t);
  bool key(std::string& text);
  bool end_object();
  bool start_array(std::size_t);
  bool end_array();
  bool parse_error(std::size_t position, const std::string& token, const Json::exception& error);

 private:
  enum class Place { outside, root, metadata, tensor, list };
  enum class Field { none, dtype, shape, offsets };
  using List = std::vector<std::int64_t>;

  [[noreturn]] void fail(const std::string& problem) const {
    throw std::runtime_error(source_ + ": " + problem);
  }
  [[noreturn]] void fail_tensor(const std::string& name, const std::string& problem) const {
    fail("tensor " + in_quotes(name) + ": " + problem);
  }
  [[noreturn]] void refuse(const std::string& came) const;
  void finish_tensor();
  void check_tiling(std::uint64_t data_bytes) const;

  std::string source_;
  SafetensorsHeader header_;
  Place place_ = Place::outside;
  Field field_ = Field::none;
  std::string name_;  // the tensor or the metadata key that is being read
  std::optional<DType> dtype_;
  std::optional<List> shape_;
  std::optional<List> offsets_;
};

inline void SafetensorsHeaderReader::refuse(const std::string& came) const {
  const std::string got = ", got " + came;
  switch (place_) {
    case Place::outside:
      fail("the header must be a JSON object" + got);
    case Place::root:
      fail("the header's entry " + in_quotes(name_) + " must be an object" + got);
    case Place::metadata:
      fail("the metadata value of " + in_quotes(name_) + " must be a string" + got);
    case Place::tensor:
      fail_tensor(name_, field_ == Field::dtype ? "dtype must be a string" + got
                                                : "shape and data_offsets must be lists" + got);
    case Place::list:
      break;
  }
  fail_tensor(name_, std::string(field_ == Field::shape ? "shape" : "data_offsets") +
                         " must hold whole numbers from 0 to 2^63-1" + got);
}

inline bool SafetensorsHeaderReader::number_unsigned(Json::number_unsigned_t value) {
  if (place_ != Place::list ||
      value > static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)())) {
    refuse("the number " + std::to_string(value));
  }
  List& list = field_ == Field::shape ? *shape_ : *offsets_;
  if (list.size() == (field_ == Field::shape ? kMaxRank : 2)) {
    fail_tensor(name_, field_ == Field::shape ? "shape must have at most 64 dimensions, got more"
                                              : "data_offsets must be two numbers, got more");
  }
  list.push_back(static_cast<std::int64_t>(value));
  return true;
}

inline bool SafetensorsHeaderReader::string(std::string& text) {
  if (place_ == Place::metadata) {
    header_.metadata[name_] = std::move(text);
  } else if (place_ == Place::tensor && field_ == Field::dtype) {
    dtype_ = find_dtype(text);
    if (!dtype_) fail_tensor(name_, "dtype must be a known one, such as F32, got " + in_quotes(text));
  } else {
    refuse("the string " + in_quotes(text));
  }
  return true;
}

inline bool SafetensorsHeaderReader::start_object(std::size_t) {
  if (place_ == Place::outside) {
    place_ = Place::root;
  } else if (place_ == Place::root) {
    place_ = name_ == kMetadataKey ? Place::metadata : Place::tensor;
    field_ = Field::none;
    dtype_.reset();
    shape_.reset();
    offsets_.reset();
  } else {
    refuse("an object");
  }
  return true;
}

inline bool SafetensorsHeaderReader::key(std::string& text) {
  if (place_ == Place::root) {
    name_ = std::move(text);
    // The metadata key enters the index too, to be met a second time; `finish` takes it out.
    if (!header_.index.emplace(name_, header_.tensors.size()).second) {
      fail("the header's keys must differ, got " + in_quotes(name_) + " twice");
    }
  } else if (place_ == Place::metadata) {
    name_ = std::move(text);
    if (!header_.metadata.emplace(name_, std::string()).second) {
      fail("the metadata keys must differ, got " + in_quotes(name_) + " twice");
    }
  } else {
    field_ = text == "dtype"          ? Field::dtype
             : text == "shape"        ? Field::shape
             : text == "data_offsets" ? Field::offsets
                                      : Field::none;
    if (field_ == Field::none) {
      fail_tensor(name_,
                  "the keys must be dtype, shape and data_offsets, got the unknown key " + in_quotes(text));
    }
    if (field_ == Field::dtype   ? dtype_.has_value()
        : field_ == Field::shape ? shape_.has_value()
                                 : offsets_.has_value()) {
      fail_tensor(name_, "the keys must differ, got " + in_quotes(text) + " twice");
    }
  }
  return true;
}

inline bool SafetensorsHeaderReader::end_object() {
  if (place_ == Place::tensor) finish_tensor();
  place_ = place_ == Place::root ? Place::outside : Place::root;
  return true;
}

inline bool SafetensorsHeaderReader::start_array(std::size_t) {
  if (place_ != Place::tensor || field_ == Field::dtype) refuse("a list");
  place_ = Place::list;
  (field_ == Field::shape ? shape_ : offsets_).emplace();
  return true;
}

inline bool SafetensorsHeaderReader::end_array() {
  place_ = Place::tensor;
  return true;
}

inline bool SafetensorsHeaderReader::parse_error(std::size_t position, const std::string&,
                                                 const Json::exception& error) {
  std::string_view reason = error.what();
  if (const std::size_t prefix = reason.find("] "); prefix != std::string_view::npos)
    reason.remove_prefix(prefix + 2);
  fail("the header must be JSON in valid UTF-8, got an error at its byte " + std::to_string(position) + ": " +
       in_quotes(reason));
}

inline void SafetensorsHeaderReader::finish_tensor() {
  if (!dtype_) fail_tensor(name_, "the key dtype is missing");
  if (!shape_) fail_tensor(name_, "the key shape is missing");
  if (!offsets_) fail_tensor(name_, "the key data_offsets is missing");
  if (offsets_->size() != 2) {
    fail_tensor(name_, "data_offsets must be two numbers, got " + std::to_string(offsets_->size()));
  }
  const auto begin = static_cast<std::uint64_t>((*offsets_)[0]);
  const auto end = static_cast<std::uint64_t>((*offsets_)[1]);
  const std::string range = std::to_string(begin) + " to " + std::to_string(end);
  if (begin > end) fail_tensor(name_, "data_offsets must not decrease, got " + range);
  const std::optional<std::uint64_t> bytes = tensor_bytes(*shape_, *dtype_);
  const std::string type_and_shape = std::string(dtype_name(*dtype_)) + " " + shape_text(*shape_);
  if (!bytes) fail_tensor(name_, "the size must be below 2^63 bytes, got " + type_and_shape);
  if (end - begin != *bytes) {
    fail_tensor(name_, type_and_shape + " must have " + detail::counted(*bytes, "byte") +
                           ", got the data_offsets " + range);
  }
  header_.tensors.push_back({name_, *dtype_, std::move(*shape_), begin, end});
}

inline void SafetensorsHeaderReader::check_tiling(std::uint64_t data_bytes) const {
  std::uint64_t expected = 0;
  for (const TensorInfo& tensor : header_.tensors) {
    if (tensor.end > data_bytes) {
      fail_tensor(tensor.name, "data_offsets must lie in the " + detail::counted(data_bytes, "byte") +
                                   " of data, got " + std::to_string(tensor.begin) + " to " +
                                   std::to_string(tensor.end));
    }
    if (tensor.begin != expected) {
      fail_tensor(tensor.name, "must begin at byte " + std::to_string(expected) +
                                   ", where the tensor before it ends, got " +
                                   (tensor.begin > expected ? "a hole up to " : "an overlap from ") +
                                   std::to_string(tensor.begin));
    }
    expected = tensor.end;
  }
  if (expected != data_bytes) {
    fail("the data must end with the last tensor, at byte " + std::to_string(expected) + ", got " +
         counted(data_bytes - expected, "trailing byte"));
  }
}

inline SafetensorsHeader SafetensorsHeaderReader::finish(std::uint64_t data_bytes) {
  std::sort(header_.tensors.begin(), header_.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_tiling(data_bytes);
  header_.index.clear();
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) header_.index.emplace(header_.tensors[i].name, i);
  return std::move(header_);
}

/// Reads the header `text` of a file whose data is `data_bytes` long. `source` starts every message.
/// Throws std::runtime_error for anything that is not a complete and consistent header.
inline SafetensorsHeader parse_safetensors_header(std::string_view text, std::uint64_t data_bytes,
                                                  const std::string& source) {
  if (!text.starts_with('{'))
    throw std::runtime_error(source + ": the header must be a JSON object that starts with '{', got " +
                             in_quotes(text.substr(0, 1)));
  // The parser takes a zero byte for the end of its input and would not look behind it.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    throw std::runtime_error(source + ": the header must be JSON text, got a zero byte at its byte " +
                             std::to_string(zero));
  }
  SafetensorsHeaderReader reader(source);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.finish(data_bytes);
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
