// SPDX-License-Identifier: MIT
//
// The small products inside an attention tile, written for operands that already lie in the first-level
// cache, where a general product would spend its time packing. All have one form: a strip of kLanes<Scalar>
// columns, two packets wide, is multiplied from the left,
//
//   out[r][lane] = (first[r][lane] +) sum_k a(r, k) b[k][lane]        r < rows, k < depth, lane < kLanes
//
// six rows at a time: 12 accumulators, 2 packets of b and a broadcast fill the 16 registers of AVX2. An
// element is a chain of multiply_add over ascending k whatever strip, row block or call it is computed in, so
// the bits do not depend on the tiling. Packets are those of Eigen; where it has none they are single
// scalars.
#pragma once

#include <cstddef>
#include <utility>

#include <hsm/core/product.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class Scalar>
using Packet = typename Eigen::internal::packet_traits<Scalar>::type;

/// Scalars in a packet.
template <class Scalar>
inline constexpr Index kPacket = Eigen::internal::unpacket_traits<Packet<Scalar>>::size;

/// Columns of a strip.
template <class Scalar>
inline constexpr Index kLanes = 2 * kPacket<Scalar>;

template <class Scalar>
inline Packet<Scalar> load(const Scalar* p) {
  return Eigen::internal::ploadu<Packet<Scalar>>(p);
}

template <class Scalar>
inline void store(Scalar* p, const Packet<Scalar>& value) {
  Eigen::internal::pstoreu(p, value);
}

template <class Scalar>
inline Packet<Scalar> broadcast(Scalar value) {
  return Eigen::internal::pset1<Packet<Scalar>>(value);
}

/// A whole number of strips that holds n columns.
template <class Scalar>
constexpr Index strips(Index n) {
  return (n + kLanes<Scalar> - 1) / kLanes<Scalar>;
}

/// Whether b[k][lane] = 0 removes its term even where a(r, k) is not finite.
enum class Zeros { kMultiply, kSkip };

/// Where a(r, k) lies: the values of a row one after another, or those of a column.
enum class Order { kRows, kColumns };

/// The left factor: a(r, k) = data[r * stride + k] by rows, data[k * stride + r] by columns.
template <Order kOrder, class Scalar>
struct Left {
  const Scalar* data;
  Index stride;

  const Scalar& at(Index r, Index k) const {
    return kOrder == Order::kRows ? data[r * stride + k] : data[k * stride + r];
  }
  /// From row r on.
  Left rows_from(Index r) const { return {kOrder == Order::kRows ? data + r * stride : data + r, stride}; }
  /// From column k on.
  Left depth_from(Index k) const { return {kOrder == Order::kRows ? data + k : data + k * stride, stride}; }
};

/// R rows of a strip. The pack expansions keep every accumulator in a register at any optimisation level.
template <Write kWrite, Zeros kZeros, Order kOrder, class Scalar, std::size_t... R>
inline void strip_block(std::index_sequence<R...>, Index depth, Left<kOrder, Scalar> a, const Scalar* b,
                        Index b_stride, Scalar* out, Index out_stride) {
  using Eigen::internal::pandnot, Eigen::internal::pcmp_eq, Eigen::internal::pmadd;
  constexpr Index kHalf = kPacket<Scalar>;
  Packet<Scalar> low[sizeof...(R)], high[sizeof...(R)];
  if constexpr (kWrite == Write::kAdd) {
    ((low[R] = load(out + Index(R) * out_stride)), ...);
    ((high[R] = load(out + Index(R) * out_stride + kHalf)), ...);
  } else {
    ((low[R] = high[R] = broadcast(Scalar(0))), ...);
  }
  for (Index k = 0; k < depth; ++k) {
    const Packet<Scalar> b_low = load(b + k * b_stride);
    const Packet<Scalar> b_high = load(b + k * b_stride + kHalf);
    const Packet<Scalar> skip_low = pcmp_eq(b_low, broadcast(Scalar(0)));
    const Packet<Scalar> skip_high = pcmp_eq(b_high, broadcast(Scalar(0)));
    const auto row = [&](Index r, Packet<Scalar>& sum_low, Packet<Scalar>& sum_high) {
      const Packet<Scalar> factor = broadcast(a.at(r, k));
      if constexpr (kZeros == Zeros::kSkip) {
        sum_low = pmadd(pandnot(factor, skip_low), b_low, sum_low);
        sum_high = pmadd(pandnot(factor, skip_high), b_high, sum_high);
      } else {
        sum_low = pmadd(factor, b_low, sum_low);
        sum_high = pmadd(factor, b_high, sum_high);
      }
    };
    (row(Index(R), low[R], high[R]), ...);
  }
  ((store(out + Index(R) * out_stride, low[R])), ...);
  ((store(out + Index(R) * out_stride + kHalf, high[R])), ...);
}

/// A strip: out (+)= a b, with strides from row to row of b and of out.
template <Write kWrite, Zeros kZeros = Zeros::kMultiply, Order kOrder, class Scalar>
void strip_product(Index rows, Index depth, Left<kOrder, Scalar> a, const Scalar* b, Index b_stride,
                   Scalar* out, Index out_stride) {
  constexpr Index kRows = 6;
  Index r = 0;
  const auto block = [&](auto count) {
    strip_block<kWrite, kZeros>(std::make_index_sequence<decltype(count)::value>(), depth, a.rows_from(r), b,
                                b_stride, out + r * out_stride, out_stride);
  };
  for (; r + kRows <= rows; r += kRows) block(std::integral_constant<std::size_t, kRows>());
  switch (rows - r) {
    case 5:
      return block(std::integral_constant<std::size_t, 5>());
    case 4:
      return block(std::integral_constant<std::size_t, 4>());
    case 3:
      return block(std::integral_constant<std::size_t, 3>());
    case 2:
      return block(std::integral_constant<std::size_t, 2>());
    case 1:
      return block(std::integral_constant<std::size_t, 1>());
    default:
      return;
  }
}

}  // namespace hsm::inline HSM_ABI::detail
