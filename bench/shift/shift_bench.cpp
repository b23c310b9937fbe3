// SPDX-License-Identifier: MIT
//
// Every mixing policy over T, and the two kinds against what bounds them: those without products at the sizes
// of the caches and beyond against copy, the others against their own products alone.
#include "bench/support/layer_cases.hpp"

namespace hsm::bench {
namespace {

constexpr Index kLongest = 65536;

template <template <class> class Policy>
inline constexpr bool kHasProducts = Policy<float>::kStages.projected() > 0 || Policy<float>::kStages.output;

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
  add_layer_case<MixerLayer<Policy>>(T, Mode::kForward, threads, product_target(1 / 1.25), size,
                                     Beside::kProducts);
  add_layer_case<MixerLayer<Policy>>(T, Mode::kBackward, threads, product_target(1 / 1.3), size,
                                     Beside::kProducts);
}

/// The forward on several threads beside the same forward on one.
template <template <class> class Policy>
void add_scaling(const Selection& selection, Target target) {
  const Index T = selection.quick ? 256 : 4096;
  using L = MixerLayer<Policy>;
  const std::string name = "mixer/" + L::name() + "/scaling/T=" + std::to_string(T) +
                           "/threads=" + std::to_string(selection.threads);
  add_case(name, target, [=, threads = selection.threads] {
    auto subject = std::make_shared<LayerSubject<L>>(T, threads);
    auto alone = std::make_shared<LayerSubject<L>>(T, 1);
    auto c = std::make_unique<Case>();
    c->work = [subject] { subject->forward(); };
    c->yardstick = [alone] { alone->forward(); };
    c->yardstick_name = "one thread's speed";
    c->verify = [subject] {
      subject->forward();
      return subject->check();
    };
    c->tokens = static_cast<double>(T);
    return c;
  });
}

}  // namespace

void add_shift(const Selection& selection) {
  for (const int threads : selection.thread_counts()) {
    for_each_policy([&]<template <class> class Policy>() {
      if constexpr (kHasProducts<Policy>) {
        add_product_bound<Policy>(selection, threads);
      } else {
        add_memory_bound<Policy>(selection, threads);
      }
    });
  }
  if (selection.threads > 1) {
    const Target scaling{selection.threads == 2 && !selection.quick ? 1.8 : 0};
    for_each_policy([&]<template <class> class Policy>() {
      add_scaling<Policy>(selection, kHasProducts<Policy> ? scaling : Target{});
    });
  }
  for_each_policy([&]<template <class> class Policy>() {
    add_layer_cases<MixerLayer<Policy>>(selection, kLongest, 0, 0);
  });
}

}  // namespace hsm::bench
