// SPDX-License-Identifier: MIT
//
// What one forward pass costs as the text grows: some mixers of the library and dense attention, at the same
// number of channels and threads. Runs of the contenders alternate, so that a change of the machine's clock or
// load meets all of them, and each value is a median.
#pragma once

#include <algorithm>
#include <chrono>
#include <span>
#include <string>
#include <vector>

#include <hsm/model/any_mixer.hpp>

namespace hsm::examples {

/// What is timed.
struct TimingConfig {
  Index channels = 256;
  Index shift = 64;
  int runs = 7;                     ///< per value
  double least_seconds = 0.002;     ///< a run repeats short passes until it takes as long
  std::vector<std::string> layers;  ///< recipes of one layer
};

/// Seconds of one forward over `time` tokens, one for each of config.layers.
inline std::vector<double> forward_seconds(const TimingConfig& config, Index time, Workspace& workspace) {
  using Clock = std::chrono::steady_clock;
  Random random(1);
  std::vector<float> x(static_cast<std::size_t>(time * config.channels)), y(x.size());
  for (float& value : x) value = static_cast<float>(random.normal());
  const Tokens<const float> in(x.data(), 1, time, config.channels);
  const Tokens<float> out(y.data(), 1, time, config.channels);

  std::vector<AnyMixer<float>> mixers;
  for (const std::string& text : config.layers) {
    mixers.push_back(make_mixer<float>(StandardLayers{}, Recipe::parse(text).layers.front(), config.channels,
                                       config.shift, random));
  }
  const auto run = [&](const AnyMixer<float>& mixer, int passes) {
    const auto start = Clock::now();
    for (int pass = 0; pass < passes; ++pass) {
      std::visit([&](const auto& held) { held.forward(in, out, workspace); }, mixer);
    }
    return std::chrono::duration<double>(Clock::now() - start).count() / passes;
  };

  std::vector<int> passes;
  for (const AnyMixer<float>& mixer : mixers) {
    run(mixer, 1);  // warms up
    passes.push_back(1 + static_cast<int>(config.least_seconds / std::max(1e-7, run(mixer, 1))));
  }
  std::vector<std::vector<double>> values(mixers.size());
  for (int r = 0; r < config.runs; ++r) {
    for (std::size_t i = 0; i < mixers.size(); ++i) values[i].push_back(run(mixers[i], passes[i]));
  }
  std::vector<double> medians;
  for (std::vector<double>& each : values) {
    std::sort(each.begin(), each.end());
    medians.push_back(each[each.size() / 2]);
  }
  return medians;
}

}  // namespace hsm::examples
