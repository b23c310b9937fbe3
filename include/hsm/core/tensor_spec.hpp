// SPDX-License-Identifier: MIT
//
// What is said of tensors before they are made: their names and shapes, which are known from sizes and options alone,
// and what is done with them. A layer of a list (model/layer_list.hpp) describes its tensors in the order of its visit;
// numbers of parameters, the sizes of files, initial scaling and weight decay come from that, and not from names.
//
//   static TensorSpecs describe(Index channels, const OptionValues& options) {
//     return join({Linear<Scalar>::describe("project", 2 * channels, channels, 0),
//                  {vector_spec("decay", options["heads"])}});
//   }
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// One tensor, by its name in `visit`.
struct TensorSpec {
  std::string name;     ///< as visit gives it
  Index rows = 0;       ///< of a matrix; the size of a vector
  Index columns = 1;    ///< 1 of a vector
  bool vector = false;  ///< in a file [rows], else [rows, columns]
  bool decays = false;  ///< whether weight decay applies to it
  bool writes_result =
      false;  ///< the matrix of the product that is the layer's result: where a model adds results to
              ///< its residual stream, it draws it smaller

  /// Whether all is equal.
  bool operator==(const TensorSpec&) const = default;
};

/// All tensors of a layer or model, in the order of its visit.
using TensorSpecs = std::vector<TensorSpec>;

/// [size], which does not decay.
inline TensorSpec vector_spec(std::string name, Index size) {
  return {.name = std::move(name), .rows = size, .vector = true};
}
/// [rows, columns], which does not decay; set `decays` for one that does.
inline TensorSpec matrix_spec(std::string name, Index rows, Index columns) {
  return {.name = std::move(name), .rows = rows, .columns = columns};
}
/// The lists one after another.
[[gnu::cold]] inline TensorSpecs join(std::initializer_list<TensorSpecs> lists) {
  TensorSpecs all;
  for (const TensorSpecs& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}
/// The list with "prefix." before every name, as `named` does it in a visit.
[[gnu::cold]] inline TensorSpecs prefixed(std::string_view prefix, TensorSpecs list) {
  for (TensorSpec& spec : list) spec.name.insert(0, std::string(prefix) + ".");
  return list;
}

namespace detail {

/// "project.weight [8,4]".
inline std::string to_text(const TensorSpec& spec) {
  return spec.name + " [" + std::to_string(spec.rows) +
         (spec.vector ? "" : "," + std::to_string(spec.columns)) + "]";
}

/// Throws unless the tensor `got` is number `next` of the list.
HSM_NOINLINE inline void check_described_tensor(const char* who, const TensorSpecs& specs, std::size_t next,
                                                std::string_view name, Index rows, Index columns,
                                                bool vector) {
  TensorSpec got = matrix_spec(std::string(name), rows, columns);
  got.vector = vector;
  const bool there = next < specs.size();
  const TensorSpec expected = there ? specs[next] : TensorSpec{};
  if (!there || got.name != expected.name || got.rows != expected.rows || got.columns != expected.columns ||
      got.vector != expected.vector)
    fail(who, "the tensors of visit", "those that it describes, " + (there ? to_text(expected) : "no more"),
         to_text(got));
}
/// Throws unless there were as many tensors as in the list.
HSM_NOINLINE inline void check_all_described(const char* who, const TensorSpecs& specs, std::size_t count) {
  if (count < specs.size())
    fail(who, "the tensors of visit", "those that it describes, " + to_text(specs[count]), "no more");
}

/// Throws std::invalid_argument, which `who` begins, unless `parameters` have the tensors that `specs` name, in their
/// order and shapes.
template <class Parameters>
void check_described(const char* who, const TensorSpecs& specs, const Parameters& parameters) {
  std::size_t next = 0;
  Parameters::visit(
      [&](std::string_view name, const auto& tensor) {
        check_described_tensor(who, specs, next++, name, tensor.rows(), tensor.cols(),
                               std::remove_cvref_t<decltype(tensor)>::ColsAtCompileTime == 1);
      },
      parameters);
  check_all_described(who, specs, next);
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
