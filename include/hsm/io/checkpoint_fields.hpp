// SPDX-License-Identifier: MIT
//
// Fields of plain values as the metadata of a file, "<prefix>.<name>": whole numbers as digits, others as the
// shortest decimal that reads back to the same bits (of the clip also "infinity"), flags as "true" and "false",
// what is absent as "none". Anything else is refused: std::runtime_error `file: what was expected, what came`.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/quote.hpp>
#include <hsm/io/file_checks.hpp>
#include <hsm/io/safetensors_writer.hpp>

namespace hsm::inline HSM_ABI::detail {

inline std::string field_text(bool value) { return value ? "true" : "false"; }

template <std::integral Number>
std::string field_text(Number value) {
  return std::to_string(value);
}

inline std::string field_text(double value) {
  if (!is_finite(value)) return !is_nan(value) && value > 0 ? "infinity" : "nan";  // "nan" is not read
  return nlohmann::json(value).dump();                                             // whatever the locale
}

inline std::string field_text(const std::optional<double>& value) {
  return value ? field_text(*value) : "none";
}

/// Reads the text of a field; false where it is not one.
inline bool parse_field(const std::string& text, bool& value) {
  value = text == "true";
  return value || text == "false";
}

template <std::integral Number>
bool parse_field(const std::string& text, Number& value) {
  const auto most = static_cast<std::uint64_t>((std::numeric_limits<Number>::max)());
  std::uint64_t sum = 0;
  for (const char c : text) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (c < '0' || c > '9' || sum > (most - digit) / 10) return false;
    sum = 10 * sum + digit;
  }
  value = static_cast<Number>(sum);
  return !text.empty();
}

inline bool parse_field(const std::string& text, double& value) {
  constexpr std::size_t kMostBytes = 40;
  if (text == "infinity") {
    value = std::numeric_limits<double>::infinity();
    return true;
  }
  if (text.size() > kMostBytes || text.find('\0') != std::string::npos) return false;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_number()) return false;
  value = json.get<double>();
  return is_finite(value);
}

inline bool parse_field(const std::string& text, std::optional<double>& value) {
  value.reset();
  return text == "none" || parse_field(text, value.emplace());
}

/// Makes a field what its text says. Throws std::runtime_error, which `source` begins, for a text that is not one of it.
template <class Field>
void read_field(const std::string& source, const std::string& key, const std::string& text, Field& field) {
  bool good = parse_field(text, field);
  const char* expected = "a whole number from 0 on that fits its place";
  if constexpr (std::same_as<Field, bool>) {
    expected = "'true' or 'false'";
  } else if constexpr (std::same_as<Field, double>) {
    const bool infinite = key == "training.clip";  // infinity never scales
    good = good && (infinite || is_finite(field));
    expected = infinite ? "a number" : "a finite number";
  } else if constexpr (std::same_as<Field, std::optional<double>>) {
    good = good && (!field || is_finite(*field));
    expected = "a finite number or 'none'";
  }
  if (good) return;
  throw std::runtime_error(source + ": metadata " + in_quotes(key) + " must be " + expected + ", got " +
                           in_quotes(text));
}

/// For `visit` of a struct of fields: writes each, of a file that will be at `path`. Throws where it would not be read.
inline auto field_writer(SafetensorsWriter& writer, std::string path, std::string prefix) {
  return [&writer, path = std::move(path), prefix = std::move(prefix)](std::string_view name,
                                                                       const auto& field) {
    const std::string key = prefix + "." + std::string(name), text = field_text(field);
    auto again = field;
    read_field(path, key, text, again);
    writer.set_metadata(key, text);
  };
}

/// The same: reads each.
inline auto field_reader(const FileChecks& file, std::string prefix) {
  return [&file, prefix = std::move(prefix)](std::string_view name, auto& field) {
    const std::string key = prefix + "." + std::string(name);
    read_field(file.source(), key, file.metadata(key), field);
  };
}

}  // namespace hsm::inline HSM_ABI::detail
