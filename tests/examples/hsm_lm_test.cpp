// SPDX-License-Identifier: MIT
//
// The hsm_lm tool as its users see it: exit code, stdout, stderr, and the files that it leaves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <hsm/io/model_file.hpp>
#include <string>
#include <thread>
#include <utility>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_test {
namespace {

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST_F(HsmLm, TrainsAModelAndLogsEachStep) {
  const Outcome outcome =
      run(training({"--steps", "20", "--validate-every", "8", "--log", "log.csv", "--seed", "5"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "model: saved\n");
  EXPECT_TRUE(mentions(outcome.err,
                       {"2 threads, products by", "3*ab", "2850 bytes to train on, 150 to validate", "seed 5",
                        "step 8: ", "step 16: ", "step 20: ", "bits per byte", "20 steps in"}));
  const std::string log = read_raw(work_ / "log.csv");
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 21);
  EXPECT_TRUE(log.starts_with(
      "step,seconds,loss,smoothed_loss,learning_rate,gradient_norm,tokens_per_second,validation_loss\n1,"));
  EXPECT_EQ(work_.entries(), 3);
  const auto model = load_model<LanguageModel<float>>(work_ / "model");
  EXPECT_EQ(model.config().layers, "3*ab:heads=1");
  EXPECT_EQ(model.config().feed_forward, 64);
}

TEST_F(HsmLm, DrawsTheLossesOfARunThatItLogged) {
  const Arguments log{"--steps", "12", "--validate-every", "4", "--log", "log.csv"};
  const auto with = [](Arguments first, const Arguments& more) {
    first.insert(first.end(), more.begin(), more.end());
    return first;
  };
  const Outcome outcome = run(training(with(log, {"--picture", "losses.svg", "--checkpoint", "run"})));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string svg = read_raw(work_ / "losses.svg");
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg.substr(0, 50);
  EXPECT_TRUE(mentions(svg, {"training loss", "validation loss", "3*ab:heads=1"}));
  expect_refused(run(training({"--steps", "1", "--picture", "losses.svg"})), {"--picture", "--log"});
  expect_refused(run(training(with(log, {"--picture", "log.csv"}))), {"--picture", "log.csv"});
  expect_refused(run(training(with(log, {"--picture", "none/losses.svg"}))), {"none/losses.svg"});
  expect_refused(run(training({"--steps", "1", "--log", "/dev/null", "--picture", "losses.svg"})),
                 {"--picture is drawn from the --log", "/dev/null"});
  EXPECT_TRUE(read_raw(work_ / "losses.svg") == svg) << "a refused run has changed the picture";
}

TEST_F(HsmLm, SaysPathsSoThatNoTerminalObeysThem) {
  Arguments arguments = training({"--steps", "1", "--checkpoint", "run\x1B[31m"});
  arguments[4] = "model\x1B[31m";
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "model\\x1b[31m: saved\n");
  EXPECT_TRUE(mentions(outcome.err, {"1 step in"}));
  const Outcome again = run(training({"--steps", "1", "--resume", "run\x1B[31m"}));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_TRUE(mentions(again.err, {"run\\x1b[31m: goes on after step 1\n"}));
}

TEST_F(HsmLm, TrainsTheSameModelForTheSameSeedAndAnyNumberOfThreads) {
  train_small({"--steps", "6"});
  const std::string first = read_raw(work_ / "model");
  Arguments one_thread = training({"--steps", "6"});
  one_thread[static_cast<std::size_t>(std::find(one_thread.begin(), one_thread.end(), "--threads") -
                                      one_thread.begin()) +
             1] = "1";
  ASSERT_EQ(run(one_thread).code, 0);
  EXPECT_TRUE(read_raw(work_ / "model") == first) << "the model files differ";
  train_small({"--steps", "6", "--seed", "2"});
  EXPECT_FALSE(read_raw(work_ / "model") == first) << "another seed gave the same model";
}

TEST_F(HsmLm, TrainsByTheClockToANumberOfParameters) {
  train_small({"--minutes", "0.01", "--parameters", "20000", "--valid", "text", "--positions", "learned"});
  const auto parameters = count_parameters(load_model<LanguageModel<float>>(work_ / "model"));
  EXPECT_NEAR(static_cast<double>(parameters), 20000, 50);
}

TEST_F(HsmLm, SavesWhenItIsInterrupted) {
  const pid_t child = start(training({"--steps", "100000000", "--log", "log.csv"}));
  // A line in the log says that training has begun.
  for (int i = 0; i < 6000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!std::filesystem::exists(work_ / "log.csv")) continue;
    const std::string log = read_raw(work_ / "log.csv");
    if (std::count(log.begin(), log.end(), '\n') >= 3) break;
  }
  ASSERT_EQ(::kill(child, SIGINT), 0);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  EXPECT_EQ(outcome.out, "ended by Ctrl-C; model: saved\n");
  EXPECT_EQ(load_model<LanguageModel<float>>(work_ / "model").config().width, 16);
}

