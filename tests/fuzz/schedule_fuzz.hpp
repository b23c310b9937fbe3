// SPDX-License-Identifier: MIT
//
// Schedules: the first byte is the number of layers, the rest the text. It is refused with
// std::invalid_argument or has a canonical text that means the same shift for every layer and head.
#pragma once

#include <stdexcept>
#include <string>

#include <hsm/schedule/schedule_text.hpp>

#include "fuzz/property.hpp"

namespace hsm::test {

/// Returns whether `input` is a schedule.
inline bool fuzz_schedule(Input input) {
  if (input.empty()) return false;
  const Index L = input[0];
  const std::string text = text_of(input.subspan(1));
  ScheduleText schedule;
  if (!accepts<std::invalid_argument>("", [&] { schedule = ScheduleText::parse(text, L); })) return false;

  require(schedule.layer_count() == L, "a schedule must have the layers asked for");
  const std::string canonical = schedule.text();
  const ScheduleText again = ScheduleText::parse(canonical, L);
  require(again.text() == canonical, "the canonical text must be its own canonical text");
  for (Index l = 0; l < L; ++l) {
    const auto shifts = schedule.head_shifts(l);
    const auto period = static_cast<Index>(shifts.size());
    require(again.head_shifts(l) == shifts, "the canonical text must mean the same shifts");
    require(shifts.front() == schedule.shift(l), "the shift of a layer must be that of its head 0");
    for (Index h = 0; h < 2 * period; h += 1 + h / 4) {
      const Index s = schedule.shift(l, h);
      require(s >= 1, "a shift must be at least 1");
      require(s == shifts[static_cast<std::size_t>(h % period)], "the shifts of heads must repeat");
    }
  }
  return true;
}

}  // namespace hsm::test
