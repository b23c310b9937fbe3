// SPDX-License-Identifier: MIT
//
// Numbers as people give them to the tool: one rule for all, and what the help says of their bounds comes from
// what checks them.
//
//   whole     decimal digits: 010 is ten
//   others    decimal digits with or without a point, and perhaps an exponent: 0.5, 3e-4
//
// No sign in front, no spaces, no other base, nothing behind; neither nan nor infinity.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/core/quote.hpp>

#include "examples/support/text.hpp"

namespace hsm::examples {

/// The numbers from `least` to `most`, neither below 0.
template <class Number>
struct Bounds {
  Number least{}, most{};
  bool open = false;  ///< whether `least` itself is not one of them
};

/// All seeds.
inline constexpr Bounds<std::uint64_t> kSeeds{0, std::numeric_limits<std::uint64_t>::max()};

namespace detail {

inline std::string number_text(double value) { return format("%g", value); }

/// "1024", but "2^40" and "2^62 - 1".
template <std::integral Number>
std::string number_text(Number value) {
  const auto bits = static_cast<std::uint64_t>(value);
  if (bits == std::numeric_limits<std::uint64_t>::max()) return "2^64 - 1";
  constexpr int kLeast = 20;
  for (int power = kLeast; power < 64; ++power) {
    if (bits == std::uint64_t{1} << power) return "2^" + std::to_string(power);
    if (bits == (std::uint64_t{1} << power) - 1) return "2^" + std::to_string(power) + " - 1";
  }
  return std::to_string(value);
}

/// Digits, perhaps with a point between or beside them, and perhaps an exponent.
inline bool is_decimal(std::string_view text) {
  std::size_t at = 0;
  const auto digits = [&] {
    const std::size_t first = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - first;
  };
  std::size_t count = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    count += digits();
  }
  if (count == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

inline std::optional<double> parse_number(const std::string& text, double) {
  if (!is_decimal(text)) return std::nullopt;
  return std::strtod(text.c_str(), nullptr);  // too large: infinity, which no bounds hold
}

template <std::integral Number>
std::optional<Number> parse_number(const std::string& text, Number) {
  const char* const last = text.data() + text.size();
  if (text.empty() || text[0] == '-') return std::nullopt;
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last) return std::nullopt;
  return value;
}

}  // namespace detail

/// "1 to 1024", "above 0, at most 1".
template <class Number>
std::string bounds_text(const Bounds<Number>& bounds) {
  const std::string least = detail::number_text(bounds.least), most = detail::number_text(bounds.most);
  return bounds.open ? "above " + least + ", at most " + most : least + " to " + most;
}

/// The number that `text` is. Throws std::invalid_argument that says what it must be and what came.
template <class Number>
Number read_number(const std::string& text, const Bounds<Number>& bounds) {
  const std::optional<Number> value = detail::parse_number(text, Number{});
  if (value && *value >= bounds.least && *value <= bounds.most && !(bounds.open && *value == bounds.least))
    return *value;
  throw std::invalid_argument(std::string("must be a ") + (std::is_integral_v<Number> ? "whole " : "") +
                              "number, " + bounds_text(bounds) + ", got " + hsm::detail::in_quotes(text));
}

/// An option that takes a number. `value` must outlive the parsing; what it holds is shown as the default where
/// `Value` is the number itself, and not where it is an optional.
template <class Value, class Number>
CLI::Option* add_number(CLI::App& app, const std::string& name, Value& value, const Bounds<Number>& bounds,
                        const std::string& description) {
  const auto read = [&value, bounds, name](const std::string& text) {
    try {
      value = read_number(text, bounds);
    } catch (const std::invalid_argument& error) {
      throw CLI::ValidationError(name, error.what());
    }
  };
  CLI::Option* option = app.add_option_function<std::string>(name, read, description);
  option->type_name(bounds_text(bounds));
  if constexpr (std::is_same_v<Value, Number>) option->default_str(detail::number_text(value));
  return option;
}

/// An option that takes numbers separated by commas, each within `bounds`; `values` holds the default.
template <class Number>
CLI::Option* add_numbers(CLI::App& app, const std::string& name, std::vector<Number>& values,
                         const Bounds<Number>& bounds, const std::string& description) {
  std::string usual;
  for (const Number value : values) usual += (usual.empty() ? "" : ",") + detail::number_text(value);
  const auto read = [&values, bounds, name](const std::string& text) {
    std::vector<Number> given;
    try {
      for (std::size_t first = 0; first <= text.size();) {
        const std::size_t end = std::min(text.find(',', first), text.size());
        given.push_back(read_number(text.substr(first, end - first), bounds));
        first = end + 1;
      }
    } catch (const std::invalid_argument& error) {
      throw CLI::ValidationError(name, "each " + std::string(error.what()));
    }
    values = std::move(given);
  };
  CLI::Option* option = app.add_option_function<std::string>(name, read, description);
  option->type_name(bounds_text(bounds) + ", ...");
  if (!usual.empty()) option->default_str(usual);
  return option;
}

}  // namespace hsm::examples