TEST_F(HsmLm, GeneratesTheSameTextForTheSameSeed) {
  train_small({"--steps", "20"});
  const Arguments arguments{"generate", "--model", "model",  "--prompt", "the c",
                            "--tokens", "40",      "--seed", "9"};
  const Outcome first = run(arguments);
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_TRUE(first.out.starts_with("the c")) << first.out;
  EXPECT_GE(first.out.size(), 5u + 40u + 1u);
  EXPECT_TRUE(mentions(first.err, {"prefill 5 tokens, ", "decode 40 tokens, ", "seed 9"}));
  EXPECT_EQ(run(arguments).out, first.out);
  Arguments other = arguments;
  other.back() = "10";
  EXPECT_NE(run(other).out, first.out);
}

TEST_F(HsmLm, GeneratesWithoutASeedAndShowsTheOneItTook) {
  train_small({"--steps", "2"});
  const Outcome outcome = run({"generate", "--model", "model", "--prompt", "a", "--tokens", "3"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(mentions(outcome.err, {"; seed "}));
}

TEST_F(HsmLm, GoesOnPastLearnedPositionsOnlyWhenAsked) {
  train_small({"--steps", "5", "--positions", "learned"});
  Arguments arguments{"generate", "--model", "model", "--prompt", "the", "--tokens", "60", "--seed", "1"};
  const Outcome stopped = run(arguments);
  EXPECT_EQ(stopped.code, 0) << stopped.err;
  EXPECT_TRUE(mentions(stopped.err, {"stopped after 14 tokens", "context of 16"}));
  arguments.insert(arguments.end(), {"--on-full", "restart"});
  const Outcome restarted = run(arguments);
  EXPECT_EQ(restarted.code, 0) << restarted.err;
  EXPECT_TRUE(mentions(restarted.err, {"decode 60 tokens"}));
  const std::string whole_lines = stopped.out.substr(0, stopped.out.size() - 1);
  EXPECT_TRUE(restarted.out.starts_with(whole_lines)) << restarted.out;
  const Outcome long_prompt =
      run({"generate", "--model", "model", "--prompt", "a prompt longer than 16 bytes"});
  EXPECT_EQ(long_prompt.code, 2);
  EXPECT_TRUE(mentions(long_prompt.err, {"16 positions", "got 29 more"}));
}

TEST_F(HsmLm, EvaluatesATextByPosition) {
  train_small({"--steps", "20"});
  const Outcome outcome = run({"evaluate", "--model", "model", "--text", "text"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"nats per byte", "bits per byte", "perplexity", "1-8", "9-16"}));
  EXPECT_EQ(outcome.out.find("17-"), std::string::npos);
}

TEST_F(HsmLm, EvaluatesATextAsOneSequence) {
  train_small({"--steps", "20"});
  const Outcome outcome = run({"evaluate", "--model", "model", "--text", "text", "--carry"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"nats per byte", "1-8", "9 or more"}));
  train_small({"--steps", "1", "--positions", "learned"});
  const Outcome refused = run({"evaluate", "--model", "model", "--text", "text", "--carry"});
  EXPECT_NE(refused.code, 0);
  EXPECT_TRUE(mentions(refused.err, {"--carry needs a model without positions", "model are learned"}));
}

