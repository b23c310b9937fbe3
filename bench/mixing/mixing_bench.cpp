// SPDX-License-Identifier: MIT
//
// Every mixing policy over T, and the two kinds against what bounds them: those without products at the sizes
// of the caches and beyond against copy, the others against their own products alone.
#include "bench/support/layer_cases.hpp"

namespace hsm::bench {
namespace {

constexpr Index kLongest = 65536;

template <template <class> class Policy>
void add_memory_bound(const Selection& selection, int threads) {
  for (const Index megabytes : {2, 4, 8, 128, 256}) {
    if (selection.quick && megabytes > 2) continue;
    const Index T = megabytes * (1 << 20) / (kChannels * static_cast<Index>(sizeof(float)));
    const std::string size = "MB=" + std::to_string(megabytes);
    add_layer_case<MixerLayer<Policy>>(T, Mode::kForward, threads, {threads == 1 ? 0.95 : 0.85}, size);
    if (megabytes <= 8)
      add_layer_case<MixerLayer<Policy>>(T, Mode::kInPlace, threads, {threads == 1 ? 1.4 : 0.0}, size);
    if (megabytes <= 128)
      add_layer_case<MixerLayer<Policy>>(T, Mode::kBackward, threads, {threads == 1 ? 0.8 : 0.0}, size);
  }
}

template <template <class> class Policy>
void add_product_bound(const Selection& selection, int threads) {
  const Index T = selection.quick ? 256 : 4096;
  const std::string size = "T=" + std::to_string(T);
  add_layer_case<MixerLayer<Policy>>(T, Mode::kForward, threads, product_target(1 / 1.25), size, true);
  add_layer_case<MixerLayer<Policy>>(T, Mode::kBackward, threads, product_target(1 / 1.3), size, true);
}

}  // namespace

void add_mixing(const Selection& selection) {
  std::vector<int> counts{1};
  if (selection.threads > 1) counts.push_back(selection.threads);
  for (const int threads : counts) {
    add_memory_bound<ScalarPair>(selection, threads);
    add_memory_bound<ChannelPair>(selection, threads);
    add_product_bound<MatrixPair>(selection, threads);
    add_product_bound<Gated>(selection, threads);
    add_product_bound<GatedPair>(selection, threads);
    add_product_bound<SoftmaxLocal>(selection, threads);
    add_product_bound<Fusion>(selection, threads);
  }
  add_layer_cases<MixerLayer<ScalarPair>>(selection, kLongest, 0, 0);
  add_layer_cases<MixerLayer<ChannelPair>>(selection, kLongest, 0, 0);
  add_layer_cases<MixerLayer<MatrixPair>>(selection, kLongest, 0, 0);
  add_layer_cases<MixerLayer<Gated>>(selection, kLongest, 0, 0);
  add_layer_cases<MixerLayer<GatedPair>>(selection, kLongest, 0, 0);
  add_layer_cases<MixerLayer<SoftmaxLocal>>(selection, kLongest, 0, 0);
  add_layer_cases<MixerLayer<Fusion>>(selection, kLongest, 0, 0);
}

}  // namespace hsm::bench
