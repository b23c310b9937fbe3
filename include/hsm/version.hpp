// SPDX-License-Identifier: MIT
//
// The version of the library, for programs and for the preprocessor. These three numbers are the only place
// where it is written: CMakeLists.txt reads them from this file.
//
// While the major number is 0, a new minor number may break source code; a new patch number never does.
#pragma once

#include <string_view>

/// The first number of the version.
#define HSM_VERSION_MAJOR 0
/// The second.
#define HSM_VERSION_MINOR 1
/// The third.
#define HSM_VERSION_PATCH 0

#define HSM_DETAIL_QUOTE(x) #x
#define HSM_DETAIL_VERSION(major, minor, patch) \
  HSM_DETAIL_QUOTE(major) "." HSM_DETAIL_QUOTE(minor) "." HSM_DETAIL_QUOTE(patch)

namespace hsm {

/// The version as text: "major.minor.patch".
inline constexpr std::string_view kVersion =
    HSM_DETAIL_VERSION(HSM_VERSION_MAJOR, HSM_VERSION_MINOR, HSM_VERSION_PATCH);

}  // namespace hsm

#undef HSM_DETAIL_VERSION
#undef HSM_DETAIL_QUOTE
