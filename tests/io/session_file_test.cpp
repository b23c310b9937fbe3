// SPDX-License-Identifier: MIT
//
// Sessions in files: another process goes on with the same bits, and what is not a whole session of this very
// model is refused.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include <hsm/io/byte_tokenizer.hpp>
#include <hsm/io/session_file.hpp>

#include "io/io_test_support.hpp"
#include "model/language_model_cases.hpp"
#include "paths.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::session_file_test {
namespace {

using Net = LanguageModel<float>;
constexpr Index kVocabulary = 11;

Net make_model(Positions positions, std::uint64_t seed = 7) {
  LanguageModelConfig config = small_config();
  config.positions = positions;
  return random_model<float>(config, seed);
}

/// A session of three streams: one of 20 tokens, one that was rewound, one that has not begun.
GenerationSession<Net> make_session(const Net& model, Workspace& workspace,
                                    OnFull on_full = OnFull::kRefuse) {
  Random random(1);
  GenerationSession session(model, workspace, {.streams = 3, .on_full = on_full, .spare = 2});
  session.prefill(random_ids(29, kVocabulary, random), std::vector<Index>{0, 20, 29},
                  std::vector<Index>{0, 2});
  session.rewind(2, 2);
  return session;
}

/// 15 more tokens of every stream, and the bits of all logits on the way. With learned positions stream 0
/// restarts on the way.
std::string proceed(GenerationSession<Net>& session) {
  Random random(2);
  std::string bits;
  for (int t = 0; t < 15; ++t) {
    session.next(random_ids(3, kVocabulary, random));
    for (Index s = 0; s < 3; ++s) {
      const auto logits = session.logits(s);
      bits.append(reinterpret_cast<const char*>(logits.data()), logits.size_bytes());
    }
  }
  return bits;
}

TEST(SessionFile, AnotherProcessGoesOnWithTheSameBits) {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const Net model = make_model(positions);
    const TemporaryDirectory directory;
    Workspace workspace;
    auto session = make_session(model, workspace, OnFull::kRestart);
    save_session(directory / "session", session, {{"seed", "12"}, {"text", "\u00e9 \"x\"\n"}});
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 1;
      try {
        Workspace own;
        auto loaded = load_session(directory / "session", model);
        GenerationSession other(model, own, std::move(loaded.memory), OnFull::kRestart);
        write_raw(directory / "bits", proceed(other));
        code = loaded.notes == SessionNotes{{"seed", "12"}, {"text", "\u00e9 \"x\"\n"}} ? 0 : 2;
      } catch (...) {
      }
      ::_exit(code);
    }
    const std::string expected = proceed(session);
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(read_raw(directory / "bits") == expected) << "the bits differ";
    EXPECT_EQ(directory.entries(), 2);
  }
}

TEST(SessionFile, HoldsAllThatASessionRemembers) {
  const Net model = make_model(Positions::kLearned);
  const TemporaryDirectory directory;
  Workspace workspace;
  auto session = make_session(model, workspace);
  save_session(directory / "session", session);
  const auto loaded = load_session(directory / "session", model);
  GenerationSession again(model, workspace, loaded.memory);
  EXPECT_TRUE(loaded.notes.empty());
  EXPECT_EQ(again.position(0), 20);
  EXPECT_EQ(again.position(1), 0);
  EXPECT_EQ(again.position(2), 7);
  EXPECT_NO_THROW(again.logits(0));
  EXPECT_THROW(again.logits(1), std::out_of_range);
  for (const auto& [stream, before] : {std::pair<Index, Index>{0, 0}, {0, 1}, {0, 2}, {2, 0}}) {
    const auto got = again.logits(stream, before), expected = session.logits(stream, before);
    expect_same_bits(std::vector<float>(got.begin(), got.end()),
                     std::vector<float>(expected.begin(), expected.end()), "logits");
  }
  for (const auto& [stream, there] : {std::pair<Index, bool>{0, true}, {1, false}, {2, true}})
    EXPECT_EQ(loaded.memory.has_logits(stream), there) << stream;
  EXPECT_THROW(again.logits(0, 3), std::out_of_range);
  EXPECT_THROW(again.logits(2, 1), std::out_of_range) << "it was rewound";
  EXPECT_EQ(again.memory().history, session.memory().history);
  again.rewind(0, 2);
  EXPECT_THROW(again.rewind(0, 1), std::out_of_range) << "the spare slots come back as they were";
  EXPECT_THROW(again.prefill(Ids(3 * 7, 1)), std::out_of_range) << "kRefuse is the default";
}

