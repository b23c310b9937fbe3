// SPDX-License-Identifier: MIT
//
// Texts that hsm_lm saves and goes on with, in another process: the same bytes as without the break.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_session_test {
namespace {

Arguments with(Arguments first, const Arguments& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

// Few choices, so that the text is ASCII: where a text stops inside a character, that character is shown as
// U+FFFD.
const Arguments kChoice{"--model", "model", "--threads", "2", "--top-k", "3", "--temperature", "0.9"};
const Arguments kBegin = with({"generate", "--seed", "9", "--prompt", "the c"}, kChoice);
const Arguments kGoOn = with({"generate", "--session", "session"}, kChoice);

/// Without the line break at the end of a text.
std::string text_of(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.ends_with("\n")) << outcome.out;
  return outcome.out.substr(0, outcome.out.size() - 1);
}

TEST_F(HsmLm, GoesOnWithASavedTextAsIfItHadNeverStopped) {
  for (const std::string layers : {"3*ab", "ab,attention,gated"}) {
    Arguments arguments = training({"--steps", "60"});
    std::replace(arguments.begin(), arguments.end(), std::string("3*ab"), layers);
    ASSERT_EQ(run(arguments).code, 0);
    const std::string whole = text_of(run(with(kBegin, {"--tokens", "60"})));
    const Outcome first = run(with(kBegin, {"--tokens", "25", "--save-session", "session"}));
    const std::string start = text_of(first);
    EXPECT_TRUE(mentions(first.err, {"session: saved, 29 tokens read", "seed 9"}));
    EXPECT_TRUE(whole.starts_with(start)) << start;
    const std::string middle = text_of(run(with(kGoOn, {"--tokens", "15", "--save-session", "session"})));
    const std::string end = text_of(run(with(kGoOn, {"--tokens", "20"})));
    EXPECT_EQ(start + middle + end, whole);
    EXPECT_EQ(text_of(run(with(kGoOn, {"--tokens", "20"}))), end) << "the session file serves again";
    const std::string prompted = text_of(run(with(kGoOn, {"--tokens", "5", "--prompt", "a dog"})));
    EXPECT_TRUE(prompted.starts_with("a dog")) << prompted;
  }
}

TEST_F(HsmLm, GoesOnPastLearnedPositionsWithASavedText) {
  train_small({"--steps", "60", "--positions", "learned"});
  const Arguments restart{"--on-full", "restart"};
  const std::string whole = text_of(run(with(kBegin, with({"--tokens", "50"}, restart))));
  const Outcome full = run(with(kBegin, {"--tokens", "50", "--save-session", "session"}));
  const std::string start = text_of(full);
  EXPECT_TRUE(mentions(full.err, {"stopped after 12 tokens", "session: saved, 16 tokens read"}));
  EXPECT_EQ(start + text_of(run(with(kGoOn, with({"--tokens", "38"}, restart)))), whole);
  expect_refused(run(kGoOn), {"16 positions", "16 are used"});
}

TEST_F(HsmLm, ReadsThePromptInChunks) {
  train_small({"--steps", "20"});
  const Arguments generate{
      "generate", "--model", "model",         "--prompt", "the cat sat. so it was, a dog ran!",
      "--tokens", "40",      "--temperature", "0"};
  const std::string whole = text_of(run(generate));
  for (const char* chunk : {"1", "7", "34"})
    EXPECT_EQ(text_of(run(with(generate, {"--chunk", chunk}))), whole) << chunk;
  EXPECT_EQ(run(with(generate, {"--chunk", "0"})).code, 2);
}

TEST_F(HsmLm, GoesOnWithoutAPromptHoweverItIsGiven) {
  train_small({"--steps", "3"});
  text_of(run(with(kBegin, {"--tokens", "3", "--save-session", "session"})));
  const std::string text = text_of(run(with(kGoOn, {"--tokens", "5"})));
  write_raw(work_ / "empty", "");
  EXPECT_EQ(text_of(run(with(kGoOn, {"--tokens", "5", "--prompt", ""}))), text);
  EXPECT_EQ(text_of(run(with(kGoOn, {"--tokens", "5", "--prompt="}))), text);
  EXPECT_EQ(text_of(run(with(kGoOn, {"--tokens", "5", "--prompt-file", "empty"}))), text);
  EXPECT_EQ(text_of(run(with(kGoOn, {"--tokens", "5", "--prompt-file", "-"}))), text);
  const Arguments fresh{"generate", "--model", "model", "--prompt-file", "empty"};
  expect_refused(run(fresh), {"--prompt-file empty must have at least 1 byte"});
}

TEST_F(HsmLm, DoesNotSaveASessionOverThePromptThatItReads) {
  train_small({"--steps", "1"});
  write_raw(work_ / "prompt", "the cat");
  input_ = work_ / "prompt";
  expect_refused(run({"generate", "--model", "model", "--prompt-file", "-", "--save-session", "prompt"}),
                 {"--save-session and the standard input must be different files, got prompt for both"});
  EXPECT_EQ(read_raw(work_ / "prompt"), "the cat");
}

TEST_F(HsmLm, RefusesSessionsThatAreNotItsOwn) {
  train_small({"--steps", "3"});
  text_of(run(with(kBegin, {"--tokens", "3", "--save-session", "session"})));
  const std::string session = read_raw(work_ / "session");
  train_small({"--steps", "4"});
  expect_refused(run(kGoOn), {"session: was saved with other parameters"});
  write_raw(work_ / "session", session.substr(0, session.size() / 2));
  expect_refused(run(kGoOn), {"session: "});
  expect_refused(run({"generate", "--model", "model", "--session", "none"}), {"none: "});
  expect_refused(run({"generate", "--model", "model", "--session", "model"}), {"model: ", "'hsm-session'"});
  EXPECT_EQ(run({"generate", "--model", "model"}).code, 2);
  // A session that cannot be saved is said so, and what was there stays.
  const Outcome outcome = run(with(kBegin, {"--tokens", "3", "--save-session", "nowhere/session"}));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_TRUE(mentions(outcome.err, {"nowhere/session"}));
  EXPECT_EQ(read_raw(work_ / "session"), session.substr(0, session.size() / 2));
}

}  // namespace
}  // namespace hsm::test::hsm_lm_session_test
