// SPDX-License-Identifier: MIT
//
// A schedule named by text, for tools and model files:
//
//   dyadic          1, 2, 4, 8, ...             cyclic=P      1, 2, ... 2^(P-1), 1, 2, ...
//   geometric=B     1, B, B^2, ...              list=1,2,4    one shift per layer
//   reversed:...    any of these from the last layer to the first
//   rotated:...     head h of layer l at the distance of layer (l + h) mod L; changes no layer of one head
//
// Prefixes compose from left to right: `reversed:rotated:dyadic` is Reversed{HeadRotated{DyadicSchedule}}.
// The canonical text (no prefix that has no effect, numbers without leading zeros) is what a model file
// holds. Errors are std::invalid_argument that name the place in the text.
#pragma once

#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/quote.hpp>
#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/explicit.hpp>
#include <hsm/schedule/geometric.hpp>
#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// A schedule that was read from text.
class ScheduleText {
 public:
  /// The dyadic schedule of no layers.
  ScheduleText() = default;

  /// Reads the schedule of `layers` layers that `text` names. Throws std::invalid_argument for a text that
  /// names none, a number below 1, a shift that Index does not hold, or a list of another length than layers.
  static ScheduleText parse(std::string_view text, Index layers);

  /// The canonical text; parse(text(), layer_count()) gives the same schedule.
  std::string text() const {
    return std::string(reversed_ ? "reversed:" : "") + (rotated_ ? "rotated:" : "") +
           (reversed_inside_ ? "reversed:" : "") + name_;
  }

  /// L.
  Index layer_count() const { return static_cast<Index>(shifts_.size()); }
  /// The distance of layer l. Throws std::out_of_range for a layer that is not there.
  Index shift(Index l) const { return shift(l, 0); }
  /// The distance of head h of layer l. Throws std::out_of_range for a layer that is not there or head < 0.
  Index shift(Index l, Index head) const;
  /// The distances of the heads 0, 1, ... of layer l, after which they repeat: one where all heads are alike.
  /// Throws std::out_of_range for a layer that is not there.
  std::vector<Index> head_shifts(Index l) const;

 private:
  class Reader;

  std::string name_ = "dyadic";  // without prefixes
  std::vector<Index> shifts_;    // [L], without prefixes
  // Any row of prefixes is one of reversed, rotated, reversed, each there or not: two reversals undo each
  // other, and a second rotation finds the head already used.
  bool reversed_ = false, rotated_ = false, reversed_inside_ = false;
};

static_assert(Schedule<ScheduleText>);

/// Reads a schedule off its text.
class ScheduleText::Reader {
 public:
  /// Of `layers` layers.
  Reader(std::string_view text, Index layers) : text_(text), layers_(layers) {}

  /// The whole text, or an exception that names the place.
  [[gnu::cold]] ScheduleText read() {
    prefixes();
    if (take("dyadic")) {
      base(DyadicSchedule{layers_}, "dyadic");
    } else if (take("cyclic=")) {
      const Index period = number("a period");
      base(CyclicSchedule{layers_, period}, "cyclic=" + std::to_string(period));
    } else if (take("geometric=")) {
      const Index factor = number("a base");
      base(GeometricSchedule{layers_, factor}, "geometric=" + std::to_string(factor));
    } else if (take("list=")) {
      list();
    } else {
      fail("dyadic, cyclic=P, geometric=B or list=1,2,4, after any of reversed: and rotated:,");
    }
    if (place_ != text_.size()) fail("the end");
    return std::move(schedule_);
  }

 private:
  [[gnu::cold]] void prefixes() {
    while (true) {
      if (take("reversed:")) {
        bool& reversed = schedule_.rotated_ ? schedule_.reversed_inside_ : schedule_.reversed_;
        reversed = !reversed;
      } else if (take("rotated:")) {
        schedule_.rotated_ = true;
      } else {
        return;
      }
    }
  }

  [[gnu::cold]] void list() {
    const std::size_t start = place_;
    std::vector<Index> shifts;
    std::string name = "list=";
    do {
      shifts.push_back(number("a shift"));
      name += (shifts.size() > 1 ? "," : "") + std::to_string(shifts.back());
    } while (take(","));
    if (static_cast<Index>(shifts.size()) != layers_) {
      detail::raise<std::invalid_argument>("schedule: expected one shift for each of " +
                                           detail::counted(layers_, "layer") + " at character " +
                                           std::to_string(start) + ", got " + std::to_string(shifts.size()));
    }
    base(ExplicitSchedule(std::span<const Index>(shifts)), std::move(name));
  }

  template <Schedule S>
  void base(const S& schedule, std::string name) {
    schedule_.name_ = std::move(name);
    for (Index l = 0; l < schedule.layer_count(); ++l) schedule_.shifts_.push_back(schedule.shift(l));
  }

  /// A number from 1 on.
  Index number(const char* what) {
    constexpr Index kMost = (std::numeric_limits<Index>::max)();
    const std::size_t start = place_;
    Index value = 0;
    for (; place_ < text_.size() && text_[place_] >= '0' && text_[place_] <= '9'; ++place_) {
      const Index digit = text_[place_] - '0';
      value = value > (kMost - digit) / 10 ? kMost : 10 * value + digit;
    }
    if (value < 1 || value == kMost) {
      place_ = start;
      fail(std::string(what) + " from 1 to 2^" + std::to_string(kIndexBits) + " - 2");
    }
    return value;
  }

  bool take(std::string_view word) {
    if (!text_.substr(place_).starts_with(word)) return false;
    place_ += word.size();
    return true;
  }

  [[noreturn]] void fail(const std::string& expected) const {
    const std::string got = place_ < text_.size() ? detail::in_quotes(text_.substr(place_, 12)) : "the end";
    detail::raise<std::invalid_argument>("schedule: expected " + expected + " at character " +
                                         std::to_string(place_) + ", got " + got);
  }

  std::string_view text_;
  Index layers_;
  std::size_t place_ = 0;
  ScheduleText schedule_;
};

inline ScheduleText ScheduleText::parse(std::string_view text, Index layers) {
  return Reader(text, layers).read();
}

inline Index ScheduleText::shift(Index l, Index head) const {
  const Index L = layer_count();
  detail::check_layer("ScheduleText::shift", l, L);
  if (head < 0)
    detail::raise<std::out_of_range>("ScheduleText::shift: head must be at least 0, got " +
                                     std::to_string(head));
  if (reversed_) l = L - 1 - l;
  if (rotated_) l = (l + head % L) % L;
  if (reversed_inside_) l = L - 1 - l;
  return shifts_[static_cast<std::size_t>(l)];
}

inline std::vector<Index> ScheduleText::head_shifts(Index l) const {
  std::vector<Index> shifts{shift(l, 0)};
  for (Index h = 1; rotated_ && h < layer_count(); ++h) shifts.push_back(shift(l, h));
  return shifts;
}

}  // namespace hsm::inline HSM_ABI
