// SPDX-License-Identifier: MIT
//
// hsm_lm generate, evaluate and info as their users meet them: files that meet, numbers, pipes and terminals,
// long prompts, and models that nobody could build.
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/stat.h>

#include <filesystem>
#include <hsm/io/model_file.hpp>
#include <string>
#include <utility>
#include <vector>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_generate_test {
namespace {

using Net = LanguageModel<float>;

class HsmLmGenerate : public HsmLm {
 protected:
  /// What the tool shows on a terminal.
  std::string run_on_terminal(const Arguments& arguments) const {
    std::vector<char*> argv{const_cast<char*>(HSM_LM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    int terminal = -1;
    const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    if (child == 0) {
      // Only the text on the terminal; what is said about it elsewhere.
      ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
      if (::chdir(work_.path().c_str()) == 0) ::execv(HSM_LM, argv.data());
      ::_exit(99);
    }
    std::string shown;
    char part[4096];
    for (ssize_t n = 0; (n = ::read(terminal, part, sizeof part)) > 0;)
      shown.append(part, static_cast<std::size_t>(n));
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << shown;
    ::close(terminal);
    EXPECT_TRUE(shown.ends_with("\r\n")) << shown;
    return shown.substr(0, shown.size() - std::min<std::size_t>(2, shown.size()));
  }

  void save(const std::string& name, const LanguageModelConfig& config, float scale = 1) const {
    Random random(1);
    Net model(config, random);
    Net::visit([&](std::string_view, auto& tensor) { tensor *= scale; }, model);
    save_model(work_ / name, model);
  }
  static LanguageModelConfig small(const std::string& layers = "2*ab") {
    return {.vocabulary = 256, .width = 8, .feed_forward = 8, .context = 16, .layers = layers};
  }

  static Arguments with(Arguments first, const Arguments& more) {
    first.insert(first.end(), more.begin(), more.end());
    return first;
  }
  const Arguments kGenerate{"generate", "--model", "model", "--threads", "1", "--seed", "3"};
};

TEST_F(HsmLmGenerate, WritesOverNothingThatItReads) {
  save("model", small());
  const std::string before = read_raw(work_ / "model");
  std::filesystem::create_symlink("model", work_ / "link");
  std::filesystem::create_hard_link(work_ / "model", work_ / "twin");
  std::filesystem::create_directory(work_ / "sub");
  const auto entries = work_.entries();
  for (const char* path : {"model", "./model", "sub/../model", "link", "twin"}) {
    SCOPED_TRACE(path);
    expect_refused(run(with(kGenerate, {"--prompt", "a", "--save-session", path})),
                   {"--save-session would overwrite model", "--model"});
    expect_refused(run({"info", "--model", "model", "--picture", path}), {"--picture would overwrite model"});
  }
  expect_refused(run(with(kGenerate, {"--prompt-file", "text", "--save-session", "text"})),
                 {"--save-session would overwrite text"});
  EXPECT_TRUE(read_raw(work_ / "model") == before) << "the model has changed";
  EXPECT_EQ(work_.entries(), entries);
  // A session may be replaced by the one that goes on from it.
  ASSERT_EQ(run(with(kGenerate, {"--prompt", "a", "--tokens", "2", "--save-session", "session"})).code, 0);
  EXPECT_EQ(run(with(kGenerate, {"--session", "session", "--save-session", "session"})).code, 0);
}

TEST_F(HsmLmGenerate, WritesTheSameTextWithADraft) {
  LanguageModelConfig config = small("ab,attention:heads=2,gated");
  config.positions = Positions::kLearned;
  config.context = 24;
  save("learned", config, 3);
  save("model", small("3*ab"), 3);
  save("draft", small("ab"), 3);
  for (const auto& [model, more] : {std::pair<std::string, Arguments>{"model", {}},
                                    {"model", {"--temperature", "0"}},
                                    {"learned", {"--on-full", "restart"}},
                                    {"learned", {}}}) {
    const Arguments all = with(
        {"generate", "--threads", "1", "--seed", "3", "--prompt", "once", "--tokens", "60", "--model", model},
        more);
    const Outcome alone = run(with(all, {"--save-session", "alone"}));
    ASSERT_EQ(alone.code, 0) << alone.err;
    EXPECT_EQ(alone.err.find("drafted"), std::string::npos) << alone.err;
    for (const char* draft : {"model", "draft"}) {
      for (const char* k : {"1", "7"}) {
        const Outcome together =
            run(with(all, {"--draft", draft, "--draft-tokens", k, "--save-session", "together"}));
        EXPECT_EQ(together.code, 0) << together.err;
        EXPECT_TRUE(together.out == alone.out) << together.out;
        EXPECT_NE(together.err.find(" drafted tokens kept; seed 3"), std::string::npos) << together.err;
        const Arguments on{"generate", "--model", model, "--on-full", "restart", "--session"};
        EXPECT_TRUE(run(with(on, {"together"})).out == run(with(on, {"alone"})).out) << "the sessions go on";
      }
    }
  }
  const Arguments prompt{"--prompt", "a", "--draft"};
  expect_refused(run(with(kGenerate, {"--prompt", "a", "--draft-tokens", "2"})),
                 {"--draft-tokens", "--draft"});
  expect_refused(run(with(kGenerate, with(prompt, {"none"}))), {"none"});
  expect_refused(run(with(kGenerate, {"--session", "alone", "--draft", "draft"})), {"--session", "--draft"});
  expect_refused(run(with(kGenerate, with(prompt, {"draft", "--save-session", "draft"}))),
                 {"--save-session would overwrite draft"});
  LanguageModelConfig other = small();
  other.vocabulary = 300;
  save("other", other);
  EXPECT_NE(run(with(kGenerate, with(prompt, {"other"}))).code, 0);
}

TEST_F(HsmLmGenerate, TellsHowLongTokensTake) {
  save("model", small());
  const Outcome plain = run(with(kGenerate, {"--prompt", "a", "--tokens", "10"}));
  const Outcome outcome = run(with(kGenerate, {"--prompt", "a", "--tokens", "10", "--stats"}));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == plain.out) << outcome.out;
  std::size_t at = 0;
  for (const char* line :
       {"token 1: ", "tokens 2 to 3: each ", "tokens 4 to 7: each ", "tokens 8 to 10: each "}) {
    at = outcome.err.find(line, at);
    ASSERT_NE(at, std::string::npos) << line << " is not there in its place in " << outcome.err;
  }
  EXPECT_EQ(plain.err.find("each "), std::string::npos) << plain.err;
}

TEST_F(HsmLmGenerate, ReadsNumbersByOneRule) {
  save("model", small());
  const auto out = [&](const Arguments& more) {
    const Outcome outcome = run(with({"generate", "--model", "model", "--prompt", "a"}, more));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  };
  const std::string ten = out({"--tokens", "10", "--seed", "10"});
  EXPECT_EQ(ten.size(), 12u);
  EXPECT_EQ(out({"--tokens", "010", "--seed", "010"}), ten);
  EXPECT_EQ(out({"--tokens", "08", "--seed", "9"}).size(), 10u);
  const std::string kDigits(300, '7');
  for (const char* option : {"--tokens", "--seed", "--chunk", "--threads", "--top-k"}) {
    for (const std::string& text :
         {std::string("1e1"), std::string("0x10"), std::string("+5"), std::string("-1"), std::string("5.0"),
          std::string(" 5"), std::string(), std::string("nan"), kDigits}) {
      const Outcome outcome =
          run({"generate", "--model", "model", "--prompt", "a", std::string(option) + "=" + text});
      expect_refused(outcome, {option});
      EXPECT_LT(outcome.err.size(), 250u) << outcome.err;
    }
  }
  for (const std::string text : {"0", "1.1", "+0.5", "nan", "inf", "0x1p-1", "-0.5"})
    expect_refused(run({"generate", "--model", "model", "--prompt", "a", "--top-p=" + text}),
                   {"--top-p: must be a number, above 0, at most 1, got '" + text + "'"});
  const Outcome help = run({"generate", "--help"});
  EXPECT_TRUE(mentions(help.out, {"above 0, at most 1", "1 to 2^40", "0 to 2^64 - 1", "0 to 2^20"}));
}

TEST_F(HsmLmGenerate, RefusesEmptyNamesOfFiles) {
  save("model", small());
  const std::vector<std::pair<Arguments, const char*>> cases{
      {{"train", "--text", "", "--out", "new"}, "--text"},
      {{"train", "--text", "text", "--out", ""}, "--out"},
      {{"train", "--text", "text", "--out", "new", "--valid", ""}, "--valid"},
      {{"train", "--text", "text", "--out", "new", "--log", ""}, "--log"},
      {{"generate", "--prompt", "a", "--model", ""}, "--model"},
      {{"generate", "--model", "model", "--session", ""}, "--session"},
      {{"generate", "--model", "model", "--prompt", "a", "--save-session", ""}, "--save-session"},
      {{"generate", "--model", "model", "--prompt-file", ""}, "--prompt-file"},
      {{"evaluate", "--text", "text", "--model", ""}, "--model"},
      {{"evaluate", "--text", "", "--model", "model"}, "--text"},
      {{"info", "--model", ""}, "--model"},
      {{"info", "--model", "model", "--picture", ""}, "--picture"},
      {{"demo", "--text", ""}, "--text"}};
  for (const auto& [arguments, option] : cases)
    expect_refused(run(arguments), {option, "must name a file, got ''"});
}

TEST_F(HsmLmGenerate, TellsAtOnceWhatCannotBe) {
  save("model", small());
  ASSERT_EQ(::mkfifo((work_ / "pipe").c_str(), 0600), 0);
  expect_refused(
      run(with(kGenerate, {"--prompt", "a", "--tokens", "100000000", "--save-session", "nowhere/s"})),
      {"nowhere/s"});
  for (const Arguments& command :
       {Arguments{"generate", "--prompt", "a"}, Arguments{"evaluate", "--text", "text"}, Arguments{"info"}})
    expect_refused(run(with(command, {"--model", "pipe"})), {"pipe: must be a"});
  expect_refused(run(with(kGenerate, {"--session", "pipe"})), {"pipe: must be a"});
  expect_refused(run(with(kGenerate, {"--prompt", "a", "--save-session", "pipe"})), {"pipe: must be a"});
  expect_refused(run(with(kGenerate, {"--prompt", "a", "--prompt-file", "text"})),
                 {"--prompt", "--prompt-file"});
  write_raw(work_ / "empty", "");
  expect_refused(run(with(kGenerate, {"--prompt-file", "empty"})),
                 {"--prompt-file empty", "at least 1 byte"});
}

TEST_F(HsmLmGenerate, AsksForNoMoreMemoryThanATextCanTake) {
  LanguageModelConfig config = small("ab,attention");
  save("model", config);
  const Arguments long_text{"--prompt", "a", "--tokens", "1000000000000"};
  expect_refused(run(with(kGenerate, long_text)),
                 {"a text of 1000000000001 tokens needs ", "for its state", "can be had"});
  config.positions = Positions::kLearned;
  save("model", config);
  const Outcome learned = run(with(kGenerate, long_text));  // never more than the positions
  EXPECT_EQ(learned.code, 0) << learned.err;
}

TEST_F(HsmLmGenerate, TheChunkChangesNothingWhereTheTextRestarts) {
  LanguageModelConfig config = small("ab,attention");
  config.positions = Positions::kLearned;
  save("model", config, 3);
  write_raw(work_ / "prompt", read_raw(work_ / "text").substr(0, 601));
  std::vector<std::string> texts;
  for (const char* chunk : {"1", "7", "1000"}) {
    const Outcome outcome = run(with(kGenerate, {"--prompt-file", "prompt", "--tokens", "40", "--temperature",
                                                 "0", "--on-full", "restart", "--chunk", chunk}));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    texts.push_back(outcome.out);
    // 16 positions; 8 + (601 - 16 - 1) % 9 are left.
    EXPECT_TRUE(mentions(outcome.err, {"longer than the context of 16", "its last 16 bytes"})) << chunk;
    if (std::string(chunk) == "1000") {
      EXPECT_TRUE(mentions(outcome.err, {"prefill 16 tokens, "}));
    }
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_EQ(texts[0], texts[2]);
  EXPECT_TRUE(mentions(run({"generate", "--help"}).out, {"restart", "last half"}));
}

TEST_F(HsmLmGenerate, TakesPromptsOfAnyLength) {
  save("model", small());
  const std::string prompt(300'000, 'x');
  write_raw(work_ / "prompt", prompt);
  const Arguments more{"--tokens", "1"};
  const Outcome file = run(with(kGenerate, with({"--prompt-file", "prompt"}, more)));
  ASSERT_EQ(file.code, 0) << file.err;
  EXPECT_TRUE(file.out.starts_with(prompt));
  EXPECT_TRUE(mentions(file.err, {"prefill 300000 tokens, ", "; decode 1 token; seed "})) << "no rate of one";
  input_ = work_ / "prompt";
  EXPECT_TRUE(run(with(kGenerate, with({"--prompt-file", "-"}, more))).out == file.out);
}

TEST_F(HsmLmGenerate, GivesAPipeTheBytesAndATerminalWhatItCanShow) {
  save("model", small());
  const std::string prompt =
      "x\xE2\x1B[31m\xC2\x9B"
      "4m\xFF\xE2\x80\xAEy";
  const Arguments arguments = with(kGenerate, {"--prompt", prompt, "--tokens", "1"});
  const std::string raw = run(arguments).out;
  EXPECT_TRUE(raw.starts_with(prompt)) << raw;
  EXPECT_EQ(raw.size(), prompt.size() + 2);
  const std::string shown = run_on_terminal(arguments), gone = "\xEF\xBF\xBD";
  EXPECT_TRUE(shown.starts_with("x" + gone + gone + "[31m" + gone + "4m" + gone + gone + "y")) << shown;
  // The same for names in messages.
  const Outcome error = run({"info", "--model",
                             "a\x1B[31m\xC2\x9B"
                             "4m\xE2\x80\xAE"});
  expect_refused(error, {"a\\x1b[31m\\xc2\\x9b4m\\xe2\\x80\\xae: cannot open"});
}

TEST_F(HsmLmGenerate, CarriesACharacterThatASessionCuts) {
  std::string text;
  while (text.size() < 3000) text += "\xE2\x82\xAC\xC3\xA9";  // U+20AC U+00E9
  write_raw(work_ / "text", text);
  train_small({"--steps", "150", "--learning-rate", "0.02"});
  const Arguments greedy{"--temperature", "0"};
  const auto generate = [&](const Arguments& more) { return with(kGenerate, with(greedy, more)); };
  const std::string whole = run_on_terminal(generate({"--prompt", "\xE2\x82\xAC\xC3\xA9", "--tokens", "15"}));
  ASSERT_EQ(whole.find("\xEF\xBF\xBD"), std::string::npos) << "the model did not learn: " << whole;
  for (const char* tokens : {"1", "2", "4", "6"}) {
    const std::string start = run_on_terminal(
        generate({"--prompt", "\xE2\x82\xAC\xC3\xA9", "--tokens", tokens, "--save-session", "session"}));
    const std::string rest = std::to_string(15 - std::stoi(tokens));
    EXPECT_EQ(start + run_on_terminal(generate({"--session", "session", "--tokens", rest})), whole) << tokens;
  }
  // Through a pipe the bytes are not held back, and the session knows of them all the same.
  const std::string start =
      run(generate({"--prompt", "\xE2\x82\xAC\xC3\xA9", "--tokens", "1", "--save-session", "s"})).out;
  EXPECT_EQ(start, "\xE2\x82\xAC\xC3\xA9\xE2\n");
  const std::string rest = run_on_terminal(generate({"--session", "s", "--tokens", "14"}));
  EXPECT_TRUE(rest.starts_with("\xE2\x82\xAC")) << rest;
}

TEST_F(HsmLmGenerate, RefusesToComputeWithWeightsThatAreTooLarge) {
  save("model", small("gated"), 1e18f);
  expect_refused(run({"evaluate", "--model", "model", "--text", "text"}),
                 {"model: ", "text", "not a number"});
  const Outcome outcome = run(with(kGenerate, {"--prompt", "a", "--save-session", "session"}));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_TRUE(mentions(outcome.err, {"model: ", "not a number"}));
  EXPECT_FALSE(std::filesystem::exists(work_ / "session"));
}

TEST_F(HsmLmGenerate, AShiftThatNoTextReachesCostsNothing) {
  save("model", small("40*ab"));
  const Outcome outcome =
      run(with(kGenerate, {"--prompt", "a", "--tokens", "13", "--save-session", "session"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_LT(std::filesystem::file_size(work_ / "session"), 60'000u);
  EXPECT_EQ(run(with(kGenerate, {"--session", "session", "--tokens", "13"})).code, 0);
}

TEST_F(HsmLmGenerate, CountsWithoutBuilding) {
  const Outcome outcome = run({"info", "--layers", "7*attention", "--parameters", "4000000000"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::size_t at = outcome.out.find("\nparameters  ");
  ASSERT_NE(at, std::string::npos) << outcome.out;
  EXPECT_NEAR(std::stod(outcome.out.substr(at + 13)), 4e9, 7 * 257);
  const Outcome huge = run({"info", "--layers", "200*attention", "--schedule", "cyclic=3", "--width",
                            "1048576", "--feed-forward", "1048576"});
  EXPECT_EQ(huge.code, 0) << huge.err;
  expect_refused(run({"info", "--layers", "attention:heads=3", "--width", "16"}),
                 {"heads", "divisor of the 16"});
  expect_refused(run({"info", "--layers", "ab", "--parameters", "10"}),
                 {"hsm_lm: the number of parameters must be at least"});
}

TEST_F(HsmLmGenerate, TellsItsExitCodes) {
  EXPECT_TRUE(mentions(run({"--help"}).out, {"Exit codes:", "0    done", "2    an error", "130"}));
}

}  // namespace
}  // namespace hsm::test::hsm_lm_generate_test
