// SPDX-License-Identifier: MIT
//
// States of single layers in files: another process continues with the same bits, and nothing that is not the
// state of this very layer is taken.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/io/state_file.hpp>

#include "io/io_test_support.hpp"
#include "shift/mixer_cases.hpp"

namespace hsm::test::state_file_test {
namespace {

constexpr Index kChannels = 12;

/// Runs f in a process of its own; whether it ended well.
template <class F>
bool in_another_process(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 1;
    try {
      f();
      code = 0;
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = -1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

template <class Policy>
class StateFile : public ::testing::Test {};
TYPED_TEST_SUITE(StateFile, AllPolicies);

TYPED_TEST(StateFile, IsContinuedByAnotherProcessWithTheSameBits) {
  using Scalar = typename TypeParam::Scalar;
  Random random(1);
  Workspace workspace;
  const TemporaryDirectory directory;
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(kChannels, 3, random), Shifts{2, 2, 9});
  const Activations<Scalar> x(3, 40, kChannels, random);
  Activations<Scalar> y(3, 40, kChannels), scratch = y;
  auto state = mixer.make_state({.streams = 3, .spare = 2});
  mixer.extend(x.part(0, 17), state, y.part(0, 17), workspace);
  state.reset(1);
  state.rewind(2, 2);
  save_state(directory / "state", mixer, state);
  const auto proceed = [&](MixerState<Scalar>& from, Activations<Scalar>& to) {
    mixer.step(x.part(17, 1), from, to.part(17, 1), workspace);
    mixer.extend(x.part(18, 22), from, to.part(18, 22), workspace);
  };
  EXPECT_TRUE(in_another_process([&] {
    auto loaded = load_state(directory / "state", mixer);
    proceed(loaded, scratch);
    write_raw(directory / "y", std::string_view(reinterpret_cast<const char*>(scratch.values.data()),
                                                scratch.values.size() * sizeof(Scalar)));
    save_state(directory / "later", mixer, loaded);
  }));
  scratch = y;
  std::fill(scratch.values.begin(), scratch.values.end(), Scalar(0));
  proceed(state, y);
  const std::string bytes = read_raw(directory / "y");
  ASSERT_EQ(bytes.size(), y.values.size() * sizeof(Scalar));
  std::memcpy(scratch.values.data(), bytes.data(), bytes.size());
  for (Index b = 0; b < 3; ++b) {
    const auto tail = [&](const Activations<Scalar>& of) {
      return std::vector<Scalar>(of.view().at(b, 17), of.view().at(b, 17) + 23 * kChannels);
    };
    expect_same_bits(tail(scratch), tail(y), "stream " + std::to_string(b));
  }
  EXPECT_TRUE(load_state(directory / "later", mixer) == state);
  EXPECT_EQ(load_state(directory / "later", mixer).spare(), 2);
  EXPECT_EQ(directory.entries(), 3);
}

TYPED_TEST(StateFile, OfOtherParametersOrShiftsIsRefused) {
  using Scalar = typename TypeParam::Scalar;
  Random random(2);
  const TemporaryDirectory directory;
  const auto policy = PolicyCase<TypeParam>::make(kChannels, 3, random);
  const Mixer<TypeParam> mixer(policy, 4), other_shift(policy, 5);
  save_state(directory / "state", mixer, mixer.make_state());
  const std::string before = read_raw(directory / "state");
  Mixer<TypeParam> changed = mixer;
  TypeParam::visit(
      [](std::string_view, auto& tensor) {
        tensor.data()[0] = std::nextafter(tensor.data()[0], Scalar(9));  // one bit
      },
      changed.parameters());
  for (const Mixer<TypeParam>* other : {&other_shift, static_cast<const Mixer<TypeParam>*>(&changed)}) {
    const auto message =
        message_of_exactly<std::runtime_error>([&] { load_state(directory / "state", *other); });
    EXPECT_TRUE(mentions(message, {"was saved with other parameters", "fnv1a-64:"}));
  }
  message_of_exactly<std::invalid_argument>(
      [&] { save_state(directory / "state", mixer, other_shift.make_state()); });
  EXPECT_EQ(read_raw(directory / "state"), before) << "a refused save has changed the file";
}

TEST(AttentionStateFile, IsContinuedWithTheSameBitsAndUnderTheCapacityOfTheLoader) {
  Random random(3);
  Workspace workspace;
  const TemporaryDirectory directory;
  const CausalAttention<float> attention(Attention<float>(kChannels, 3, random, {.rotary = 10000}));
  const Activations<float> x(2, 30, kChannels, random);
  Activations<float> y(2, 30, kChannels), again = y;
  auto state = attention.make_state({.streams = 2});
  attention.extend(x.part(0, 11), state, y.part(0, 11), workspace);
  state.rewind(1, 4);
  save_state(directory / "state", attention, state);
  auto loaded = load_state(directory / "state", attention, 30);
  EXPECT_EQ(loaded.count(0), 11);
  EXPECT_EQ(loaded.count(1), 7);
  EXPECT_EQ(loaded.capacity(), 30);
  attention.extend(x.part(11, 19), state, y.part(11, 19), workspace);
  attention.extend(x.part(11, 19), loaded, again.part(11, 19), workspace);
  for (Index b = 0; b < 2; ++b) {
    const auto tail = [&](const Activations<float>& of) {
      return std::vector<float>(of.view().at(b, 11), of.view().at(b, 11) + 19 * kChannels);
    };
    expect_same_bits(tail(again), tail(y), "stream " + std::to_string(b));
  }
  EXPECT_TRUE(mentions(
      message_of_exactly<std::runtime_error>([&] { load_state(directory / "state", attention, 10); }),
      {"0 to a capacity of 10", "got 11"}));
  const CausalAttention<float> other_heads(Attention<float>(kChannels, 2, random));
  message_of_exactly<std::runtime_error>([&] { load_state(directory / "state", other_heads); });
  auto other = attention;
  other.parameters().rotary = 1000;
  message_of_exactly<std::runtime_error>([&] { load_state(directory / "state", other); });
  EXPECT_THROW(save_state(directory / "other", other, state), std::invalid_argument);
  EXPECT_EQ(directory.entries(), 1);
}

// The sums of blocks are in no file: they are made again from the keys.
TEST(AttentionStateFile, OfBlocksIsContinuedWithTheSameBits) {
  Random random(6);
  Workspace workspace;
  const TemporaryDirectory directory;
  const CausalAttention<float> attention(
      Attention<float>(kChannels, 3, random, {.rotary = 10000, .block = 4, .top = 2}));
  const Activations<float> x(2, 60, kChannels, random);
  Activations<float> y(2, 60, kChannels), again = y;
  auto state = attention.make_state({.streams = 2});
  attention.extend(x.part(0, 41), state, y.part(0, 41), workspace);
  state.rewind(1, 6);
  save_state(directory / "state", attention, state);
  auto loaded = load_state(directory / "state", attention);
  EXPECT_EQ(loaded.block(), 4);
  attention.extend(x.part(41, 19), state, y.part(41, 19), workspace);
  attention.extend(x.part(41, 19), loaded, again.part(41, 19), workspace);
  for (Index b = 0; b < 2; ++b) {
    const auto tail = [&](const Activations<float>& of) {
      return std::vector<float>(of.view().at(b, 41), of.view().at(b, 41) + 19 * kChannels);
    };
    expect_same_bits(tail(again), tail(y), "stream " + std::to_string(b));
  }
  auto other = attention;
  other.parameters().top = 1;
  message_of_exactly<std::runtime_error>([&] { load_state(directory / "state", other); });
}

TEST(AttentionStateFile, OfAWindowHoldsWhatIsHeldAndIsContinuedWithTheSameBits) {
  Random random(4);
  Workspace workspace;
  const TemporaryDirectory directory;
  const Index window = 6, spare = 3;
  const CausalAttention<float> attention(
      Attention<float>(kChannels, 3, random, {.rotary = 10000, .window = window}));
  const Activations<float> x(3, 60, kChannels, random);
  Activations<float> y(3, 60, kChannels), again = y;
  for (const Index before : {2, 30}) {
    auto state = attention.make_state({.streams = 3, .spare = spare});
    attention.extend(x.part(0, before), state, y.part(0, before), workspace);
    state.rewind(1, 2);
    state.reset(2);
    save_state(directory / "state", attention, state);
    auto loaded = load_state(directory / "state", attention, 10);  // a capacity that it does not read
    EXPECT_EQ(loaded.spare(), spare);
    EXPECT_EQ(loaded.window(), window);
    for (Index s = 0; s < 3; ++s) {
      EXPECT_EQ(loaded.count(s), state.count(s));
      EXPECT_EQ(loaded.held(s), state.held(s));
      for (Index k = 0; k <= before + 1; ++k) EXPECT_EQ(loaded.can_rewind(s, k), state.can_rewind(s, k)) << k;
    }
    attention.extend(x.part(30, 30), state, y.part(30, 30), workspace);
    attention.extend(x.part(30, 30), loaded, again.part(30, 30), workspace);
    for (Index b = 0; b < 3; ++b) {
      const auto tail = [&](const Activations<float>& of) {
        return std::vector<float>(of.view().at(b, 30), of.view().at(b, 30) + 30 * kChannels);
      };
      expect_same_bits(tail(again), tail(y), "stream " + std::to_string(b));
    }
  }
  for (const Index other_window : {0, 5}) {
    auto other = attention;
    other.parameters().window = other_window;
    message_of_exactly<std::runtime_error>([&] { load_state(directory / "state", other); });
    EXPECT_THROW(save_state(directory / "other", other, attention.make_state()), std::invalid_argument);
  }
  EXPECT_EQ(directory.entries(), 1);
}

TEST(AttentionStateFile, OfAWindowIsCheckedForWhatItMustHold) {
  Random random(5);
  const TemporaryDirectory directory;
  const CausalAttention<float> attention(
      Attention<float>(4, 2, random, {.window = 5}));  // 4 tokens are seen, 2 are spared
  const auto load = [&](std::int64_t count, std::int64_t held) -> std::string {
    SafetensorsWriter writer;
    writer.set_metadata("format", "hsm-state");
    writer.set_metadata("version", "2");
    writer.set_metadata("fingerprint", fingerprint(attention));
    writer.set_metadata("spare", "2");
    const std::vector<std::int64_t> counts{count};
    const std::vector<float> cache(static_cast<std::size_t>(2 * 2 * held * 2));
    writer.add("counts", {1}, std::span<const std::int64_t>(counts));
    writer.add("cache.0", {2, 2, held, 2}, std::span<const float>(cache));
    writer.write(directory / "state");
    try {
      load_state(directory / "state", attention);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "loaded";
  };
  for (const auto& [count, held] : {std::pair(0, 0), {3, 3}, {4, 4}, {5, 4}, {5, 5}, {100, 4}, {100, 6}})
    EXPECT_EQ(load(count, held), "loaded") << count << " " << held;
  EXPECT_EQ(load(std::int64_t{1} << 62, 6), "loaded");
  EXPECT_TRUE(mentions(load((std::int64_t{1} << 62) + 1, 6), {"at most 4611686018427387904"}));
  EXPECT_TRUE(mentions(load(-1, 0), {"at least 0", "got -1"}));
  EXPECT_TRUE(mentions(load(3, 2), {"'cache.0' must hold the last 3 to 3 of 3 tokens, got 2"}));
  EXPECT_TRUE(mentions(load(3, 4), {"must hold the last 3 to 3 of 3 tokens, got 4"}));
  EXPECT_TRUE(mentions(load(100, 3), {"must hold the last 4 to 6 of 100 tokens, got 3"}));
  EXPECT_TRUE(mentions(load(100, 7), {"must hold the last 4 to 6 of 100 tokens, got 7"}));
}

/// A file like the one of `state`, with one tensor replaced or metadata changed by `spoil`.
std::string message_for(const Mixer<ScalarPair<float>>& mixer, const TemporaryDirectory& directory,
                        std::vector<Index> counts, std::vector<Index> highest,
                        std::vector<std::int64_t> ring_shape, const std::string& spare, bool more = false) {
  SafetensorsWriter writer;
  writer.set_metadata("format", "hsm-state");
  writer.set_metadata("version", "1");
  writer.set_metadata("fingerprint", fingerprint(mixer));
  writer.set_metadata("spare", spare);
  std::size_t size = 1;
  for (const auto n : ring_shape) size *= static_cast<std::size_t>(n);
  const std::vector<float> ring(size);
  writer.add("counts", {static_cast<std::int64_t>(counts.size())}, std::span<const Index>(counts));
  writer.add("highest", {static_cast<std::int64_t>(highest.size())}, std::span<const Index>(highest));
  writer.add("rings.0", ring_shape, std::span<const float>(ring));
  if (more) writer.add("rings.1", ring_shape, std::span<const float>(ring));
  writer.write(directory / "state");
  try {
    load_state(directory / "state", mixer);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "loaded";
}

TEST(StateFileErrors, EverySizeAndCountIsChecked) {
  const TemporaryDirectory directory;
  const Mixer mixer(ScalarPair<float>(4), 3);
  const auto load = [&](auto&&... values) { return message_for(mixer, directory, values...); };
  using List = std::vector<Index>;
  using Sizes = std::vector<std::int64_t>;
  EXPECT_EQ(load(List{5, 0}, List{6, 0}, Sizes{2, 4, 4}, "1"), "loaded");
  EXPECT_TRUE(mentions(load(List{5, 0}, List{7, 0}, Sizes{2, 4, 4}, "1"), {"ones that its rings allow"}));
  EXPECT_TRUE(mentions(load(List{-1, 0}, List{0, 0}, Sizes{2, 4, 4}, "1"), {"ones that its rings allow"}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{4, 0}, Sizes{2, 4, 4}, "1"), {"ones that its rings allow"}));
  constexpr Index kMost = std::numeric_limits<Index>::max();
  EXPECT_TRUE(
      mentions(load(List{kMost, 0}, List{kMost, 0}, Sizes{2, 4, 4}, "1"), {"ones that its rings allow"}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{6}, Sizes{2, 4, 4}, "1"), {"'highest'", "I64 [2]", "I64 [1]"}));
  EXPECT_TRUE(
      mentions(load(List{5, 0}, List{6, 0}, Sizes{2, 3, 4}, "1"), {"'rings.0'", "[2,4,4]", "[2,3,4]"}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{6, 0}, Sizes{2, 4, 4}, "4000000000000000000"), {"'rings.0'"}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{6, 0}, Sizes{2, 4, 4}, "9000000000000000000"),
                       {"0 to 2^" + std::to_string(kIndexBits - 1)}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{6, 0}, Sizes{2, 4, 4}, "-1"), {"'spare'", "got '-1'"}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{6, 0}, Sizes{2, 4, 4}, ""), {"'spare'"}));
  EXPECT_TRUE(mentions(load(List{5, 0}, List{6, 0}, Sizes{2, 4, 4}, "1", true), {"besides", "'rings.1'"}));
}

TEST(Fingerprint, IsTheHashItSaysItIs) {
  Fnv1a64 hash;
  EXPECT_EQ(hash.text(), "fnv1a-64:cbf29ce484222325");
  hash.add(std::as_bytes(std::span("foobar", 6)));  // a test vector of the hash's authors
  EXPECT_EQ(hash.text(), "fnv1a-64:85944171f73967e8");
}

}  // namespace
}  // namespace hsm::test::state_file_test
