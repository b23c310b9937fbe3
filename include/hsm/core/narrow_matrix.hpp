// SPDX-License-Identifier: MIT
//
// A matrix of weights [rows, columns] in fewer bytes than a float has, for inference: to be multiplied by, not to be
// trained. What is stored of a weight w, and what it is worth:
//
//   bf16   the bfloat16 next to its float                                  off by at most 2^-8 |w|      2 bytes
//   int8   q = w / scale, rounded to even, -127 to 127; worth q scale      off by at most scale / 2     1.125 bytes
//
// the first where |w| is a normal number. int8 has one scale, a float, for each 32 values of a row one after another (the
// last ones may be fewer): the largest of their magnitudes / 127, rounded down, so that 127 scale is no more than it. Where
// that falls below the smallest normal float the scale and all 32 values are 0.
//
// Whoever walks the tensors of a model by `visit` and can deal with such matrices says so (SeesStorage). Everybody else,
// training above all, is stopped by a sentence: nobody takes a matrix that is not there for an empty one.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <hsm/core/bfloat16.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// How the matrices of a model are stored: as the scalar it computes in, or in fewer bytes.
enum class Storage : std::uint8_t { kFloat, kBfloat16, kInt8 };

/// "float", "bf16" or "int8".
constexpr std::string_view storage_name(Storage storage) {
  return storage == Storage::kInt8 ? "int8" : storage == Storage::kBfloat16 ? "bf16" : "float";
}

/// The storage with this name, nothing where there is none.
constexpr std::optional<Storage> find_storage(std::string_view name) {
  for (const Storage storage : {Storage::kFloat, Storage::kBfloat16, Storage::kInt8})
    if (storage_name(storage) == name) return storage;
  return std::nullopt;
}

/// How many values of a row share a scale.
inline constexpr Index kScaleGroup = 32;

namespace detail {

HSM_EXACT_BEGIN

/// The scale of values whose largest magnitude is `largest`, a finite number.
inline float scale_for(float largest) {
  auto scale = static_cast<float>(static_cast<double>(largest) / 127.0);
  if (static_cast<double>(scale) * 127.0 > static_cast<double>(largest))
    scale = bit_cast<float>(bit_cast<std::uint32_t>(scale) - 1);
  return scale < FLT_MIN ? 0.0f : scale;
}

/// w / scale as a whole number from -127 to 127, to even where two are equally near.
inline std::int8_t to_int8(float w, float scale) {
  if (scale == 0.0f) return 0;
  const long q = std::lrint(static_cast<double>(w) / static_cast<double>(scale));
  return static_cast<std::int8_t>(q < -127 ? -127 : q > 127 ? 127 : q);
}

HSM_EXACT_END

}  // namespace detail

/// A matrix in fewer bytes; see the file comment. Empty unless it was made of one.
class NarrowMatrix {
 public:
  NarrowMatrix() = default;

  /// Room for a matrix, every value 0; Storage::kFloat gives an empty one.
  NarrowMatrix(Storage storage, Index rows, Index columns) : storage_(storage) {
    if (storage == Storage::kFloat) return;
    rows_ = rows;
    columns_ = columns;
    if (storage == Storage::kBfloat16) {
      bfloat16s_.setZero(rows * columns);
    } else {
      int8s_.setZero(rows * columns);
      scales_.setZero(rows * groups());
    }
  }

  /// `weights` stored so. Throws std::invalid_argument for a value that is not finite, or that is not in bf16.
  template <ComputeScalar Scalar>
  NarrowMatrix(Storage storage, const Weights<Scalar>& weights)
      : NarrowMatrix(storage, weights.rows(), weights.cols()) {
    for (Index i = 0; i < rows_; ++i) store_row(i, weights.data() + i * columns_);
  }

  /// The same matrix.
  NarrowMatrix(const NarrowMatrix&) = default;
  /// The same matrix; where memory is short nothing changes.
  NarrowMatrix& operator=(const NarrowMatrix& other) { return *this = NarrowMatrix(other); }
  /// The matrix of `other`, which is left empty.
  NarrowMatrix(NarrowMatrix&& other) noexcept { *this = std::move(other); }
  /// The matrix of `other`, which is left empty.
  NarrowMatrix& operator=(NarrowMatrix&& other) noexcept {
    if (this == &other) return *this;
    storage_ = std::exchange(other.storage_, Storage::kFloat);
    rows_ = std::exchange(other.rows_, 0);
    columns_ = std::exchange(other.columns_, 0);
    bfloat16s_ = std::move(other.bfloat16s_);
    int8s_ = std::move(other.int8s_);
    scales_ = std::move(other.scales_);
    return *this;
  }

  /// kFloat where it is empty.
  Storage storage() const { return storage_; }
  /// Whether there is no matrix: the weights are where they always are.
  bool empty() const { return storage_ == Storage::kFloat; }
  /// Rows.
  Index rows() const { return rows_; }
  /// Columns.
  Index cols() const { return columns_; }
  /// Scales of a row: one for each kScaleGroup columns, the last may be for fewer.
  Index groups() const { return columns_ / kScaleGroup + (columns_ % kScaleGroup != 0 ? 1 : 0); }
  /// Bytes of the values and scales.
  std::size_t bytes() const {
    return static_cast<std::size_t>(bfloat16s_.size()) * sizeof(std::uint16_t) +
           static_cast<std::size_t>(int8s_.size()) + static_cast<std::size_t>(scales_.size()) * sizeof(float);
  }

