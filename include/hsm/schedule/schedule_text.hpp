// SPDX-License-Identifier: MIT
//
// A schedule named by text, for tools and model files: `dyadic`, `cyclic=P`, or `list=1,2,4` (one shift per
// layer).
#pragma once

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/explicit.hpp>

namespace hsm {

namespace detail {

template <Schedule S>
std::vector<Index> all_shifts(const S& schedule) {
  std::vector<Index> shifts;
  for (Index l = 0; l < schedule.layer_count(); ++l) shifts.push_back(schedule.shift(l));
  return shifts;
}

inline Index shift_number(std::string_view text, std::string_view whole) {
  Index value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
    throw std::invalid_argument("schedule: expected a number, got '" + std::string(text) + "' in '" +
                                std::string(whole) + "'");
  }
  return value;
}

}  // namespace detail

/// The shifts of `layers` layers by the schedule that `text` names. Throws std::invalid_argument for an
/// unknown schedule, a bad number, or a list of another length than layers.
inline std::vector<Index> shifts_of(std::string_view text, Index layers) {
  if (text == "dyadic") return detail::all_shifts(DyadicSchedule{layers});
  if (text.starts_with("cyclic=")) {
    return detail::all_shifts(CyclicSchedule{layers, detail::shift_number(text.substr(7), text)});
  }
  if (text.starts_with("list=")) {
    std::vector<Index> shifts;
    for (std::size_t start = 5; start <= text.size();) {
      const std::size_t comma = std::min(text.find(',', start), text.size());
      shifts.push_back(detail::shift_number(text.substr(start, comma - start), text));
      start = comma + 1;
    }
    if (static_cast<Index>(shifts.size()) != layers) {
      throw std::invalid_argument("schedule: the list must have one shift for each of " +
                                  std::to_string(layers) + " layers, got " + std::to_string(shifts.size()));
    }
    return detail::all_shifts(ExplicitSchedule(std::span<const Index>(shifts)));
  }
  throw std::invalid_argument("schedule: expected dyadic, cyclic=P or list=1,2,4, got '" + std::string(text) +
                              "'");
}

}  // namespace hsm
