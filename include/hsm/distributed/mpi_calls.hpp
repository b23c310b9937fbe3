// SPDX-License-Identifier: MIT
//
// What a communicator says of what it has sent, and what stands around each call of MPI.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/version.hpp>

namespace hsm::inline HSM_ABI {

/// What a rank has sent so far.
struct Traffic {
  Index messages = 0;          ///< from rank to rank, pieces of long ones counted one by one
  Index bytes = 0;             ///< of these
  Index collective_calls = 0;  ///< sums, broadcasts and the like
  Index collective_bytes = 0;  ///< that this rank put into them

  /// Whether all is equal.
  bool operator==(const Traffic&) const = default;
};

namespace detail {

/// Throws unless a call of MPI succeeded.
inline void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  raise<std::runtime_error>(
      std::string("Communicator: ") + call + " must succeed, got " +
      (length > 0 ? std::string(text, static_cast<std::size_t>(length)) : "error " + std::to_string(code)));
}

/// The longest piece of a message.
inline constexpr Index kMessageBytes = Index{1} << 30;

template <class T>
concept Sendable = std::is_trivially_copyable_v<T>;

#define HSM_DETAIL_TEXT_OF(x) #x
#define HSM_DETAIL_TEXT(x) HSM_DETAIL_TEXT_OF(x)
/// What must be equal for two programs to work together, as text.
inline std::string build_text() {
  return "hsm " + std::string(kVersion) + " " + HSM_DETAIL_TEXT(HSM_ABI) + " with an index of " +
         std::to_string(kIndexBits + 1) + " bits";
}
#undef HSM_DETAIL_TEXT
#undef HSM_DETAIL_TEXT_OF

}  // namespace detail

}  // namespace hsm::inline HSM_ABI
