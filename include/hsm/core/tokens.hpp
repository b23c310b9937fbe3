// SPDX-License-Identifier: MIT
//
// The one view that every public entry takes its activations in: B sequences of T tokens of C channels, not
// owned.
//
//   value(b, t, c) = data[b * batch_stride + t * token_stride + c]      strides count scalars
//
// It is made, without a copy, from
//   Eigen::Tensor<Scalar, 3, RowMajor> [B,T,C] and its TensorMap
//   a column-major matrix (C,T), a row-major matrix (T,C), their Map, Block and Ref: one sequence
//   a vector [C]: one token
//
// so a slice in time of a larger buffer is a legal argument, and a buffer that runs by time first, [T,B,C], is one
// with token_stride = B C and batch_stride = C. To read from, tokens may overlap: windows one scalar apart, one
// token or one sequence repeated by a stride of 0. To write to, no two may share an element. Where two views must
// be apart, that is said of the ranges from their first value to their last: views that interleave in one buffer
// count as overlapping and are refused. What cannot be viewed is refused by a sentence at compile time.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// B x T tokens of C channels in somebody else's memory. `Scalar` may be const: a view to read from.
template <class Scalar>
struct Tokens {
  /// Channel 0 of token 0 of sequence 0.
  Scalar* data = nullptr;
  /// B.
  Index batch = 0;
  /// T.
  Index time = 0;
  /// C.
  Index channels = 0;
  /// From a token to the next.
  Index token_stride = 0;
  /// From a sequence to the next.
  Index batch_stride = 0;

  Tokens() = default;

  /// A dense buffer [B, T, C]. Sizes are looked at by whoever reads or writes through the view.
  Tokens(Scalar* values, Index B, Index T, Index C)
      : Tokens(values, B, T, C, C,
               static_cast<Index>(static_cast<std::make_unsigned_t<Index>>(T) *
                                  static_cast<std::make_unsigned_t<Index>>(C))) {}  // which may not fit

  /// A buffer whose tokens lie token_step apart and whose sequences lie batch_step apart, both at least 0.
  Tokens(Scalar* values, Index B, Index T, Index C, Index token_step, Index batch_step)
      : data(values), batch(B), time(T), channels(C), token_stride(token_step), batch_stride(batch_step) {}

  /// A view to write through is also a view to read through.
  operator Tokens<const Scalar>() const requires(!std::is_const_v<Scalar>) {
    return {data, batch, time, channels, token_stride, batch_stride};
  }

  /// B * T.
  Index count() const { return batch * time; }
  /// [B, T, C].
  Shape<3> shape() const { return {batch, time, channels}; }

  /// Token t of sequence b.
  Scalar* at(Index b, Index t) const { return data + b * batch_stride + t * token_stride; }
  /// Token `flat` in the order of sequences one after another.
  Scalar* at(Index flat) const { return at(flat / time, flat % time); }
  /// Whether all B * T tokens lie the same stride apart.
  bool is_flat() const { return batch <= 1 || time == 0 || batch_stride == time * token_stride; }

  /// Sequence b as a view of its own.
  Tokens sequence(Index b) const { return {at(b, 0), 1, time, channels, token_stride, batch_stride}; }
  /// Tokens first ... first + count - 1 of every sequence.
  Tokens slice(Index first, Index count) const {
    return {data + first * token_stride, batch, count, channels, token_stride, batch_stride};
  }

  /// n tokens from `flat` on as columns (C, n); they must not cross into another sequence unless the view is
  /// flat.
  auto columns(Index flat, Index n) const { return rows(flat, n, 0, channels); }
  /// Rows first_row ... of n tokens from `flat` on.
  auto rows(Index flat, Index n, Index first_row, Index row_count) const {
    using Block = std::conditional_t<std::is_const_v<Scalar>, ConstColumns<std::remove_const_t<Scalar>>,
                                     Columns<Scalar>>;
    Scalar* start = count() == 0 ? data : at(flat) + first_row;
    return Block(start, row_count, n, Eigen::OuterStride<>(token_stride));
  }
};

