// SPDX-License-Identifier: MIT
//
// What the hsm_lm tool refuses: exit code 2, one sentence, and no file changed or left behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <hsm/io/model_file.hpp>
#include <string>
#include <utility>
#include <vector>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_errors_test {
namespace {

using HsmLmErrors = HsmLm;

TEST_F(HsmLmErrors, RefusesBadTrainingOptionsAndLeavesNoFile) {
  const std::vector<std::pair<Arguments, std::vector<std::string>>> cases{
      {{"--layers", "3*zz"}, {"'zz'"}},
      {{"--layers", ""}, {"recipe"}},
      {{"--schedule", "list=1,2"}, {"3 layers", "got 2"}},
      {{"--schedule", "reversed:triadic"}, {"at character 9", "got 'triadic'"}},
      {{"--positions", "rotary"}, {"--positions"}},
      {{"--width", "0"}, {"--width"}},
      {{"--width", "many"}, {"--width"}},
      {{"--batch", "-1"}, {"--batch"}},
      {{"--steps", "0"}, {"--steps"}},
      {{"--steps", "5", "--minutes", "1"}, {"--steps", "--minutes"}},
      {{"--learning-rate", "nan"}, {"--learning-rate"}},
      {{"--feed-forward", "5", "--parameters", "5000"}, {"--feed-forward", "--parameters"}},
      {{"--parameters", "10"}, {"parameters", "got 10"}},
      {{"--threads", "0"}, {"--threads"}},
      {{"--seed", "-1"}, {"--seed"}},
      {{"--context", "2850"}, {"text", "2850", "more than"}},
      {{"--valid", "missing"}, {"missing", "cannot open"}},
      {{"--log", "none/log.csv"}, {"none/log.csv"}},
      {{"--log", "text"}, {"--log would overwrite text"}},
      {{"--keep-best"}, {"--keep-best", "needs --validate-every"}},
      {{"--unknown"}, {"--unknown"}},
  };
  for (const auto& [more, words] : cases) {
    SCOPED_TRACE(more[0] + " " + (more.size() > 1 ? more[1] : ""));
    Arguments all = training();
    // An option that is given twice is an error of its own; the new one takes the place of the old.
    if (const auto found = std::find(all.begin(), all.end(), more[0]); found != all.end())
      all.erase(found, found + 2);
    all.insert(all.end(), more.begin(), more.end());
    if (std::find(all.begin(), all.end(), "--minutes") == all.end() &&
        std::find(all.begin(), all.end(), "--steps") == all.end())
      all.insert(all.end(), {"--steps", "3"});
    expect_refused(run(all), words);
    EXPECT_EQ(work_.entries(), 1);
  }
}

TEST_F(HsmLmErrors, RefusesTextsThatAreTooShort) {
  write_raw(work_ / "text", "");
  expect_refused(run(training()), {"text", "16", "got 0"});
  write_raw(work_ / "text", "sixteen bytes...");
  expect_refused(run(training()), {"text", "16", "got 16"});
  write_raw(work_ / "text", std::string(39, 'a'));
  expect_refused(run(training()), {"validation", "at least 2 bytes", "got 1"});
  write_raw(work_ / "valid", "a");
  expect_refused(run(training({"--valid", "valid"})), {"hsm_lm: valid: must have at least 2 bytes, got 1"});
  EXPECT_EQ(work_.entries(), 2);
}

TEST_F(HsmLmErrors, RefusesTextsWithoutAnEnd) {
  train_small({"--steps", "1"});
  for (const Arguments& all :
       std::vector<Arguments>{{"train", "--text", "/dev/zero", "--out", "new"},
                              {"train", "--text", "text", "--valid", "/dev/zero", "--out", "new"},
                              {"train", "--text", "text", "--tokenizer", "/dev/zero", "--out", "new"},
                              {"evaluate", "--model", "model", "--text", "/dev/zero"},
                              {"generate", "--model", "model", "--prompt-file", "/dev/zero"},
                              {"compare", "--quick", "--text", "/dev/zero"},
                              {"demo", "--text", "/dev/zero"}}) {
    SCOPED_TRACE(all[0]);
    expect_refused(run(all), {"/dev/zero: must be a file or a pipe", "device"});
  }
}

TEST_F(HsmLmErrors, RefusesToOverwriteTheTextOrADirectory) {
  const std::string before = read_raw(work_ / "text");
  for (const auto& [out, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"text", {"--out would overwrite text"}}, {".", {"directory"}}, {"none/model", {"none/model"}}}) {
    expect_refused(run({"train", "--text", "text", "--out", out, "--steps", "2"}), words);
    EXPECT_EQ(read_raw(work_ / "text"), before);
    EXPECT_EQ(work_.entries(), 1);
  }
}

TEST_F(HsmLmErrors, LeavesAnExistingModelAloneWhenTrainingFails) {
  write_raw(work_ / "model", "what was there");
  // Weights that grow by a factor of a million per step pass the range of float.
  expect_refused(
      run(training({"--steps", "50", "--learning-rate", "1000", "--weight-decay", "1000", "--warmup", "0"})),
      {"step", "must be finite", "saved as"});
  EXPECT_EQ(read_raw(work_ / "model"), "what was there");
  EXPECT_EQ(work_.entries(), 3);
}

