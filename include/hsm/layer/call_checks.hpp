// SPDX-License-Identifier: MIT
//
// What calls ask of buffers, records and gradients whatever the layer is, compiled once for all of them. Each throws
// std::invalid_argument, O(1).
#pragma once

#include <string>
#include <string_view>

#include <hsm/core/check.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Throws unless the record is one of a call with an x of this shape.
HSM_NOINLINE inline void check_recorded(const char* who, const Shape<3>& x, const Shape<3>& recorded) {
  if (recorded[0] < 0)
    fail(who, "saved", "the record of a forward, packed or extend", "one that nothing was saved in");
  check_equal(who, "x", x, recorded);
}

/// Throws for tokens without memory.
template <class Scalar>
void check_there(const char* who, const char* what, const char* expected, const Tokens<Scalar>& tokens) {
  if (!tokens.data && tokens.count() > 0) fail(who, what, expected, "none");
}

/// Throws unless dy and dx have the shape of x, and dx memory of its own.
template <class Scalar>
HSM_NOINLINE void check_adjoint_buffers(const char* who, const Tokens<const Scalar>& x,
                                        const Tokens<const Scalar>& dy, const Tokens<Scalar>& dx) {
  check_equal(who, "dy", dy.shape(), x.shape());
  check_equal(who, "dx", dx.shape(), x.shape());
  check_there(who, "dy", "memory to read from", dy);
  check_there(who, "dx", "memory to write to", dx);
  check_apart(who, "x and dx", x, dx);
  check_apart(who, "dy and dx", dy, dx);
}

/// Throws unless a tensor and its gradient have one shape.
HSM_NOINLINE inline void check_gradient_of(const char* who, std::string_view name, const Shape<2>& own,
                                           const Shape<2>& gradient) {
  if (gradient != own) fail(who, "the gradient of " + std::string(name), to_text(own), to_text(gradient));
}

}  // namespace hsm::inline HSM_ABI::detail
