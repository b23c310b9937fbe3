// SPDX-License-Identifier: MIT
//
// The tensors of a model, one after another: what a visit of models goes through. A visit that went into the layers
// itself would be compiled once for each layer of the list, each tensor and each function that is called; the places
// of the tensors are listed by one function for each layer, whatever is called.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/model/layer_list.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Where a tensor is, which is Weights or a Vector.
struct TensorPlace {
  std::string name;  ///< empty where nobody asks for it
  void* tensor;
  bool vector;
};
using TensorPlaces = std::vector<TensorPlace>;

HSM_NOINLINE inline void add_place(TensorPlaces& places, std::string_view name, void* tensor, bool vector) {
  places.push_back({std::string(name), tensor, vector});
}

/// Called by a visit, lists the tensors, with their names.
template <class Scalar>
struct ListPlaces {
  TensorPlaces& places;

  template <class Tensor>
  void operator()(std::string_view name, Tensor& tensor) const {
    constexpr bool kVector = std::is_same_v<Tensor, Vector<Scalar>>;
    static_assert(kVector || std::is_same_v<Tensor, Weights<Scalar>>);
    add_place(places, name, &tensor, kVector);
  }
};
/// Without their names, which cost more than the rest.
template <class Scalar>
struct ListNamelessPlaces : ListPlaces<Scalar> {
  template <class Tensor>
  void operator()(std::string_view, Tensor& tensor) const {
    ListPlaces<Scalar>::operator()({}, tensor);
  }
};
template <class Scalar>
ListNamelessPlaces<Scalar> named(std::string, const ListNamelessPlaces<Scalar>& list) {
  return list;
}
template <class Scalar>
ListNamelessPlaces<Scalar> named(std::string, ListNamelessPlaces<Scalar>& list) {
  return list;
}

/// Throws unless the lists are of models of one kind.
HSM_NOINLINE inline void check_same_places(std::span<const TensorPlaces> lists) {
  for (const TensorPlaces& other : lists.subspan(1)) {
    bool same = other.size() == lists[0].size();
    for (std::size_t i = 0; same && i < other.size(); ++i) same = other[i].vector == lists[0][i].vector;
    if (!same) fail("LanguageModel::visit", "the models", "of one config", "others");
  }
}

/// Whether all mixers of a list are those of the library, whose tensors are Weights and Vectors. Those of others may be
/// anything.
template <class M, class... Known>
constexpr bool is_one_of(std::type_identity<std::variant<Known...>>) {
  return (std::is_same_v<M, Known> || ...);
}
template <class Scalar, class... Mixers>
constexpr bool are_of_library(std::type_identity<std::variant<Mixers...>>) {
  return (is_one_of<Mixers>(std::type_identity<AnyMixer<Scalar>>{}) && ...);
}

template <class Tensor, class... Owners, class F, std::size_t... kAt>
void call_at(F& f, std::size_t tensor, const std::array<TensorPlaces, sizeof...(kAt)>& lists,
             std::index_sequence<kAt...>) {
  f(std::string_view(lists[0][tensor].name),
    *static_cast<std::conditional_t<std::is_const_v<Owners>, const Tensor, Tensor>*>(
        lists[kAt][tensor].tensor)...);
}

/// Calls f(name, tensor, more...) for each tensor of the lists, const where its owner is.
template <class Scalar, class... Owners, class F>
void call_for_each(F& f, const std::array<TensorPlaces, sizeof...(Owners)>& lists) {
  constexpr auto kAll = std::make_index_sequence<sizeof...(Owners)>{};
  check_same_places(lists);
  for (std::size_t i = 0; i < lists[0].size(); ++i) {
    if (lists[0][i].vector) {
      call_at<Vector<Scalar>, Owners...>(f, i, lists, kAll);
    } else {
      call_at<Weights<Scalar>, Owners...>(f, i, lists, kAll);
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