  /// [rows, columns] of bf16, else nothing; to read, and to fill.
  const Vector<std::uint16_t>& bfloat16s() const { return bfloat16s_; }
  /// The same, to change.
  Vector<std::uint16_t>& bfloat16s() { return bfloat16s_; }
  /// [rows, columns] of int8, else nothing; to read, and to fill.
  const Vector<std::int8_t>& int8s() const { return int8s_; }
  /// The same, to change.
  Vector<std::int8_t>& int8s() { return int8s_; }
  /// [rows, groups()] of int8, else nothing; to read, and to fill.
  const Vector<float>& scales() const { return scales_; }
  /// The same, to change.
  Vector<float>& scales() { return scales_; }

  /// What the element is worth, 0 <= row < rows(), 0 <= column < cols(), unchecked.
  float at(Index row, Index column) const {
    const Index i = row * columns_ + column;
    if (storage_ == Storage::kBfloat16) return bfloat16_to_float(bfloat16s_.data()[i]);
    return static_cast<float>(int8s_.data()[i]) * scales_.data()[row * groups() + column / kScaleGroup];
  }

  /// The matrix as numbers again, exactly what it is worth.
  template <ComputeScalar Scalar>
  Weights<Scalar> widened() const {
    Weights<Scalar> weights(rows_, columns_);
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < columns_; ++j) weights(i, j) = static_cast<Scalar>(at(i, j));
    return weights;
  }

 private:
  template <class Scalar>
  void store_row(Index row, const Scalar* from) {
    const auto value = [&](Index j) {
      const auto x = static_cast<float>(from[j]);
      if (!detail::is_finite(x)) fail_value(x);
      return x;
    };
    for (Index g = 0; g < groups(); ++g) {
      const Index first = g * kScaleGroup, end = (std::min)(first + kScaleGroup, columns_);
      const Index offset = row * columns_;
      if (storage_ == Storage::kBfloat16) {
        for (Index j = first; j < end; ++j) {
          const std::uint16_t bits = bfloat16s_.data()[offset + j] = float_to_bfloat16(value(j));
          if (!detail::is_finite(bfloat16_to_float(bits))) fail_value(value(j));
        }
        continue;
      }
      float largest = 0;
      for (Index j = first; j < end; ++j) largest = (std::max)(largest, (std::abs)(value(j)));
      const float scale = scales_.data()[row * groups() + g] = detail::scale_for(largest);
      for (Index j = first; j < end; ++j) int8s_.data()[offset + j] = detail::to_int8(value(j), scale);
    }
  }

  [[noreturn, gnu::cold]] HSM_NOINLINE void fail_value(float got) const {
    detail::fail("NarrowMatrix", "weights that are stored as " + std::string(storage_name(storage_)),
                 storage_ == Storage::kBfloat16 ? "finite, and below 3.39e38 in magnitude" : "finite",
                 std::to_string(got));
  }

  Storage storage_ = Storage::kFloat;
  Index rows_ = 0, columns_ = 0;
  Vector<std::uint16_t> bfloat16s_;
  Vector<std::int8_t> int8s_;
  Vector<float> scales_;
};

namespace detail {

/// Stores so the matrix that is in one of the two; the other is left empty. Nothing is changed where this throws.
template <class Scalar>
void store_matrix(Storage storage, Weights<Scalar>& weight, NarrowMatrix& narrow) {
  if (storage == narrow.storage()) return;
  Weights<Scalar> wide;
  if (!narrow.empty()) wide = narrow.widened<Scalar>();
  NarrowMatrix stored(storage, narrow.empty() ? weight : wide);
  if (storage != Storage::kFloat) wide.resize(0, 0);
  narrow = std::move(stored);
  weight.swap(wide);
}

}  // namespace detail

/// A visitor that takes matrices as they are stored. Besides f(name, tensor) it has
///
///   using SeesStorage = void;
///   void matrix(std::string_view name, Weights<Scalar>& weight, NarrowMatrix& narrow);   of which one is empty
///
/// (const where it only reads) for the weights of each Linear and Embedding, and walks one model at a time.
template <class F>
concept SeesStorage = requires {
  typename std::remove_cvref_t<F>::SeesStorage;
};

namespace detail {

[[noreturn, gnu::cold]] HSM_NOINLINE inline void fail_narrow(const char* who, Storage storage) {
  fail(who, "the weights", "stored as float, to be trained or changed", std::string(storage_name(storage)));
}

/// Throws unless the weights are where they are for training.
inline void check_wide(const char* who, const NarrowMatrix& narrow) {
  if (!narrow.empty()) fail_narrow(who, narrow.storage());
}

/// f for the weights of self and of others in step, members `weight` and `narrow`.
template <class F, class Self, class... More>
void visit_matrix(F& f, Self& self, More&... more) {
  if constexpr (SeesStorage<F> && sizeof...(More) == 0) {
    f.matrix("weight", self.weight, self.narrow);
  } else {
    check_wide("visit", self.narrow);
    (check_wide("visit", more.narrow), ...);
    f("weight", self.weight, more.weight...);
  }
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
