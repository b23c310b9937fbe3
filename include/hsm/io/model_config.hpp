// SPDX-License-Identifier: MIT
//
// The config of a language model as the JSON text that a model file holds: one flat object with the keys
//
//   vocabulary, width, feed_forward, context   numbers from 1 to 2^31 - 1
//   positions                                  "none" or "learned"
//   layers, schedule                           a recipe (model/recipe.hpp), a schedule's text
//                                              (schedule/schedule_text.hpp), such as "rotated:cyclic=4"
//
//   {"vocabulary":256,"width":128,"feed_forward":512,"context":128,"positions":"none",
//    "layers":"3*ab:heads=8,attention:block=0:heads=4:rotary=0:top=0:window=0,3*ab:heads=8","schedule":"dyadic"}
//
// Each key once, and no other. Errors: std::runtime_error `file: what was expected, what came`. Whether the
// recipe and the schedule are ones is for the model to say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/quote.hpp>
#include <hsm/model/language_model_config.hpp>

namespace hsm::inline HSM_ABI {

/// The config of a model as the JSON text of a model file.
inline std::string config_to_json(const LanguageModelConfig& config) {
  const nlohmann::ordered_json json = {
      {"vocabulary", config.vocabulary},
      {"width", config.width},
      {"feed_forward", config.feed_forward},
      {"context", config.context},
      {"positions", config.positions == Positions::kLearned ? "learned" : "none"},
      {"layers", config.layers},
      {"schedule", config.schedule}};
  return json.dump();
}

namespace detail {

/// Reads the config of a model file; `source` starts every message.
class ModelConfigReader {
 public:
  ModelConfigReader(std::string_view text, std::string source) : source_(std::move(source)) {
    constexpr std::size_t kMostBytes = 65536;
    if (text.size() > kMostBytes) fail("at most 65536 bytes of text", std::to_string(text.size()));
    // The parser takes a zero byte for the end of its input and would not look behind it.
    if (text.find('\0') != std::string_view::npos) fail("JSON text", "a zero byte");
    std::set<std::string> keys;
    const auto check = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
      using Event = nlohmann::json::parse_event_t;
      if (event == Event::array_start || (event == Event::object_start && depth > 0))
        fail("one flat JSON object", "a list or object inside it");
      if (event == Event::key && !keys.insert(value.get<std::string>()).second)
        fail("each key once", in_quotes(value.get<std::string>()) + " twice");
      return true;
    };
    try {
      json_ = nlohmann::json::parse(text.begin(), text.end(), check);
    } catch (const nlohmann::json::exception&) {
      fail("a JSON object", in_quotes(text));
    }
    if (!json_.is_object()) fail("a JSON object", in_quotes(text));
  }

  LanguageModelConfig read() {
    LanguageModelConfig config;
    config.vocabulary = number("vocabulary");
    config.width = number("width");
    config.feed_forward = number("feed_forward");
    config.context = number("context");
    const std::string positions = text("positions");
    if (positions != "none" && positions != "learned")
      fail("positions to be 'none' or 'learned'", in_quotes(positions));
    config.positions = positions == "learned" ? Positions::kLearned : Positions::kNone;
    config.layers = text("layers");
    config.schedule = text("schedule");
    if (!json_.empty()) fail("no key but those of the format", in_quotes(json_.begin().key()));
    return config;
  }

  [[noreturn]] void fail(const std::string& expected, const std::string& got) const {
    throw std::runtime_error(source_ + ": the config must have " + expected + ", got " + got);
  }

 private:
  nlohmann::json take(const char* key) {
    const auto found = json_.find(key);
    if (found == json_.end()) fail("the key '" + std::string(key) + "'", "none");
    nlohmann::json value = std::move(*found);
    json_.erase(found);
    return value;
  }

  Index number(const char* key) {
    constexpr std::uint64_t kMost = (std::uint64_t{1} << 31) - 1;
    const nlohmann::json value = take(key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > kMost)
      fail(std::string(key) + " as an integer from 1 to 2147483647", in_quotes(value.dump()));
    return static_cast<Index>(value.get<std::uint64_t>());
  }

  std::string text(const char* key) {
    const nlohmann::json value = take(key);
    if (!value.is_string()) fail(std::string(key) + " as a text", in_quotes(value.dump()));
    return value.get<std::string>();
  }

  std::string source_;
  nlohmann::json json_;
};

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
