// SPDX-License-Identifier: MIT
//
// What a public call and its arguments are called in messages.
#pragma once

#include <cstddef>
#include <string_view>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// "Mixer::forward", "Mixer::forward: x" and so on, joined when it is compiled: a check then costs no text.
struct CallName {
  static constexpr std::size_t kMost = 64;

  char who[kMost]{}, x[kMost]{}, y[kMost]{}, dy[kMost]{}, dx[kMost]{};

  constexpr CallName(std::string_view layer, std::string_view call) {
    join(who, layer, call, "");
    join(x, layer, call, ": x");
    join(y, layer, call, ": y");
    join(dy, layer, call, ": dy");
    join(dx, layer, call, ": dx");
  }

 private:
  static constexpr void join(char (&out)[kMost], std::string_view layer, std::string_view call,
                             std::string_view argument) {
    std::size_t i = 0;
    for (const std::string_view part : {layer, std::string_view("::"), call, argument}) {
      for (const char c : part) out[i++] = c;  // past the end is refused when it is compiled
    }
  }
};

}  // namespace hsm::inline HSM_ABI::detail
