// SPDX-License-Identifier: MIT
//
// Several streams at once: each reads its prompt with `extend`, then goes on token by token with `step`. A
// shift mixer remembers s columns per stream, however long the stream is; attention keeps keys and values of
// every token. The program prints what both hold as a stack of 8 layers grows older.
#include <hsm/attention/causal_attention.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/hsm.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

constexpr hsm::Index kStreams = 4, kChannels = 64, kLayers = 8, kPrompt = 300, kSteps = 724;

/// A stack of one kind of mixer with the states of its layers.
template <class Mixer>
class Stack {
 public:
  template <class Make>
  explicit Stack(const Make& make) {
    for (hsm::Index l = 0; l < kLayers; ++l) {
      mixers_.push_back(make(l));
      states_.push_back(mixers_.back().make_state({.streams = kStreams}));
    }
  }

  /// The next n tokens of every stream: x [streams, n, C] becomes the output of the last layer.
  void advance(std::vector<float>& x, hsm::Index n, hsm::Workspace& workspace) {
    buffer_.resize(x.size());
    for (std::size_t l = 0; l < mixers_.size(); ++l) {
      const hsm::Tokens<const float> in(x.data(), kStreams, n, kChannels);
      const hsm::Tokens<float> out(buffer_.data(), kStreams, n, kChannels);
      if (n == 1) {
        mixers_[l].step(in, states_[l], out, workspace);
      } else {
        mixers_[l].extend(in, states_[l], out, workspace);
      }
      x.swap(buffer_);
    }
  }

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& state : states_) sum += state.bytes();
    return sum;
  }

 private:
  std::vector<Mixer> mixers_;
  std::vector<typename Mixer::State> states_;
  std::vector<float> buffer_;
};

std::vector<float> random_tokens(hsm::Index n, hsm::Random& random) {
  std::vector<float> values(static_cast<std::size_t>(kStreams * n * kChannels));
  for (float& value : values) value = static_cast<float>(random.normal(0.1));
  return values;
}

}  // namespace

int main() {
  constexpr hsm::DyadicSchedule schedule{.layers = kLayers};
  hsm::Random random(1);
  Stack<hsm::Mixer<hsm::Gated<float>>> shifts(
      [&](hsm::Index l) { return hsm::Mixer(hsm::Gated<float>(kChannels, random), schedule.shift(l)); });
  Stack<hsm::CausalAttention<float>> attention(
      [&](hsm::Index) { return hsm::CausalAttention<float>(hsm::Attention<float>(kChannels, 2, random)); });

  hsm::ThreadedExecutor executor(2);
  hsm::Workspace workspace(executor);
  bool finite = true;
  std::printf("%td streams, %td layers of %td channels\n\n", kStreams, kLayers, kChannels);
  std::printf("  tokens per stream   gated, shifts 1 ... 128   attention, keys and values\n");
  const auto report = [&](hsm::Index tokens) {
    std::printf("  %17td   %14.0f KiB   %22.0f KiB\n", tokens, static_cast<double>(shifts.bytes()) / 1024,
                static_cast<double>(attention.bytes()) / 1024);
  };
  for (hsm::Index token = 0; token < kPrompt + kSteps;) {
    const hsm::Index n = token == 0 ? kPrompt : 1;  // the prompt in one call, then one token per call
    std::vector<float> x = random_tokens(n, random), same = x;
    shifts.advance(x, n, workspace);
    attention.advance(same, n, workspace);
    for (const float value : x) finite = finite && std::isfinite(value);
    for (const float value : same) finite = finite && std::isfinite(value);
    token += n;
    if (token == kPrompt || token == 512 || token == 1024) report(token);
  }
  return finite ? 0 : 1;
}