namespace detail {

template <class X>
concept TensorLike = requires(const X& x) {
  { x.dimension(0) } -> std::convertible_to<Index>;
  x.data();
  X::Layout;
  X::NumDimensions;
};

template <class X>
concept DirectMatrix = requires(const X& x) {
  { x.rows() } -> std::convertible_to<Index>;
  { x.cols() } -> std::convertible_to<Index>;
  { x.innerStride() } -> std::convertible_to<Index>;
  { x.outerStride() } -> std::convertible_to<Index>;
  x.data();
  X::IsRowMajor;
};

template <class X>
struct IsTokens : std::false_type {};
template <class Scalar>
struct IsTokens<Tokens<Scalar>> : std::true_type {};

/// Mandate at every entry that writes to an argument taken as Y&&: a temporary view is fine, a temporary that
/// owns its values is not.
template <class Y>
consteval void check_kept() {
  constexpr bool kMatrix = requires { typename Y::PlainObject; };
  constexpr bool kTensor = requires(Y & y) { y.resize(y.dimensions()); };
  if constexpr (!std::is_lvalue_reference_v<Y> && kMatrix) {
    static_assert(
        !std::is_same_v<std::remove_const_t<Y>, typename Y::PlainObject>,
        "hsm: the result is written to a temporary matrix and would be lost; pass a matrix that stays");
  } else if constexpr (!std::is_lvalue_reference_v<Y>) {
    static_assert(
        !kTensor,
        "hsm: the result is written to a temporary tensor and would be lost; pass a tensor that stays");
  }
}

/// check_sizes for any sizes.
template <class Scalar>
HSM_NOINLINE void check_any_sizes(const char* who, const Tokens<Scalar>& tokens) {
  check_at_least(who, "batch", tokens.batch, 0);
  check_at_least(who, "time", tokens.time, 0);
  check_at_least(who, "channels", tokens.channels, 0);
  if (tokens.time > 1) check_at_least(who, "token_stride", tokens.token_stride, 0);
  if (tokens.batch > 1) check_at_least(who, "batch_stride", tokens.batch_stride, 0);
  // In double, whose products cannot overflow and whose rounding is far below the room that is left.
  constexpr double kMost = static_cast<double>((std::numeric_limits<Index>::max)() / 2) / sizeof(Scalar);
  const auto wide = [](Index value) { return static_cast<double>(value); };
  const double C = wide(tokens.channels);
  const double last = (tokens.time > 1 ? wide(tokens.time - 1) * wide(tokens.token_stride) : 0) +
                      (tokens.batch > 1 ? wide(tokens.batch - 1) * wide(tokens.batch_stride) : 0);
  const bool fits = wide(tokens.batch) * wide(tokens.time) * (std::max)(1.0, C) < kMost && last + C < kMost;
  if (!fits) {
    fail(who, "the view", "small enough to address",
         to_text(tokens.shape()) + " with token_stride " + std::to_string(tokens.token_stride) +
             " and batch_stride " + std::to_string(tokens.batch_stride));
  }
}

/// Throws unless sizes and strides are at least 0, and all tokens, and a dense buffer of as many, can be
/// addressed.
template <class Scalar>
void check_sizes(const char* who, const Tokens<Scalar>& tokens) {
  using Bits = std::make_unsigned_t<Index>;
  constexpr int kEasy = (kIndexBits - 6) / 3;  // bits of three sizes whose product is far from overflow
  Bits all = 0;
  for (const Index size :
       {tokens.batch, tokens.time, tokens.channels, tokens.token_stride, tokens.batch_stride})
    all |= static_cast<Bits>(size);
  if (all >> kEasy != 0) check_any_sizes(who, tokens);
}

/// Whether no two tokens share an element. O(1) where one stride steps over all that the other reaches, else
/// O(min(B, T)).
template <class Scalar>
bool are_apart(const Tokens<Scalar>& tokens) {
  const Index C = tokens.channels;
  struct Axis {
    Index count, stride;
  };
  Axis inner{tokens.time, tokens.token_stride}, outer{tokens.batch, tokens.batch_stride};
  if (inner.count == 0 || outer.count == 0 || C == 0) return true;
  if ((inner.count > 1 && inner.stride < C) || (outer.count > 1 && outer.stride < C)) return false;
  if (inner.count == 1 || outer.count == 1) return true;
  if (outer.stride < inner.stride) std::swap(inner, outer);
  if (outer.stride >= (inner.count - 1) * inner.stride + C) return true;
  // Distances i outer.stride - j inner.stride: only the two nearest to 0 of each i, or of each j, can be below C.
  if (inner.count < outer.count) std::swap(inner, outer);
  for (Index i = 1; i < outer.count; ++i) {
    const Index place = i * outer.stride, j = (std::min)(place / inner.stride, inner.count - 1);
    if (place - j * inner.stride < C) return false;
    if (j + 1 < inner.count && (j + 1) * inner.stride - place < C) return false;
  }
  return true;
}

/// Throws for tokens of what is written to that share an element.
template <class Scalar>
[[noreturn]] HSM_NOINLINE void fail_writable(const char* who, const Tokens<Scalar>& tokens) {
  fail(who, "the tokens of what is written",
       "apart in memory: each of " + detail::counted(tokens.channels, "channel") + " of its own",
       to_text(tokens.shape()) + " with token_stride " + std::to_string(tokens.token_stride) +
           " and batch_stride " + std::to_string(tokens.batch_stride) + ", where tokens overlap");
}

/// Throws unless no two tokens of what is written to share an element.
template <class Scalar>
void check_writable(const char* who, const Tokens<Scalar>& tokens) {
  if (tokens.time == 1 && tokens.batch == 1) return;
  if (!are_apart(tokens)) fail_writable(who, tokens);
}

/// x as tokens with elements of type Element, const or not; sizes and strides are unchecked.
template <class Element, class X>
Tokens<Element> as_tokens(X& x, const char* who) {
  using Plain = std::remove_const_t<X>;
  using Scalar = std::remove_const_t<Element>;
  if constexpr (IsTokens<Plain>::value) {
    static_assert(
        std::is_convertible_v<Plain, Tokens<Element>>,
        "hsm: this Tokens view has another scalar than the mixer, or is const where the result is written");
    return x;
  } else {
    constexpr bool kTensor = TensorLike<Plain>;
    constexpr bool kMatrix = DirectMatrix<Plain>;
    static_assert(kTensor || kMatrix,
                  "hsm: this argument cannot be viewed as tokens without a copy. Pass a Tensor<Scalar, 3, "
                  "RowMajor> [B,T,C] or its "
                  "TensorMap, a column-major matrix (C,T), a row-major matrix (T,C), a vector [C], a Map, "
                  "Block or Ref of these, or "
                  "hsm::Tokens; evaluate an expression into a matrix first");
    if constexpr (kTensor || kMatrix) {
      using Found = std::remove_pointer_t<decltype(x.data())>;
      static_assert(std::is_same_v<std::remove_const_t<Found>, Scalar>,
                    "hsm: the scalar of this argument is not the scalar of the mixer");
      static_assert(std::is_const_v<Element> || !std::is_const_v<Found>,
                    "hsm: the result is written to this argument, but it is const");
      if constexpr (kTensor) {
        static_assert(
            Plain::NumDimensions == 3 && static_cast<int>(Plain::Layout) == static_cast<int>(Eigen::RowMajor),
            "hsm: a tensor argument must be Tensor<Scalar, 3, RowMajor>, [batch, time, channels]");
        return {x.data(), static_cast<Index>(x.dimension(0)), static_cast<Index>(x.dimension(1)),
                static_cast<Index>(x.dimension(2))};
      } else {
        const Index channels = Plain::IsRowMajor ? x.cols() : x.rows();
        const Index time = Plain::IsRowMajor ? x.rows() : x.cols();
        if (channels > 1 && time > 0)
          check_equal(who, "the step from channel to channel", x.innerStride(), Index{1});
        return {x.data(), 1, time, channels, time > 1 ? x.outerStride() : channels, 0};
      }
    }
  }
}

/// The view of x with elements of type Element (const or not), checked: to read through, or to write through
/// where Element is not const. `who` names the argument in messages.
template <class Element, class X>
Tokens<Element> view(X& x, const char* who) {
  const Tokens<Element> tokens = as_tokens<Element>(x, who);
  check_sizes(who, tokens);
  if constexpr (!std::is_const_v<Element>) check_writable(who, tokens);
  return tokens;
}

/// What a view of x has values of, const where x is.
template <class Plain, class X>
struct ElementOf {
  using Type = std::remove_reference_t<decltype(*std::declval<X&>().data())>;
};
template <class Scalar, class X>
struct ElementOf<Tokens<Scalar>, X> {
  using Type = Scalar;
};

}  // namespace detail

/// Tokens first ... first + count - 1 of every sequence of x, anything that can be viewed: writable where x
/// is. Throws std::invalid_argument where x has no such tokens.
template <class X>
auto slice(X& x, Index first, Index count) {
  using Element = typename detail::ElementOf<std::remove_const_t<X>, X>::Type;
  const Tokens<Element> all = detail::as_tokens<Element>(x, "slice: x");
  detail::check_sizes("slice: x", all);
  if (first < 0 || count < 0 || first > all.time - count) {
    detail::fail("slice", "the tokens", "within the " + std::to_string(all.time) + " of x",
                 std::to_string(count) + " from " + std::to_string(first));
  }
  return all.slice(first, count);
}

}  // namespace hsm::inline HSM_ABI