TEST(SessionFile, OfAnotherModelIsRefused) {
  const Net model = make_model(Positions::kNone);
  const TemporaryDirectory directory;
  Workspace workspace;
  save_session(directory / "session", make_session(model, workspace));
  LanguageModelConfig config = small_config();
  config.schedule = "cyclic=2";
  Net changed = model;
  changed.embedding().weight(3, 2) = std::nextafter(changed.embedding().weight(3, 2), 9.0f);
  for (const Net& other : {changed, random_model<float>(config, 7), make_model(Positions::kLearned)}) {
    const auto message =
        message_of_exactly<std::runtime_error>([&] { load_session(directory / "session", other); });
    EXPECT_TRUE(mentions(message, {"session: was saved with other parameters", "fnv1a-64:"})) << message;
  }
  const auto wide = random_model<double>(small_config(), 7);
  message_of_exactly<std::runtime_error>([&] { load_session(directory / "session", wide); });
  SafetensorsWriter writer;
  writer.set_metadata("format", "hsm-language-model");
  writer.write(directory / "model");
  EXPECT_TRUE(
      mentions(message_of_exactly<std::runtime_error>([&] { load_session(directory / "model", model); }),
               {"'format' must be 'hsm-session'", "got 'hsm-language-model'"}));
  message_of_exactly<std::runtime_error>([&] { load_session(directory / "none", model); });
}

/// Loads a file whose bytes were changed: a session that works, or a sentence.
void expect_session_or_sentence(const std::string& bytes, const Net& model) {
  try {
    auto loaded = read_session(SafetensorsFile::parse(to_bytes(bytes), "file"), model);
    Workspace workspace;
    GenerationSession session(model, workspace, std::move(loaded.memory), OnFull::kRestart);
    session.next(Ids(static_cast<std::size_t>(session.streams()), 1));
  } catch (const std::runtime_error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("file: ")) << error.what();
  }
}

TEST(SessionFile, DamageIsASentenceOrHarmless) {
  const Net model = make_model(Positions::kLearned);
  const TemporaryDirectory directory;
  Workspace workspace;
  save_session(directory / "session", make_session(model, workspace));
  const std::string bytes = read_raw(directory / "session");
  Random random(3);
  for (int round = 0; round < 400; ++round) {
    std::string damaged = bytes;
    if (round % 4 == 0) damaged.resize(random.below(bytes.size()));
    for (int i = 0; i < 1 + round % 3 && !damaged.empty(); ++i) {
      // Half of the damage in the header, where sizes are.
      const std::size_t place =
          random.below(std::min(damaged.size(), round % 2 ? bytes.size() : std::size_t{3000}));
      damaged[place] =
          round % 5 == 0 ? static_cast<char>('0' + random.below(10)) : static_cast<char>(random.bits());
    }
    expect_session_or_sentence(damaged, model);
  }
}

/// A model with a shift that no text reaches.
Net far_model() {
  LanguageModelConfig config = small_config();
  config.layers = "ab,gated,softmax-local:heads=2:taps=3";
  config.schedule = "list=1000000000000,3,400000000000";
  return random_model<float>(config, 5);
}

