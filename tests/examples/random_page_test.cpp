// SPDX-License-Identifier: MIT
//
// include/hsm/guide/random.md against a model that hsm_lm has made: its weights are drawn in the order of the page's tables,
// with the deviations that stand there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/io/safetensors.hpp>

#include "examples/hsm_lm_runner.hpp"
#include "examples/pages.hpp"

namespace hsm::test::random_page_test {
namespace {

/// `name` and deviation, such as 0.02 or 1/sqrt(2C).
using Draw = std::pair<std::string, std::string>;

/// What the page says: before the layers, of each mixer, and in each layer behind its mixer.
struct Order {
  std::vector<Draw> first, last;
  std::map<std::string, std::vector<Draw>> mixers;
};

/// The `names` of a cell, each with the word behind it.
std::vector<Draw> draws_of(const std::string& cell) {
  std::vector<Draw> draws;
  for (std::size_t at = cell.find('`'); at != std::string::npos; at = cell.find('`', at)) {
    const std::size_t end = cell.find('`', at + 1), word = std::min(end + 2, cell.size());
    draws.emplace_back(cell.substr(at + 1, end - at - 1),
                       cell.substr(word, cell.find_first_of(" ,;", word) - word));
    at = end + 1;
  }
  return draws;
}

Order order() {
  Order said;
  std::string table;
  bool in_layers = false;
  std::istringstream lines(source_text("include/hsm/guide/random.md"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) table.clear();
    if (!line.starts_with("|")) continue;
    const std::vector<std::string> cells = cells_of(line);
    if (table.empty()) {
      table = cells[0];
    } else if (table == "in this order" && cells[0].starts_with("for each layer")) {
      in_layers = true;
    } else if (table == "in this order" && cells[0].starts_with("`")) {
      (in_layers ? said.last : said.first).emplace_back(draws_of(cells[0]).at(0).first, cells[1]);
    } else if (table == "mixer") {
      for (const Draw& name : draws_of(cells[0])) said.mixers[name.first] = draws_of(cells[1]);
    }
  }
  return said;
}

class RandomPage : public HsmLm {
 protected:
  static constexpr double kC = 24, kF = 40, kMemories = 3;

  static double deviation(const std::string& text) {
    if (!text.starts_with("1/sqrt(")) return std::stod(text);
    const std::string inside = text.substr(7, text.size() - 8);
    const double factor = inside.size() > 1 ? std::stod(inside) : 1;
    const std::map<char, double> sizes{{'C', kC}, {'F', kF}, {'n', kMemories}};
    return 1 / std::sqrt(factor * sizes.at(inside.back()));
  }

  void load(const std::filesystem::path& path) {
    const auto file = SafetensorsFile::load(path);
    for (const TensorInfo& tensor : file.tensors()) {
      std::int64_t size = 1;
      for (const std::int64_t dimension : tensor.shape) size *= dimension;
      auto& values = tensors_[tensor.name];
      values.resize(static_cast<std::size_t>(size));
      file.read(tensor.name, tensor.shape, std::span(values));
    }
  }

  /// The larger of both in `off`, for good where it is not finite.
  static void take(double& off, double difference) {
    off = std::isfinite(difference) ? std::max(off, std::abs(difference))
                                    : std::numeric_limits<double>::infinity();
  }
  /// All of a tensor, row by row.
  void expect_drawn(const std::string& name, const Draw& draw, double scale) {
    ASSERT_TRUE(tensors_.contains(name)) << name;
    double off = 0;
    for (const double value : tensors_[name])
      take(off, value - scale * random_.normal(deviation(draw.second)));
    EXPECT_LT(off, 1e-6) << name;
    drawn_.insert(name);
  }

  /// Those of `ema`, a value of each in turns.
  void expect_drawn_in_turns(const std::string& prefix, const std::vector<Draw>& draws) {
    double off = 0;
    for (std::size_t i = 0; i < tensors_.at(prefix + draws.at(0).first).size(); ++i) {
      const double sign = i / static_cast<std::size_t>(kC) % 2 == 0 ? 1 : -1;
      for (const Draw& draw : draws) {
        const double start = draw.first == "beta" ? sign : 0;
        take(off, tensors_.at(prefix + draw.first)[i] - start - random_.normal(deviation(draw.second)));
      }
    }
    EXPECT_LT(off, 1e-6) << prefix;
  }

  Random random_{7};
  std::map<std::string, std::vector<double>> tensors_;
  std::set<std::string> drawn_;
};

TEST_F(RandomPage, TellsTheOrderInWhichWeightsAreDrawn) {
  const Order said = order();
  const std::vector<std::string> mixers{"ab",
                                        "channel",
                                        "matrix",
                                        "gated",
                                        "gated-pair",
                                        "fusion",
                                        "softmax-local:heads=3",
                                        "ema:ndim=3",
                                        "attention:heads=3",
                                        "linear-attention:heads=2",
                                        "hkt:heads=3:levels=3"};
  EXPECT_EQ(said.mixers.size(), mixers.size());
  std::string layers;
  for (const std::string& mixer : mixers) layers += (layers.empty() ? "" : ",") + mixer;
  // A step so small that the weights are those it began with.
  const Outcome outcome = run({"train",    "--text",    "text",    "--out",       "fresh",
                               "--layers", layers,      "--width", "24",          "--feed-forward",
                               "40",       "--context", "16",      "--positions", "learned",
                               "--batch",  "1",         "--steps", "1",           "--learning-rate",
                               "1e-12",    "--seed",    "7",       "--threads",   "1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  load(work_ / "fresh");
  const double residual = 1 / std::sqrt(2.0 * static_cast<double>(mixers.size()));
  for (const Draw& draw : said.first) expect_drawn(draw.first, draw, 1);
  for (std::size_t l = 0; l < mixers.size(); ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".",
                      name = mixers[l].substr(0, mixers[l].find(':'));
    ASSERT_TRUE(said.mixers.contains(name)) << name;
    const std::vector<Draw>& draws = said.mixers.at(name);
    if (name == "ema") {
      expect_drawn_in_turns(layer + "mixer.", draws);
    } else {
      for (const Draw& draw : draws) {
        const bool writes = draw.first == "output" || name == "matrix";
        expect_drawn(layer + "mixer." + draw.first + ".weight", draw, writes ? residual : 1);
      }
    }
    for (const Draw& draw : said.last)
      expect_drawn(layer + draw.first, draw, draw.first == "feed_forward.down.weight" ? residual : 1);
  }
  for (const auto& [name, values] : tensors_) {
    EXPECT_TRUE(drawn_.contains(name) || !name.ends_with("weight")) << "the page does not tell of " << name;
  }
}

}  // namespace
}  // namespace hsm::test::random_page_test
