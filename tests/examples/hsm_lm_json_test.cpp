// SPDX-License-Identifier: MIT
//
// hsm_lm info --json: the figures that info prints, and the paths of every offset.
#include <gtest/gtest.h>

#include <cstdint>
#include <hsm/schedule/coverage.hpp>
#include <hsm/schedule/geometric.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_json_test {
namespace {

using Json = nlohmann::json;

/// What info says of these options, as JSON.
Json told(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return Json::parse(outcome.out);
}

TEST_F(HsmLm, InfoSaysItsFiguresAsJson) {
  const Json json =
      told(run({"info", "--json", "--layers", "3*ab,softmax-local:heads=2:taps=3", "--width", "16",
                "--context", "24", "--feed-forward", "10", "--schedule", "rotated:dyadic"}));
  EXPECT_EQ(json["layers"], "3*ab:heads=1,softmax-local:heads=2:taps=3");
  EXPECT_EQ(json["schedule"], "rotated:dyadic");
  EXPECT_EQ(json["vocabulary"], 256);
  EXPECT_EQ(json["width"], 16);
  EXPECT_EQ(json["feed_forward"], 10);
  EXPECT_EQ(json["context"], 24);
  EXPECT_EQ(json["positions"], "none");
  ASSERT_EQ(json["stack"].size(), 4u);
  EXPECT_EQ(json["stack"][2], (Json{{"mixer", "ab:heads=1"},
                                    {"shifts", {4}},
                                    {"taps", 2},
                                    {"mixer_parameters", 2},
                                    {"parameters", 2 + 4 * 16 + 10 * 33 + 16}}));
  EXPECT_EQ(json["stack"][3]["shifts"], Json({8, 1}));
  EXPECT_EQ(json["stack"][3]["taps"], 3);
  EXPECT_EQ(json["stack"][3]["mixer_parameters"], 4 * 16 * 16);
  EXPECT_EQ(json["parameters"], 256 * 16 + 4 * 410 + 3 * 2 + 4 * 16 * 16 + 2 * 16);
  EXPECT_EQ(json["reach"], 1 + 1 + 2 + 4 + 2 * 8);
  EXPECT_EQ(json["sees_all"], false);
  // 4 bytes: 16 channels of 7 tokens, and 2 planes of 8 channels for 16 and for 2 tokens.
  EXPECT_EQ(json["state"], (Json{{"bytes", 4 * (16 * 7 + 16 * (16 + 2))}, {"bytes_per_token", 0}}));
  EXPECT_EQ(json["warnings"].size(), 1u);
  EXPECT_EQ(json["weights"], nullptr);
}

TEST_F(HsmLm, InfoSaysThePathsOfEveryOffsetAsJson) {
  const Json json = told(run({"info", "--json", "--layers", "3*gated", "--schedule", "geometric=3",
                              "--context", "40", "--width", "16"}));
  const Coverage coverage(GeometricSchedule{.layers = 3, .base = 3});
  const std::vector<std::uint64_t> paths(coverage.counts().begin(), coverage.counts().end());
  EXPECT_EQ(json["coverage"], (Json{{"offsets", 14},
                                    {"reached", 8},
                                    {"holes", 6},
                                    {"first_hole", 2},
                                    {"largest_gap", coverage.largest_gap()},
                                    {"least_paths", 1},
                                    {"most_paths", 1},
                                    {"paths", paths}}));
  EXPECT_TRUE(
      mentions(run({"info", "--layers", "3*gated", "--schedule", "geometric=3", "--context", "40"}).out,
               {"coverage    " + json["coverage_text"].get<std::string>(),
                "holes       " + json["holes_text"].get<std::string>(),
                "warning     " + json["warnings"][1].get<std::string>()}));
  // More paths than can be counted are null, and so is a coverage that was not counted.
  const Json many = told(run({"info", "--json", "--layers", "256*softmax-local:taps=8", "--schedule",
                              "cyclic=1", "--context", "2000", "--width", "16"}));
  EXPECT_EQ(many["coverage"]["paths"][0], 1);
  EXPECT_EQ(many["coverage"]["paths"][900], nullptr);
  EXPECT_EQ(many["coverage"]["most_paths"], nullptr);
  const std::string shift = "144115188075855872";
  std::string list = "list=" + shift;
  for (int l = 1; l < 70; ++l) list += "," + shift;
  const Json far = told(run({"info", "--json", "--layers", "70*ab", "--schedule", list, "--width", "16"}));
  EXPECT_EQ(far["coverage"], nullptr);
  EXPECT_TRUE(mentions(far["coverage_text"].get<std::string>(), {"not counted: the reach must be below"}));
}

TEST_F(HsmLm, InfoSaysCostsAsJson) {
  const Json json = told(run(
      {"info", "--json", "--layers", "2*ab", "--width", "16", "--context", "24", "--feed-forward", "10"}));
  // Forward: 2 layers of 2 * 16 for the mixer and 2 * 16 * 10, and 256 * 16 for the logits; state: 3 columns of 16.
  ASSERT_EQ(json["costs"].size(), 5u);
  EXPECT_EQ(json["costs"][0],
            (Json{{"context", 24}, {"training", 14400}, {"generation", 4800}, {"state_bytes", 192}}));
  EXPECT_EQ(json["costs"][4]["context"], 100'000);
  EXPECT_EQ(json["attention"], nullptr);  // the smallest has more parameters
  const Json large = told(run({"info", "--json", "--layers", "7*ab", "--width", "128"}));
  EXPECT_EQ(large["attention"]["costs"].size(), 5u);
  const auto from = large["attention"]["no_more_from"];
  for (const char* kind : {"training", "generation", "state"}) {
    EXPECT_TRUE(mentions(run({"info", "--layers", "7*ab", "--width", "128"}).out,
                         {std::string(kind) + " from " + std::to_string(from[kind].get<long>())}));
  }
}

TEST_F(HsmLm, InfoSaysAFileAsJson) {
  train_small({"--steps", "1"});
  const Json json = told(run({"info", "--json", "--model", "model", "--picture", "picture.svg"}));
  EXPECT_EQ(json["layers"], "3*ab:heads=1");
  EXPECT_TRUE(mentions(json["weights"].get<std::string>(), {"KiB, matrices in float"}));
  EXPECT_EQ(work_.entries(), 3);
}

}  // namespace
}  // namespace hsm::test::hsm_lm_json_test
