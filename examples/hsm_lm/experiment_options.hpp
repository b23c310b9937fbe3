// SPDX-License-Identifier: MIT
//
// Options of the commands that compare recipes.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include <hsm/core/types.hpp>

#include "examples/hsm_lm/options.hpp"

namespace hsm::examples {

/// A size of 1 or more; a 0 is a default that follows from others, and is not shown.
inline CLI::Option* add_size(CLI::App& command, const char* name, Index& value, Index most,
                             const char* description) {
  CLI::Option* option = add_number(command, name, value, Bounds<Index>{1, most}, description);
  if (value == 0) option->default_str("");
  return option;
}

/// The options of what is compared; `usual` tells of which recipes where none are given.
template <class Options>
void add_recipe_options(CLI::App& command, Options& o, const std::string& usual) {
  CLI::Option* layers = command.add_option(
      "--layers", o.layers,
      "a recipe, such as 5*ab, attention@learned or 7*ab:heads=8@rotated:dyadic; give it once for each; " +
          usual + " if not given");
  layers->allow_extra_args(false);
  command.add_option("--positions", o.positions, "of recipes without @: none or learned")
      ->check(CLI::IsMember({"none", "learned"}))
      ->capture_default_str();
  command.add_option("--schedule", o.schedule, "shifts of the layers of recipes without @, as for train")
      ->capture_default_str();
  add_size(command, "--depth", o.depth, 64, "layers of the recipes, where none are given")->excludes(layers);
  add_size(command, "--width", o.width, 8192, "channels of a token");
  add_size(
      command, "--parameters", o.parameters, Index{1} << 40,
      "of each recipe, by the width of its feed-forward networks; those of attention with 4 times --width if "
      "not given");
}

/// The options of how often, where to, and on how many threads.
template <class Options>
void add_run_options(CLI::App& command, Options& o, const Bounds<std::uint64_t>& seeds,
                     const std::string& rates_note, const std::string& seeds_note) {
  add_numbers(command, "--learning-rates", o.rates, Bounds<double>{1e-12, 1e3},
              "the same for every recipe, separated by commas" + rates_note);
  add_numbers(command, "--seeds", o.seeds, seeds, seeds_note + ", separated by commas");
  add_file(command, "--out", o.out,
           "directory, or beginning of the names, of files to write: .csv to go on from, .md, .svg");
  o.threads.add_to(command);
}

}  // namespace hsm::examples