TEST_F(HsmLm, DescribesModelsAndRecipes) {
  const Outcome recipe =
      run({"info", "--layers", "3*ab,softmax-local:heads=2:taps=3", "--width", "16", "--context", "16"});
  ASSERT_EQ(recipe.code, 0) << recipe.err;
  // 1 + 1 + 2 + 4 + 2 * 8 tokens; 4 bytes * 16 channels * (7 + 2 planes * 16) of state.
  EXPECT_TRUE(
      mentions(recipe.out, {"softmax-local:heads=2:taps=3", "reach       24 tokens", "2.4 KiB per stream"}));
  train_small({"--steps", "1"});
  const Outcome file = run({"info", "--model", "model"});
  ASSERT_EQ(file.code, 0) << file.err;
  const auto parameters = count_parameters(load_model<LanguageModel<float>>(work_ / "model"));
  EXPECT_TRUE(mentions(file.out, {"layers 3*ab:heads=1, ", "parameters  " + std::to_string(parameters),
                                  "reach       8 tokens"}));
  const Outcome attention = run({"info", "--layers", "ab,attention", "--width", "16"});
  EXPECT_TRUE(mentions(attention.out,
                       {"the whole context", "64 bytes per stream and 128 bytes more with each token"}));
  // A window reaches its 9 tokens, and keeps 8 of 2 planes; one of one token keeps nothing.
  const Outcome windows = run({"info", "--layers", "attention:heads=2:window=9,attention:window=1", "--width",
                               "16", "--context", "9", "--schedule", "rotated:dyadic"});
  ASSERT_EQ(windows.code, 0) << windows.err;
  EXPECT_TRUE(mentions(
      windows.out, {"attention:block=0:heads=2:rotary=0:top=0:window=9         1-8 ",
                    "attention:block=0:heads=1:rotary=0:top=0:window=1           - ", "reach       9 tokens",
                    "all 9 offsets of the context, 1 path each", "1.0 KiB per stream\n"}));
  EXPECT_EQ(windows.out.find("warning"), std::string::npos);
  // Blocks see everything, and keep the sums of their keys beside it.
  const Outcome blocks = run({"info", "--layers", "ab,attention:heads=2:block=4:top=2", "--width", "16"});
  ASSERT_EQ(blocks.code, 0) << blocks.err;
  EXPECT_TRUE(mentions(blocks.out, {"attention:block=4:heads=2:rotary=0:top=2:window=0           - ",
                                    "the whole context", " and 144 bytes more with each token"}));
}

TEST_F(HsmLm, TellsWhatARecipeCosts) {
  const Outcome ab =
      run({"info", "--layers", "2*ab", "--width", "16", "--context", "24", "--feed-forward", "10"});
  ASSERT_EQ(ab.code, 0) << ab.err;
  // Forward: 2 layers of 2 * 16 for the mixer and 2 * 16 * 10, and 256 * 16 for the logits; state: 3 columns of 16.
  EXPECT_TRUE(mentions(
      ab.out, {"context  training  generation      state", "24          14.4k        4800  192 bytes",
               "100000      14.4k        4800  192 bytes"}));
  const Outcome attention = run({"info", "--layers", "2*attention", "--width", "16", "--context", "100",
                                 "--feed-forward", "10", "--positions", "learned"});
  ASSERT_EQ(attention.code, 0) << attention.err;
  // Forward: 4 * 16^2 of products and 32 for each token seen, 50.5 on average.
  EXPECT_TRUE(mentions(attention.out, {"100        30.05k      13.18k   25.0 KiB"}));
  EXPECT_EQ(attention.out.find("of as many parameters"), std::string::npos);
  const Outcome window = run({"info", "--layers", "2*attention:window=11", "--width", "16", "--context",
                              "100", "--feed-forward", "10"});
  ASSERT_EQ(window.code, 0) << window.err;
  // 11 tokens seen, 11 - 11 * 10 / 200 on average; 10 tokens of 2 * 16 values in each of 2 layers.
  EXPECT_TRUE(mentions(window.out, {"100        22.36k        7488  2.5 KiB"}));
  const Outcome equal = run({"info", "--layers", "7*ab", "--width", "128", "--context", "128"});
  EXPECT_TRUE(mentions(equal.out, {"no more than 7*attention of as many parameters: training from ",
                                   ", generation from ", ", state from "}));
}

