// SPDX-License-Identifier: MIT
//
// What a recipe may say about a layer: whole numbers by name, as in `softmax-local:heads=4:taps=3`. A policy, and a
// layer that is no shift mixer, states which it takes, and how it is made from them; nothing is guessed from its constructors.
//
//   static constexpr std::array kOptions{hsm::heads_option(hsm::default_heads),
//                                        hsm::PolicyOption{.name = "taps", .least = 2, .most = hsm::kMostTaps,
//                                                          .usual = [](hsm::Index) -> hsm::Index { return 2; }}};
//   static SoftmaxLocal make(hsm::Index channels, const hsm::OptionValues& options, hsm::Random& random) {
//     return SoftmaxLocal(channels, random, options["heads"], options["taps"]);
//   }
//
// `make` gets a value for every option, within its bounds. A policy without options needs neither: it is made
// as (channels, random) or (channels). One whose constructor takes further whole numbers must say what a recipe
// may give, or by an empty `std::array<hsm::PolicyOption, 0> kOptions` that it may give nothing.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The largest value that an option of a recipe can have.
inline constexpr Index kMostOptionValue = Index{1} << 20;

namespace detail {
constexpr Index one(Index) { return 1; }
}  // namespace detail

/// One option of a policy: its name (letters a-z, then also digits and '-'), bounds, and what it is where a
/// recipe does not say.
struct PolicyOption {
  /// As in a recipe.
  std::string_view name;
  Index least = 1;                ///< 0 or more
  Index most = kMostOptionValue;  ///< at most kMostOptionValue
  /// The value for so many channels where none is given.
  Index (*usual)(Index channels) = detail::one;
};

/// The values of a layer's options, sorted by name.
class OptionValues {
  using Values = std::vector<std::pair<std::string, Index>>;

 public:
  /// The value of `name`, if it has one.
  std::optional<Index> find(std::string_view name) const {
    for (const auto& [key, value] : values_)
      if (key == name) return value;
    return std::nullopt;
  }
  /// The value of `name`. Throws std::invalid_argument where there is none: `make` asked for what kOptions does
  /// not name.
  Index operator[](std::string_view name) const {
    if (const auto value = find(name)) return *value;
    detail::fail("OptionValues", "the option asked for", "one that the policy's kOptions name",
                 std::string(name));
  }
  /// Gives `name` a value, in place of one that it had.
  void set(std::string_view name, Index value) {
    const auto place = lower(values_, name);
    if (place != values_.end() && place->first == name) {
      place->second = value;
    } else {
      values_.emplace(place, std::string(name), value);
    }
  }
  /// Takes the value of `name` away, if it has one.
  void remove(std::string_view name) {
    const auto place = lower(values_, name);
    if (place != values_.end() && place->first == name) values_.erase(place);
  }

  /// The first pair of name and value.
  auto begin() const { return values_.begin(); }
  /// Behind the last pair.
  auto end() const { return values_.end(); }

  /// Whether both hold the same names with the same values.
  friend bool operator==(const OptionValues&, const OptionValues&) = default;

 private:
  static Values::iterator lower(Values& values, std::string_view name) {
    return std::lower_bound(values.begin(), values.end(), name,
                            [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
  }

  Values values_;
};

/// How many heads give each a width nearest to `width` channels, by ratio, among the widths that divide
/// `channels`. O(sqrt(channels)).
constexpr Index heads_of_width(Index channels, Index width) {
  const auto nearer = [width](Index one, Index other) {
    const auto wide = [width](Index w) { return static_cast<std::uint64_t>(w > width ? w : width); };
    const auto narrow = [width](Index w) { return static_cast<std::uint64_t>(w > width ? width : w); };
    return wide(one) * narrow(other) < wide(other) * narrow(one);
  };
  Index best = channels;
  for (Index d = 1; d <= channels / d; ++d) {
    if (channels % d != 0) continue;
    for (const Index each : {d, channels / d})
      if (channels / each <= kMostOptionValue && nearer(each, best)) best = each;
  }
  return best > 0 ? channels / best : 1;  // of no channels: whoever makes the layer refuses them
}

/// Heads of `attention`, `hkt`, `linear-attention` and `softmax-local` where a recipe names none: about 32 channels each below 512
/// channels, else 64; see heads_of_width.
constexpr Index default_heads(Index channels) { return heads_of_width(channels, channels < 512 ? 32 : 64); }

/// Heads of `ab` and `channel` where a recipe names none: about 16 channels each. Heads of `ab` that start with
/// different b let what follows tell the token from its partner; one head for all channels trains worse. The
/// heads of `channel` matter where the schedule differs by head.
constexpr Index default_pair_heads(Index channels) { return heads_of_width(channels, 16); }

/// The option `heads`; without a rule of its own there is one head where a recipe names none.
constexpr PolicyOption heads_option(Index (*usual)(Index channels) = detail::one) {
  return {.name = "heads", .least = 1, .most = kMostOptionValue, .usual = usual};
}

}  // namespace hsm::inline HSM_ABI