TEST(SessionFile, HoldsWhatWasSeen) {
  const Net model = far_model();
  const TemporaryDirectory directory;
  Workspace workspace;
  Random random(4);
  GenerationSession session(model, workspace);
  session.prefill(random_ids(14, kVocabulary, random));
  save_session(directory / "session", session);
  EXPECT_LT(std::filesystem::file_size(directory / "session"), 20'000u);
  GenerationSession again(model, workspace, load_session(directory / "session", model).memory);
  const Ids more = random_ids(30, kVocabulary, random);
  for (const std::int32_t id : more) {
    session.next(id);
    again.next(id);
  }
  expect_same_bits(session.logits(), again.logits(), "what follows");
  EXPECT_LT(again.state_bytes(), 100'000u);
}

TEST(SessionFile, OfTheFirstVersionLoads) {
  // Written by hsm_lm when every ring was saved whole: "the cig" has been read, and rings hold 8 and 9 tokens.
  const std::filesystem::path directory = std::filesystem::path(HSM_SOURCE_DIR) / "tests/fixtures/session-v1";
  const auto model = load_model<Net>(directory / "model.safetensors");
  auto saved = load_session(directory / "session.safetensors", model);
  EXPECT_EQ(saved.notes.at("last"), "32");
  Workspace workspace;
  GenerationSession session(model, workspace, std::move(saved.memory)), fresh(model, workspace);
  EXPECT_EQ(session.position(), 7);
  fresh.prefill(ByteTokenizer::encode("the cig"));
  const auto close = [&](const char* when) {
    expect_close_to_scale(session.logits(), fresh.logits(), Tolerance<float>::mode, when);
  };
  close("as it was saved");
  for (const char byte : std::string(" so o it a as, t was")) {
    session.next(byte);
    fresh.next(byte);
  }
  close("20 tokens later");
  const TemporaryDirectory now;
  save_session(now / "session", session);
  EXPECT_NO_THROW(load_session(now / "session", model));
}

// Before, a config said of attention its heads and no more, and so did what the fingerprint covers.
TEST(SessionFile, OfTheTimeBeforeRotaryPositionsLoadsAndIsNoneOfAModelThatHasThem) {
  const Net model = random_model<float>(small_config("ab:heads=2,attention:heads=2"), 7);
  const TemporaryDirectory directory;
  Workspace workspace;
  auto session = make_session(model, workspace);
  save_session(directory / "session", session);
  LanguageModelConfig then = model.config();
  EXPECT_EQ(then.layers, "ab:heads=2,attention:block=0:heads=2:rotary=0:top=0:window=0");
  then.layers = "ab:heads=2,attention:heads=2";
  const std::string now = fingerprint(model),
                    before = fingerprint("language model " + config_to_json(then), model);
  std::string bytes = read_raw(directory / "session");
  const std::size_t place = bytes.find(now);
  ASSERT_NE(place, std::string::npos);
  write_raw(directory / "old", bytes.replace(place, now.size(), before));
  GenerationSession old(model, workspace, load_session(directory / "old", model).memory);
  EXPECT_EQ(proceed(old), proceed(session));

  const Net turned = random_model<float>(small_config("ab:heads=2,attention:heads=2:rotary=100"), 7);
  for (const char* name : {"session", "old"})
    EXPECT_THROW(load_session(directory / name, turned), std::runtime_error) << name;
}

// Before windows, a config said of attention its heads and its rotary positions.
TEST(SessionFile, OfTheTimeBeforeWindowsLoadsAndIsNoneOfAModelThatHasThem) {
  const TemporaryDirectory directory;
  Workspace workspace;
  for (const std::string rotary : {"0", "100"}) {
    const std::string layers = "ab:heads=2,attention:heads=2:rotary=" + rotary;
    const Net model = random_model<float>(small_config(layers), 7);
    auto session = make_session(model, workspace);
    save_session(directory / "session", session);
    LanguageModelConfig then = model.config();
    EXPECT_EQ(then.layers, "ab:heads=2,attention:block=0:heads=2:rotary=" + rotary + ":top=0:window=0");
    then.layers = layers;
    const std::string now = fingerprint(model),
                      before = fingerprint("language model " + config_to_json(then), model);
    std::string bytes = read_raw(directory / "session");
    const std::size_t place = bytes.find(now);
    ASSERT_NE(place, std::string::npos);
    write_raw(directory / "old", bytes.replace(place, now.size(), before));
    GenerationSession old(model, workspace, load_session(directory / "old", model).memory);
    EXPECT_EQ(proceed(old), proceed(session));
    const Net windowed = random_model<float>(small_config(layers + ":window=5"), 7);
    for (const char* name : {"session", "old"})
      EXPECT_THROW(load_session(directory / name, windowed), std::runtime_error) << name;
  }
}

// Before blocks, a config said of attention its heads, its rotary positions and its window.
TEST(SessionFile, OfTheTimeBeforeBlocksLoadsAndIsNoneOfAModelThatHasThem) {
  const TemporaryDirectory directory;
  Workspace workspace;
  for (const std::string window : {"0", "5"}) {
    const std::string layers = "ab:heads=2,attention:heads=2:rotary=0:window=" + window;
    const Net model = random_model<float>(small_config(layers), 7);
    auto session = make_session(model, workspace);
    save_session(directory / "session", session);
    LanguageModelConfig then = model.config();
    EXPECT_EQ(then.layers, "ab:heads=2,attention:block=0:heads=2:rotary=0:top=0:window=" + window);
    then.layers = layers;
    const std::string now = fingerprint(model),
                      before = fingerprint("language model " + config_to_json(then), model);
    std::string bytes = read_raw(directory / "session");
    const std::size_t place = bytes.find(now);
    ASSERT_NE(place, std::string::npos);
    write_raw(directory / "old", bytes.replace(place, now.size(), before));
    GenerationSession old(model, workspace, load_session(directory / "old", model).memory);
    EXPECT_EQ(proceed(old), proceed(session));
    const Net blocks = random_model<float>(small_config("ab:heads=2,attention:heads=2:block=3:top=1"), 7);
    for (const char* name : {"session", "old"})
      EXPECT_THROW(load_session(directory / name, blocks), std::runtime_error) << name;
  }
}

TEST(SessionFile, NothingThatIsNotFiniteIsWrittenOrRead) {
  const Net model = make_model(Positions::kNone);
  const TemporaryDirectory directory;
  Workspace workspace;
  const auto good = make_session(model, workspace);
  save_session(directory / "session", good);
  const std::string before = read_raw(directory / "session");
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::string name : {"logits", "rings.0", "cache.0"}) {
      // Written where it should not be possible, and put into a file behind our back.
      auto memory = good.memory();
      std::string damaged = before;
      const SafetensorsFile file = SafetensorsFile::load(directory / "session");
      for (const TensorInfo& info : file.tensors()) {
        if (!info.name.ends_with(name)) continue;
        const auto bytes = file.bytes(info);
        ASSERT_GE(bytes.size(), sizeof bad) << info.name;
        const std::string values(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        std::memcpy(damaged.data() + damaged.rfind(values), &bad, sizeof bad);
      }
      const auto message = message_of_exactly<std::runtime_error>(
          [&] { read_session(SafetensorsFile::parse(to_bytes(damaged), "file"), model); });
      EXPECT_TRUE(mentions(message, {"file: tensor ", name, "must hold finite numbers"})) << message;
      if (name != "logits") continue;
      memory.logits(3, 0) = bad;
      const GenerationSession session(model, workspace, memory);
      EXPECT_TRUE(mentions(
          message_of_exactly<std::runtime_error>([&] { save_session(directory / "session", session); }),
          {"session: tensor 'logits' must hold finite numbers to be saved"}));
    }
  }
  EXPECT_TRUE(read_raw(directory / "session") == before) << "a refused save has changed the file";
}

TEST(SessionFile, OfAStreamThatACallLeftInPartIsNotWritten) {
  const Net model = make_model(Positions::kNone);
  const TemporaryDirectory directory;
  Workspace workspace;
  auto session = make_session(model, workspace);
  save_session(directory / "session", session);
  const std::string before = read_raw(directory / "session");
  auto memory = session.memory();
  std::get<RingState<float>>(memory.state.layers[0]).spoil(2);
  const GenerationSession broken(model, workspace, memory);
  EXPECT_TRUE(
      mentions(message_of_exactly<std::runtime_error>([&] { save_session(directory / "session", broken); }),
               {"session: stream 2 must be whole to be saved"}));
  const Mixer mixer(ScalarPair<float>(4), 1);
  auto state = mixer.make_state({.streams = 2});
  state.spoil(1);
  EXPECT_TRUE(mentions(
      message_of_exactly<std::runtime_error>([&] { save_state(directory / "session", mixer, state); }),
      {"session: stream 1 must be whole to be saved"}));
  EXPECT_TRUE(read_raw(directory / "session") == before) << "a refused save has changed the file";
}

TEST(SessionFile, HoldsNothingOfTextsThatEnded) {
  const Net model = make_model(Positions::kNone, 9);
  const TemporaryDirectory directory;
  Workspace workspace;
  auto ended = make_session(model, workspace), other = make_session(model, workspace);
  other.prefill(std::vector<std::int32_t>{1, 2, 3}, std::vector<Index>{0, 3}, std::vector<Index>{1});
  ended.reset(1);
  other.reset(1);
  save_session(directory / "ended", ended);
  save_session(directory / "other", other);
  EXPECT_TRUE(read_raw(directory / "ended") == read_raw(directory / "other"));
}

/// The message for a memory that some change has spoilt.
template <class Spoil>
std::string message_for(const Net& model, Spoil&& spoil) {
  Workspace workspace;
  SessionMemory<float> memory = make_session(model, workspace).memory();
  spoil(memory);
  return message_of_exactly<std::invalid_argument>([&] { GenerationSession(model, workspace, memory); });
}

TEST(SessionMemory, IsCheckedBeforeItIsUsed) {
  const Net learned = make_model(Positions::kLearned), none = make_model(Positions::kNone);
  using Memory = SessionMemory<float>;
  EXPECT_TRUE(
      mentions(message_for(none, [](Memory& m) { m.state.counts[0] += 1; }), {"in each layer must be 21"}));
  EXPECT_TRUE(
      mentions(message_for(none, [](Memory& m) { m.state.layers.pop_back(); }), {"layers of the state"}));
  EXPECT_TRUE(mentions(message_for(none, [](Memory& m) { m.logits.resize(11, 8); }), {"logits", "[11,6]"}));
  EXPECT_TRUE(
      mentions(message_for(none, [](Memory& m) { m.logits.resize(11, 2); }), {"kept logits of a stream"}));
  EXPECT_TRUE(mentions(message_for(none, [](Memory& m) { m.ready[3] = 1; }), {"flag of logits"}));
  EXPECT_TRUE(mentions(message_for(none, [](Memory& m) { m.ready[0] = 2; }), {"flag of logits"}));
  EXPECT_TRUE(mentions(message_for(none, [](Memory& m) { m.ready.pop_back(); }), {"flags of logits"}));
  EXPECT_TRUE(mentions(message_for(none, [](Memory& m) { m.restarts = -1; }), {"restarts"}));
  EXPECT_TRUE(mentions(message_for(none, [](Memory& m) { m.history[0].push_back(1); }), {"0 to 0 tokens"}));
  EXPECT_TRUE(
      mentions(message_for(learned, [](Memory& m) { m.history[0].pop_back(); }), {"20 to 24 tokens", "19"}));
  EXPECT_TRUE(mentions(message_for(learned, [](Memory& m) { m.history[1].resize(25); }), {"0 to 24 tokens"}));
  EXPECT_TRUE(mentions(message_for(learned, [](Memory& m) { m.history[0][3] = 11; }), {"0 to 10", "got 11"}));
  EXPECT_TRUE(mentions(message_for(learned, [](Memory& m) { m = Memory(); }), {"layers of the state"}));
}

}  // namespace
}  // namespace hsm::test::session_file_test
