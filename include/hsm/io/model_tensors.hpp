// SPDX-License-Identifier: MIT
//
// The tensors of a model in a safetensors file, from a visit of the model: numbers as F32 or F64, matrices in fewer
// bytes (core/narrow_matrix.hpp) as they are stored, BF16, or I8 beside a tensor of scales. What a file must hold for
// that is in io/model_file.hpp. Errors: std::runtime_error `file: what was expected, what came`.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/narrow_matrix.hpp>
#include <hsm/core/tensor_spec.hpp>
#include <hsm/io/safetensors_file.hpp>
#include <hsm/io/safetensors_writer.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The shape of a tensor in a file: [n] for a vector, [rows, columns] for a matrix.
template <class Tensor>
std::vector<std::int64_t> file_shape(const Tensor& tensor) {
  if constexpr (Tensor::ColsAtCompileTime == 1) {
    return {tensor.rows()};
  } else {
    static_assert(Tensor::IsRowMajor, "hsm: a model file holds vectors and row-major matrices");
    return {tensor.rows(), tensor.cols()};
  }
}

/// The same of a tensor that a layer describes.
inline std::vector<std::int64_t> file_shape(const TensorSpec& spec) {
  if (spec.vector) return {spec.rows};
  return {spec.rows, spec.columns};
}

inline constexpr const char* kStorageKey = "storage";
inline constexpr const char* kScaleGroupKey = "storage.group";

/// What the scales of a tensor are called.
inline std::string scales_name(std::string_view name) { return std::string(name) + ".scales"; }

/// How the matrices of a file are stored. Throws for one that is not known.
inline Storage stored_storage(const SafetensorsFile& file) {
  const auto fail = [&](const char* key, const std::string& expected, const std::string& got) {
    throw std::runtime_error(file.source() + ": metadata '" + key + "' must be " + expected + ", got " + got);
  };
  const auto found = file.metadata().find(kStorageKey);
  if (found == file.metadata().end()) return Storage::kFloat;
  const std::optional<Storage> storage = find_storage(found->second);
  if (!storage || *storage == Storage::kFloat)
    fail(kStorageKey, "'bf16' or 'int8'", in_quotes(found->second));
  if (*storage == Storage::kInt8) {
    const auto group = file.metadata().find(kScaleGroupKey);
    const std::string expected = std::to_string(kScaleGroup);
    if (group == file.metadata().end() || group->second != expected)
      fail(kScaleGroupKey, in_quotes(expected),
           group == file.metadata().end() ? "none" : in_quotes(group->second));
  }
  return *storage;
}

/// Fills the tensors of a model, one by one.
struct TensorReader {
  using SeesStorage = void;
  const SafetensorsFile& file;
  Storage storage;
  std::set<std::string, std::less<>>& names;

  template <class Tensor>
  void operator()(std::string_view name, Tensor& tensor) const {
    using Scalar = typename Tensor::Scalar;
    const std::span<Scalar> values(tensor.data(), static_cast<std::size_t>(tensor.size()));
    file.read(name, file_shape(tensor), values);
    names.emplace(name);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!is_finite(values[i])) fail(name, "finite numbers", std::to_string(values[i]), i);
  }
  template <class Scalar>
  void matrix(std::string_view name, Weights<Scalar>& weight, NarrowMatrix& narrow) const {
    if (storage == Storage::kFloat) return (*this)(name, weight);
    NarrowMatrix read(storage, weight.rows(), weight.cols());
    if (storage == Storage::kBfloat16) {
      copy(name, DType::bf16, file_shape(weight), read.bfloat16s());
      for (Index i = 0; i < read.bfloat16s().size(); ++i)
        if (const float value = bfloat16_to_float(read.bfloat16s()(i)); !is_finite(value))
          fail(name, "finite numbers", std::to_string(value), static_cast<std::size_t>(i));
    } else {
      read_int8(name, read);
    }
    narrow = std::move(read);
    weight.resize(0, 0);
  }

 private:
  void read_int8(std::string_view name, NarrowMatrix& to) const {
    copy(name, DType::i8, {to.rows(), to.cols()}, to.int8s());
    copy(scales_name(name), DType::f32, {to.rows(), to.groups()}, to.scales());
    for (Index i = 0; i < to.int8s().size(); ++i)
      if (to.int8s()(i) < -127)
        fail(name, "-127 to 127", std::to_string(to.int8s()(i)), static_cast<std::size_t>(i));
    constexpr double kMost = static_cast<double>((std::numeric_limits<float>::max)()) / 127;
    for (Index i = 0; i < to.scales().size(); ++i) {
      const float scale = to.scales()(i);
      if (!is_finite(scale) || scale < 0 || static_cast<double>(scale) > kMost)
        fail(scales_name(name), "0 to 2.67e36", std::to_string(scale), static_cast<std::size_t>(i));
    }
  }

  /// The elements as they are in the file.
  template <class Elements>
  void copy(std::string_view name, DType dtype, const std::vector<std::int64_t>& shape, Elements& to) const {
    const TensorInfo& info = file.at(name);
    if (info.dtype != dtype || info.shape != shape) {
      throw std::runtime_error(file.source() + ": tensor " + in_quotes(name) + " must be " +
                               std::string(dtype_name(dtype)) + " " + shape_text(shape) + ", got " +
                               std::string(dtype_name(info.dtype)) + " " + shape_text(info.shape));
    }
    const std::span<const std::byte> bytes = file.bytes(info);
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
    names.emplace(name);
  }

  [[noreturn]] void fail(std::string_view name, const char* expected, const std::string& got,
                         std::size_t place) const {
    throw std::runtime_error(file.source() + ": tensor " + in_quotes(name) + " must hold " + expected +
                             ", got " + got + " at element " + std::to_string(place));
  }
};

/// Adds the tensors of a model to a file, one by one.
struct TensorWriter {
  using SeesStorage = void;
  SafetensorsWriter& writer;
  const std::filesystem::path& path;
  Storage storage;  // of all matrices

  template <class Tensor>
  void operator()(std::string_view name, const Tensor& tensor) const {
    using Scalar = typename Tensor::Scalar;
    if (!all_finite(tensor)) {
      throw std::runtime_error(path_text(path) + ": tensor " + in_quotes(name) +
                               " must hold finite numbers to be saved, got NaN or infinity");
    }
    writer.add(std::string(name), file_shape(tensor),
               std::span<const Scalar>(tensor.data(), static_cast<std::size_t>(tensor.size())));
  }
  template <class Matrix>
  void matrix(std::string_view name, const Matrix& weight, const NarrowMatrix& narrow) const {
    if (narrow.storage() != storage) {
      throw std::runtime_error(path_text(path) + ": tensor " + in_quotes(name) + " must be stored as " +
                               std::string(storage_name(storage)) + ", as the embedding is, got " +
                               std::string(storage_name(narrow.storage())));
    }
    if (narrow.empty()) return (*this)(name, weight);
    const auto bytes = [](const auto& elements) {
      return std::as_bytes(std::span(elements.data(), static_cast<std::size_t>(elements.size())));
    };
    const std::vector<std::int64_t> shape{narrow.rows(), narrow.cols()};
    if (narrow.storage() == Storage::kBfloat16)
      return writer.add(std::string(name), DType::bf16, shape, bytes(narrow.bfloat16s()));
    writer.add(scales_name(name), DType::f32, {narrow.rows(), narrow.groups()}, bytes(narrow.scales()));
    writer.add(std::string(name), DType::i8, shape, bytes(narrow.int8s()));
  }
};

}  // namespace hsm::inline HSM_ABI::detail