TEST_F(HsmLmErrors, RefusesFilesThatAreNoModelsOfBytes) {
  Random random(1);
  save_model(
      work_ / "words",
      LanguageModel<float>({.vocabulary = 300, .width = 4, .feed_forward = 4, .layers = "ab"}, random));
  save_model(work_ / "far", LanguageModel<float>({.vocabulary = 256,
                                                  .width = 4,
                                                  .feed_forward = 4,
                                                  .layers = "ab",
                                                  .schedule = "list=1000000000000"},
                                                 random));
  for (const Arguments& command :
       {Arguments{"generate", "--prompt", "a"}, Arguments{"evaluate", "--text", "text"}, Arguments{"info"}}) {
    SCOPED_TRACE(command[0]);
    for (const auto& [file, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
             {"text", {"text: "}},
             {"missing", {"missing: cannot open"}},
             {"words", {"words: ", "256", "got 300"}}}) {
      Arguments all = command;
      all.insert(all.end(), {"--model", file});
      expect_refused(run(all), words);
    }
  }
  // A shift that the text does not reach costs nothing.
  const Outcome far = run({"generate", "--prompt", "a", "--model", "far", "--tokens", "5"});
  EXPECT_EQ(far.code, 0) << far.err;
}

TEST_F(HsmLmErrors, RefusesPicturesThatItCannotWrite) {
  train_small({"--steps", "1"});
  const std::string before = read_raw(work_ / "model");
  for (const auto& [path, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"none/picture.svg", {"none/picture.svg"}},
           {".", {"directory"}},
           {"model", {"--picture would overwrite model"}}})
    expect_refused(run({"info", "--model", "model", "--picture", path}), words);
  EXPECT_EQ(read_raw(work_ / "model"), before);
  EXPECT_EQ(work_.entries(), 2);
}

TEST_F(HsmLmErrors, RefusesBadCommands) {
  train_small({"--steps", "1"});
  expect_refused(run({}), {"expected a command, train, tokenize, generate, evaluate, info, convert, demo, "
                           "task or compare, got none"});
  expect_refused(run({"trian"}), {"expected a command", "got 'trian'"});
  expect_refused(run({"train"}), {"--text", "required"});
  expect_refused(run({"info"}), {"--model or --layers"});
  EXPECT_FALSE(mentions(run({"info", "--help"}).out, {"=7*ab"})) << "no default that is refused";
  EXPECT_TRUE(mentions(run({"train", "--help"}).out, {"=7*ab"}));
  expect_refused(run({"info", "--model", "model", "--layers", "ab"}), {"--layers", "--model"});
  expect_refused(run({"train", "--text", "text", "--out", "big", "--layers", "ab", "--width", "1000000",
                      "--feed-forward", "1000000"}),
                 {"memory"});
  expect_refused(run({"generate", "--model", "model", "--prompt", ""}), {"--prompt", "at least 1 byte"});
  for (const auto& [option, value] :
       std::vector<std::pair<std::string, std::string>>{{"--temperature", "-1"},
                                                        {"--top-k", "-1"},
                                                        {"--top-p", "0"},
                                                        {"--top-p", "1.5"},
                                                        {"--tokens", "0"},
                                                        {"--on-full", "panic"}}) {
    const Outcome outcome = run({"generate", "--model", "model", "--prompt", "a", option, value});
    SCOPED_TRACE(option);
    expect_refused(outcome, {option});
  }
  write_raw(work_ / "text", "a");
  expect_refused(run({"evaluate", "--model", "model", "--text", "text"}),
                 {"text", "at least 2 bytes", "got 1"});
}

TEST_F(HsmLmErrors, AnEmptyValueBehindEqualsIsTheValue) {
  train_small({"--steps", "1"});
  for (const auto& [all, words] : std::vector<std::pair<Arguments, std::vector<std::string>>>{
           {training({"--steps", "1", "--log=", "--validate-every", "1"}),
            {"--log", "must name a file, got ''"}},
           {training({"--seed=", "5"}), {"--seed", "whole number", "got ''"}},
           {training({"--positions=", "none"}), {"--positions"}},
           {training({"--steps", "1", "--keep-best="}),
            {"--keep-best must be true or false behind =, got ''"}},
           {{"generate", "--model", "model", "--prompt=", "--stats"}, {"--prompt must have at least 1 byte"}},
           {{"compare", "--quick", "--out=", "--speeds"}, {"--out", "must name a file"}},
           {{"compare", "--layers=", "--quick"}, {"recipe"}},
           {{"task", "--seeds=", "copy", "--steps", "1"}, {"--seeds", "got ''"}}}) {
    SCOPED_TRACE(all[all.size() - 2] + " " + all.back());
    expect_refused(run(all), words);
    EXPECT_EQ(work_.entries(), 2);
  }
  // A value that looks like one stays a value.
  const Outcome outcome = run({"generate", "--model", "model", "--prompt", "--log=", "--tokens", "1"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("--log=")) << outcome.out;
}

TEST_F(HsmLmErrors, RefusesOptionsGivenTwice) {
  expect_refused(run(training({"--width", "8"})), {"--width is given twice"});
  expect_refused(run(training({"--text=text"})), {"--text is given twice"});
  expect_refused(run({"info", "--layers", "ab", "--layers", "ab"}), {"--layers is given twice"});
  expect_refused(run({"task", "copy", "--length", "8", "--context", "8"}), {"--context is given twice"});
  const Outcome recipes = run({"compare", "--layers", "ab", "--layers", "zz"});  // a list, one at a time
  expect_refused(recipes, {"'zz'"});
}

}  // namespace
}  // namespace hsm::test::hsm_lm_errors_test
