// SPDX-License-Identifier: MIT
//
// What readers of files of states ask of a safetensors file: metadata that is there, numbers that are
// numbers, tensors of exactly the type and shape that are expected, and none besides. All errors are
// std::runtime_error `file: what was expected, what came`.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <hsm/io/dtype.hpp>
#include <hsm/io/safetensors_file.hpp>

namespace hsm::inline HSM_ABI::detail {

/// A file that is being read, and the tensors of it that had a meaning so far.
class FileChecks {
 public:
  explicit FileChecks(const SafetensorsFile& file) : file_(file) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(file_.source() + ": " + what);
  }

  /// What messages call it.
  const std::string& source() const { return file_.source(); }

  const std::string& metadata(std::string_view key) const {
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end()) fail("must have metadata " + in_quotes(key) + ", got none");
    return found->second;
  }
  void expect_metadata(std::string_view key, std::string_view value) const {
    if (metadata(key) == value) return;
    fail("metadata " + in_quotes(key) + " must be " + in_quotes(value) + ", got " + in_quotes(metadata(key)));
  }
  /// Refuses versions but these two.
  void expect_version(std::string_view now, std::string_view before) const {
    if (metadata("version") != before) expect_metadata("version", now);
  }
  /// Refuses a state of other parameters.
  void expect_fingerprint(std::string_view own) const {
    if (metadata("fingerprint") == own) return;
    fail("was saved with other parameters: the fingerprint must be " + in_quotes(own) + ", got " +
         in_quotes(metadata("fingerprint")));
  }
  /// A number from 0 to kMost in decimal digits.
  Index number(std::string_view key) const {
    const std::string& text = metadata(key);
    Index value = text.empty() || text.size() > 19 ? -1 : 0;
    for (const char c : text) {
      if (value < 0) break;
      value = c >= '0' && c <= '9' && value <= (kMost - (c - '0')) / 10 ? value * 10 + (c - '0') : -1;
    }
    if (value < 0)
      fail("metadata " + in_quotes(key) + " must be a number from 0 to 2^" + std::to_string(kIndexBits - 1) +
           ", got " + in_quotes(text));
    return value;
  }

  /// The length of a list, a tensor of one dimension.
  Index length(const std::string& name) const {
    const TensorInfo& info = file_.at(name);
    if (info.shape.size() != 1)
      fail("tensor " + in_quotes(name) + " must be a list, got " + shape_text(info.shape));
    if (info.shape[0] > kMost)
      fail("tensor " + in_quotes(name) + " must have at most 2^" + std::to_string(kIndexBits - 1) +
           " elements, got " + shape_text(info.shape));
    return static_cast<Index>(info.shape[0]);
  }
  /// Size number `place`, from 0 on, of a tensor of so many dimensions.
  Index size(const std::string& name, std::size_t dimensions, std::size_t place) const {
    const TensorInfo& info = file_.at(name);
    if (info.shape.size() != dimensions)
      fail("tensor " + in_quotes(name) + " must have " + std::to_string(dimensions) + " dimensions, got " +
           shape_text(info.shape));
    return static_cast<Index>(
        (std::min<std::int64_t>)(info.shape[place], kMost));  // more is borne out by no file
  }
  /// Throws unless the values of a tensor are finite.
  template <class Scalar>
  void check_finite(const std::string& name, std::span<const Scalar> values) const {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (is_finite(values[i])) continue;
      fail("tensor " + in_quotes(name) + " must hold finite numbers, got " + std::to_string(values[i]) +
           " at element " + std::to_string(i));
    }
  }
  /// Throws unless the tensor is there with this type and shape: then the file bears out its size.
  template <class Element>
  void expect(const std::string& name, const std::vector<Index>& shape) {
    const TensorInfo& info = file_.at(name);
    const std::vector<std::int64_t> expected(shape.begin(), shape.end());
    if (info.dtype != dtype_of<Element>() || info.shape != expected) {
      fail("tensor " + in_quotes(name) + " must be " + std::string(dtype_name(dtype_of<Element>())) + " " +
           shape_text(expected) + ", got " + std::string(dtype_name(info.dtype)) + " " +
           shape_text(info.shape));
    }
    names_.insert(name);
  }
  /// Copies a tensor, bit by bit.
  template <class Element>
  void read(const std::string& name, const std::vector<Index>& shape, std::span<Element> out) {
    expect<Element>(name, shape);
    const std::span<const std::byte> bytes = file_.bytes(file_.at(name));
    if (bytes.size() != out.size_bytes())
      fail("tensor " + in_quotes(name) + " has another size than its place");
    if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  }
  /// Copies a tensor of sizes or counts, which files hold as I64 whatever Index is here.
  void read_numbers(const std::string& name, const std::vector<Index>& shape, std::span<Index> out) {
    std::vector<std::int64_t> stored(out.size());
    read<std::int64_t>(name, shape, std::span(stored));
    for (std::size_t i = 0; i < stored.size(); ++i) {
      if (stored[i] < (std::numeric_limits<Index>::min)() || stored[i] > (std::numeric_limits<Index>::max)())
        fail("tensor " + in_quotes(name) + " must hold numbers below 2^" + std::to_string(kIndexBits) +
             ", got " + std::to_string(stored[i]));
      out[i] = static_cast<Index>(stored[i]);
    }
  }
  /// A list of sizes or counts, of any length.
  std::vector<Index> numbers(const std::string& name) {
    std::vector<Index> values;
    const Index n = length(name);
    expect<std::int64_t>(name, {n});
    values.resize(static_cast<std::size_t>(n));
    read_numbers(name, {n}, values);
    return values;
  }
  /// A list of any length.
  template <class Element>
  std::vector<Element> list(const std::string& name) {
    const Index n = length(name);
    expect<Element>(name, {n});
    std::vector<Element> values(static_cast<std::size_t>(n));
    read<Element>(name, {n}, std::span(values));
    return values;
  }

  /// Throws if the file holds a tensor that nobody has asked for.
  void expect_no_more() const {
    for (const TensorInfo& info : file_.tensors()) {
      if (!names_.contains(info.name))
        fail("expected no tensor besides the state, got " + in_quotes(info.name));
    }
  }

 private:
  static constexpr Index kMost = Index{1} << (kIndexBits - 1);

  const SafetensorsFile& file_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace hsm::inline HSM_ABI::detail