TEST_F(HsmLm, TellsTheCoverageOfARecipe) {
  const auto info = [&](const std::string& layers, const std::string& schedule, const std::string& context) {
    const Outcome outcome =
        run({"info", "--layers", layers, "--schedule", schedule, "--context", context, "--width", "16"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  };
  const std::string dyadic = info("7*ab", "dyadic", "128");
  EXPECT_TRUE(
      mentions(dyadic, {"reach       128 tokens", "coverage    all 128 offsets of the context, 1 path each",
                        "holes       none"}));
  EXPECT_EQ(dyadic.find("warning"), std::string::npos);
  EXPECT_TRUE(
      mentions(info("8*channel", "cyclic=4", "31"), {"all 31 offsets of the context, 1 to 16 paths each"}));
  EXPECT_TRUE(mentions(
      info("attention,5*matrix,attention", "dyadic", "128"),
      {"the whole context; that of the shifts is 63 tokens",
       "32 of the 128 offsets of the context by shifts, 1 path each; 96 rest on layers without shifts alone",
       "holes       31 of the 63"}));
  EXPECT_TRUE(mentions(info("3*fusion", "geometric=3", "100"),
                       {"warning     no path leads to a token from 6 of the 14 offsets within its reach",
                        "warning     the context of 100 tokens is longer than the reach"}));
  EXPECT_TRUE(
      mentions(info("ab", "list=1000000000000", "128"), {"1 of the 128 offsets", "1000000000001 tokens"}));
  EXPECT_TRUE(mentions(info("70*ab", "list=144115188075855872" + repeated(",144115188075855872", 69), "128"),
                       {"coverage    not counted: the reach must be below"}));
}

TEST_F(HsmLm, ShowsTheShiftsOfAllHeads) {
  const Outcome outcome =
      run({"info", "--layers", "3*gated:heads=4,ab:heads=8,ab:heads=1,2*attention:heads=1", "--schedule",
           "rotated:list=5,1,2,9,3,4,8", "--width", "16"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(
      mentions(outcome.out,
               {"schedule rotated:list=5,1,2,9,3,4,8", " 5,1,2,9 ", " 1,2,9,3 ", " 2,9,3,4 ", " 9,3,4,8,... ",
                " 3 ", "rotated: changes nothing in 1 of the 7 layers, whose mixer has one head"}));
  // Two heads do rotate, and one head is no matter where nothing is rotated.
  for (const auto& [schedule, heads] : {std::pair("rotated:dyadic", "2"), std::pair("dyadic", "1")}) {
    const Outcome quiet = run({"info", "--layers", "4*gated:heads=" + std::string(heads), "--schedule",
                               schedule, "--width", "16", "--context", "16"});
    ASSERT_EQ(quiet.code, 0) << quiet.err;
    EXPECT_EQ(quiet.out.find("rotated: changes"), std::string::npos) << schedule;
  }
  // 4 bytes * 16 channels * the mean shift of the heads; the eighth head of layer 3 is its first again.
  const double kept =
      (5 + 1 + 2 + 9) / 4.0 + (1 + 2 + 9 + 3) / 4.0 + (2 + 9 + 3 + 4) / 4.0 + (32 + 9) / 8.0 + 3;
  char state[64];
  std::snprintf(state, sizeof state, "state       %.1f KiB per stream", kept * 64 / 1024);
  EXPECT_TRUE(mentions(outcome.out, {state}));
}

TEST_F(HsmLm, DrawsAPicture) {
  const Outcome recipe = run({"info", "--layers", "5*ab", "--context", "32", "--picture", "picture.svg"});
  ASSERT_EQ(recipe.code, 0) << recipe.err;
  const std::string picture = read_raw(work_ / "picture.svg");
  EXPECT_TRUE(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
  EXPECT_TRUE(mentions(picture, {"5*ab:heads=8, schedule dyadic", "all 32 offsets", "ab, s = 16"}));
  EXPECT_EQ(work_.entries(), 2);
  train_small({"--steps", "1", "--schedule", "rotated:cyclic=2"});
  const Outcome file = run({"info", "--model", "model", "--picture", "picture.svg"});
  ASSERT_EQ(file.code, 0) << file.err;
  EXPECT_TRUE(mentions(read_raw(work_ / "picture.svg"), {"3*ab:heads=1, schedule rotated:cyclic=2"}));
  EXPECT_EQ(work_.entries(), 3);
}

TEST_F(HsmLm, HelpOfTrainTellsWhatNoOptionChanges) {
  std::string help = run({"train", "--help"}).out;
  std::string words;  // the help is broken into lines
  for (const char c : help)
    if (!std::isspace(static_cast<unsigned char>(c)) || (!words.empty() && words.back() != ' '))
      words += std::isspace(static_cast<unsigned char>(c)) ? ' ' : c;
  EXPECT_TRUE(mentions(words, {"down to 0.1 of that at the end", "norm of 1 where", "betas are 0.9 and 0.95",
                               "rounded to whole steps"}));
}

TEST_F(HsmLm, HelpsAndNamesItsVersion) {
  const Outcome help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_TRUE(mentions(help.out, {"train", "generate", "evaluate", "info", "demo"}));
  EXPECT_EQ(run({"train", "--help"}).code, 0);
  const Outcome version = run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("hsm_lm "));
}

}  // namespace
}  // namespace hsm::test::hsm_lm_test
