// SPDX-License-Identifier: MIT
//
// The layers of a hybrid stack as text: items separated by commas, each `[count*]name[:key=value]...`
//
//   7*ab                              seven (a,b) layers
//   ab,ab,attention,ab                layers 0, 1, 3 mix at the shifts s_0, s_1, s_3 of the schedule
//   softmax-local:heads=4:taps=3      options where the default is not wanted
//
// An option is a name and a whole number; which there are, and within what bounds, each layer states
// (layer/layer_options.hpp, model/any_mixer.hpp). The canonical text joins equal neighbours and sorts options
// by name; with_all_options of any_mixer.hpp states every option, and that is what a model's config and its file
// hold. Errors are std::invalid_argument that name the place in the text.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/quote.hpp>
#include <hsm/core/types.hpp>
#include <hsm/layer/layer_options.hpp>

namespace hsm::inline HSM_ABI {

/// One layer of a recipe.
struct LayerRecipe {
  /// Of a policy or a layer of the list.
  std::string name;
  /// Those that were given.
  OptionValues options;
  Index place = 0;  ///< where its item begins in the text, for messages

  /// Whether both describe the same layer.
  bool same_as(const LayerRecipe& other) const { return name == other.name && options == other.options; }
};

/// A list of layers.
struct Recipe {
  /// The longest recipe.
  static constexpr Index kMostLayers = 256;

  /// The layers, first to last.
  std::vector<LayerRecipe> layers;

  /// Reads a recipe. Throws std::invalid_argument that names the place.
  static Recipe parse(std::string_view text);

  /// The canonical text; parse(text()) gives the same layers.
  std::string text() const;
};

namespace detail {

/// Reads items off a recipe's text.
class RecipeReader {
 public:
  explicit RecipeReader(std::string_view text) : text_(text) {}

  Recipe read() {
    Recipe recipe;
    do {
      item(recipe);
    } while (take(','));
    if (place_ != text_.size()) fail("',' or ':' or the end");
    return recipe;
  }

 private:
  [[gnu::cold]] void item(Recipe& recipe) {
    LayerRecipe layer;
    layer.place = static_cast<Index>(place_);
    Index count = 1;
    if (place_ < text_.size() && is_digit(text_[place_])) {
      count = number("a count", 1, Recipe::kMostLayers);
      if (!take('*')) fail("'*' after the count");
    }
    layer.name = word("the name of a mixer");
    while (take(':')) {
      const std::size_t start = place_;
      const std::string key = word("an option");
      if (layer.options.find(key)) {
        place_ = start;
        fail("each option once");
      }
      if (!take('=')) fail("'=' after the option");
      layer.options.set(key, number("a value", 0, kMostOptionValue));
    }
    if (static_cast<Index>(recipe.layers.size()) + count > Recipe::kMostLayers) {
      place_ = static_cast<std::size_t>(layer.place);
      fail("at most " + std::to_string(Recipe::kMostLayers) + " layers in all");
    }
    recipe.layers.insert(recipe.layers.end(), static_cast<std::size_t>(count), layer);
  }

  Index number(const char* what, Index least, Index most) {
    const std::size_t start = place_;
    Index value = 0;
    while (place_ < text_.size() && is_digit(text_[place_]) && value <= most)
      value = value * 10 + (text_[place_++] - '0');
    if (place_ == start || value < least || value > most) {
      place_ = start;
      fail(std::string(what) + " from " + std::to_string(least) + " to " + std::to_string(most));
    }
    return value;
  }

  std::string word(const char* what) {
    const std::size_t start = place_;
    while (place_ < text_.size() && (is_letter(text_[place_]) ||
                                     (place_ > start && (text_[place_] == '-' || is_digit(text_[place_]))))) {
      ++place_;
    }
    if (place_ == start) fail(what);
    return std::string(text_.substr(start, place_ - start));
  }

  bool take(char c) {
    if (place_ >= text_.size() || text_[place_] != c) return false;
    ++place_;
    return true;
  }

  [[noreturn]] void fail(const std::string& expected) const {
    const std::string got = place_ < text_.size() ? in_quotes(text_.substr(place_, 12)) : "the end";
    detail::raise<std::invalid_argument>("recipe: expected " + expected + " at character " +
                                         std::to_string(place_) + ", got " + got);
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_letter(char c) { return c >= 'a' && c <= 'z'; }

  std::string_view text_;
  std::size_t place_ = 0;
};

}  // namespace detail

inline Recipe Recipe::parse(std::string_view text) { return detail::RecipeReader(text).read(); }

[[gnu::cold]] inline std::string Recipe::text() const {
  std::string result;
  for (std::size_t l = 0; l < layers.size();) {
    std::size_t end = l + 1;
    while (end < layers.size() && layers[end].same_as(layers[l])) ++end;
    if (!result.empty()) result += ',';
    if (end - l > 1) result += std::to_string(end - l) + "*";
    result += layers[l].name;
    for (const auto& [option, value] : layers[l].options)
      result += ":" + option + "=" + std::to_string(value);
    l = end;
  }
  return result;
}

}  // namespace hsm::inline HSM_ABI
