// SPDX-License-Identifier: MIT
//
// Eigen's matrix product as the library calls it: serial, and with another multiply-add.
//
// Serial: where a program is compiled with OpenMP, Eigen divides each product among threads of its own. Our
// products are blocks that an Executor divides already, and their bits must not depend on a number of threads; so
// the kernel behind Eigen's product is called itself, with nobody to share with. Its interface is that of Eigen 3.4
// to 5; other versions go the usual way.
//
// The multiply-add: Eigen 3.4 writes a b + c as an intrinsic, of which g++ (8 and later) makes the form that
// overwrites a factor and then moves registers about; the form that accumulates into c, written out as Eigen itself
// does for Clang, is 1.2 times as fast on a Zen 3 (512 x 1024 x 512, float). The result is the same, bit for bit.
//
// Eigen chooses its kernel by the types of the factors and by whether the left one is conjugated, which for real
// numbers means nothing: that case is taken here, so Eigen as the user's own code sees it stays as it is. Only the
// releases 3.4, whose internals these are (not the snapshots 3.4.90 before 5.0); else HSM_EIGEN_KERNEL is 0.
#pragma once

#include <hsm/core/abi.hpp>
#include <hsm/core/eigen.hpp>

#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX__) && defined(__FMA__) && \
    !defined(__AVX512F__) && EIGEN_WORLD_VERSION == 3 && EIGEN_MAJOR_VERSION == 4 &&    \
    EIGEN_MINOR_VERSION < 90 && !defined(EIGEN_DONT_VECTORIZE) && !defined(EIGEN_USE_BLAS)
#define HSM_EIGEN_KERNEL 1
#else
/// 1 where products of Eigen go through the multiply-add of this file, else 0.
#define HSM_EIGEN_KERNEL 0
#endif

#if EIGEN_WORLD_VERSION == 3 && (EIGEN_MAJOR_VERSION == 4 || EIGEN_MAJOR_VERSION == 5)
#define HSM_EIGEN_SERIAL 1
#else
/// 1 where products of Eigen are serial whatever the program is compiled with, else 0.
#define HSM_EIGEN_SERIAL 0
#endif

#if HSM_EIGEN_KERNEL

namespace hsm::inline HSM_ABI::detail {

/// How the inner loop of a product computes, with the accumulating multiply-add for packets of 256 bits.
template <class Scalar, int Architecture, int PacketSize>
class AccumulatingTraits
    : public Eigen::internal::gebp_traits<Scalar, Scalar, false, false, Architecture, PacketSize> {
  using Base = Eigen::internal::gebp_traits<Scalar, Scalar, false, false, Architecture, PacketSize>;

 public:
  template <class Lhs, class Rhs, class Sum, class Lane>
  EIGEN_STRONG_INLINE void madd(const Lhs& a, const Rhs& b, Sum& sum, Rhs& scratch, const Lane& lane) const {
    if constexpr (sizeof(Sum) != 32 || sizeof(Rhs) != 32) {
      Base::madd(a, b, sum, scratch, lane);
    } else if constexpr (sizeof(Scalar) == 4) {
      __asm__("vfmadd231ps %[a], %[b], %[sum]" : [sum] "+x"(sum) : [a] "x"(a), [b] "x"(b));
    } else {
      __asm__("vfmadd231pd %[a], %[b], %[sum]" : [sum] "+x"(sum) : [a] "x"(a), [b] "x"(b));
    }
  }
  template <class Lhs, class Sum, class Lane>
  EIGEN_STRONG_INLINE void madd(const Lhs& a, const typename Base::RhsPacketx4& b, Sum& sum,
                                typename Base::RhsPacket& scratch, const Lane& lane) const {
    madd(a, b.get(lane), sum, scratch, lane);
  }
};

}  // namespace hsm::inline HSM_ABI::detail

namespace Eigen::internal {

template <int Architecture, int PacketSize>
class gebp_traits<float, float, true, false, Architecture, PacketSize>
    : public hsm::detail::AccumulatingTraits<float, Architecture, PacketSize> {};
template <int Architecture, int PacketSize>
class gebp_traits<double, double, true, false, Architecture, PacketSize>
    : public hsm::detail::AccumulatingTraits<double, Architecture, PacketSize> {};

}  // namespace Eigen::internal

#endif  // HSM_EIGEN_KERNEL

#if HSM_EIGEN_SERIAL

namespace hsm::inline HSM_ABI::detail {

/// C += op(A) op(B) of (rows, depth) and (depth, cols), each an address and a stride; kAOrder and kBOrder say how
/// A and B lie in memory. Serial.
template <int kAOrder, int kBOrder, class Scalar>
void add_product(Eigen::Index rows, Eigen::Index cols, Eigen::Index depth, const Scalar* a,
                 Eigen::Index a_stride, const Scalar* b, Eigen::Index b_stride, Scalar* c,
                 Eigen::Index c_stride) {
  using namespace Eigen::internal;
  gemm_blocking_space<Eigen::ColMajor, Scalar, Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::Dynamic>
      blocking(rows, cols, depth, 1, true);
  general_matrix_matrix_product<Eigen::Index, Scalar, kAOrder, HSM_EIGEN_KERNEL != 0, Scalar, kBOrder, false,
                                Eigen::ColMajor, 1>::run(rows, cols, depth, a, a_stride, b, b_stride, c, 1,
                                                         c_stride, Scalar(1), blocking, nullptr);
}

}  // namespace hsm::inline HSM_ABI::detail

#endif  // HSM_EIGEN_SERIAL
