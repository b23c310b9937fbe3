// SPDX-License-Identifier: MIT
//
// A StackReport as JSON. Sizes are whole numbers of the unit that their name tells; null is "none", or more paths than
// can be counted.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/hsm_lm/stack_report.hpp"

namespace hsm::examples {

/// Keeps the order in which its keys were given.
using Json = nlohmann::ordered_json;

namespace detail {

/// A whole number as one, where a double holds it exactly.
inline Json json_number(double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (std::floor(value) == value && std::abs(value) <= kExact) return static_cast<std::int64_t>(value);
  return value;
}

inline Json json_number(const std::optional<double>& value) { return value ? json_number(*value) : Json(); }

inline Json coverage_json(const Coverage& coverage) {
  const auto paths = [](std::uint64_t count) { return count == Coverage::kUncounted ? Json() : Json(count); };
  const auto counts = coverage.counts();
  std::uint64_t least = Coverage::kUncounted, most = 0;
  Json all = Json::array();
  for (const std::uint64_t count : counts) {
    if (count > 0) least = std::min(least, count);
    most = std::max(most, count);
    all.push_back(paths(count));
  }
  return {{"offsets", coverage.window()},
          {"reached", coverage.reached_count()},
          {"holes", coverage.hole_count()},
          {"first_hole", coverage.hole_count() > 0 ? Json(coverage.first_hole()) : Json()},
          {"largest_gap", coverage.largest_gap()},
          {"least_paths", paths(least)},
          {"most_paths", paths(most)},
          {"paths", std::move(all)}};
}

inline Json layer_json(const LayerSummary& layer) {
  Json shifts = Json::array();
  for (const Index s : layer.back.shifts) shifts.push_back(s);
  return {{"mixer", layer.name},
          {"shifts", std::move(shifts)},
          {"taps", layer.sees_all() ? Json() : Json(layer.back.taps)},
          {"mixer_parameters", layer.mixer_parameters},
          {"parameters", layer.parameters}};
}

}  // namespace detail

/// Multiply-adds per token and bytes of a stream's state at each of these contexts.
inline Json costs_json(const ModelCost& cost, std::span<const double> contexts) {
  Json all = Json::array();
  for (const double T : contexts) {
    all.push_back({{"context", detail::json_number(T)},
                   {"training", detail::json_number(cost.at(CostKind::kTraining, T))},
                   {"generation", detail::json_number(cost.at(CostKind::kGeneration, T))},
                   {"state_bytes", detail::json_number(cost.at(CostKind::kState, T))}});
  }
  return all;
}

/// What `hsm_lm info --json` prints; `stored` tells how the weights of a file are stored, and is empty for a recipe.
inline Json stack_json(const StackReport& report, const std::string& stored = "") {
  using detail::json_number;
  const LanguageModelConfig& config = report.config;
  const std::vector<double> contexts = report.contexts();
  Json json = {{"layers", config.layers},
               {"schedule", config.schedule},
               {"vocabulary", config.vocabulary},
               {"width", config.width},
               {"feed_forward", config.feed_forward},
               {"context", config.context},
               {"positions", config.positions == Positions::kLearned ? "learned" : "none"}};
  Json stack = Json::array();
  for (const LayerSummary& layer : report.layers) stack.push_back(detail::layer_json(layer));
  json["stack"] = std::move(stack);
  json["parameters"] = report.parameters;
  json["reach"] = json_number(report.reach);
  json["sees_all"] = report.sees_all;
  json["coverage"] = report.covered.coverage ? detail::coverage_json(*report.covered.coverage) : Json();
  json["coverage_text"] = report.covered.text.coverage;
  json["holes_text"] = report.covered.text.holes;
  json["state"] = {{"bytes", json_number(report.kept)}, {"bytes_per_token", json_number(report.growth)}};
  json["costs"] = costs_json(report.cost, contexts);
  json["attention"] = nullptr;
  if (report.attention) {
    json["attention"] = {{"layers", report.attention->config.layers},
                         {"feed_forward", report.attention->config.feed_forward},
                         {"no_more_from",
                          {{"training", json_number(report.attention->training)},
                           {"generation", json_number(report.attention->generation)},
                           {"state", json_number(report.attention->state)}}},
                         {"costs", costs_json(report.attention->cost, contexts)}};
  }
  json["warnings"] = report.warnings;
  json["weights"] = stored.empty() ? Json() : Json(stored);
  return json;
}

}  // namespace hsm::examples
