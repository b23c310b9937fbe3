// SPDX-License-Identifier: MIT
//
// Tries a mixing policy (shift/mixing_policy.hpp) and tells what is wrong with it; see testing/check.hpp.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/shift/mixer.hpp>
#include <hsm/testing/check_layer.hpp>

namespace hsm::inline HSM_ABI {
namespace detail {

/// forward_in_place against forward, for policies that say in_place.
template <class Policy>
std::string check_in_place(const Mixer<Policy>& mixer, const LayerTrial& trial) {
  using Scalar = typename Policy::Scalar;
  std::vector<Scalar> values(trial.x.values.size());
  std::transform(trial.x.values.begin(), trial.x.values.end(), values.begin(),
                 [](double value) { return static_cast<Scalar>(value); });
  Workspace workspace;
  mixer.forward_in_place(Tokens<Scalar>(values.data(), trial.x.batch, trial.x.time, trial.x.channels),
                         workspace);
  TokenValues got = trial.x;
  std::copy(values.begin(), values.end(), got.values.begin());
  return compare("forward_in_place", got, trial.y, trial.mode_bound(),
                 "kStages says in_place, but combine reads a column after it has written it");
}

/// a .* x[t] + b .* x[t-s] against forward, for policies that say what a and b are.
template <class Policy>
std::string check_channel_weights(const Mixer<Policy>& mixer, const std::vector<Index>& shifts,
                                  const LayerTrial& trial) {
  const Index C = mixer.channels(), rows = C / mixer.heads();
  Vector<typename Policy::Scalar> a(C), b(C);
  mixer.parameters().channel_weights(a.data(), b.data());
  TokenValues got = trial.x;
  for (Index sequence = 0; sequence < got.batch; ++sequence) {
    for (Index t = got.time; t-- > 0;) {
      for (Index c = 0; c < C; ++c) {
        const Index s = shifts[static_cast<std::size_t>(c / rows)];
        double& value = got.at(sequence, t)[c];
        value *= static_cast<double>(a[c]);
        if (t >= s) value += static_cast<double>(b[c]) * trial.x.at(sequence, t - s)[c];
      }
    }
  }
  return compare("a .* x[t] + b .* x[t-s] with the channel_weights", got, trial.y, trial.mode_bound(),
                 "stacks of such layers would give another result than the layers themselves");
}

/// Heads at different shifts against all heads at one: the sum of forwards over rotations of the shifts over the heads is
/// that of forwards with all heads at each of them, since heads are mixed apart and what follows is linear.
template <class Policy>
std::string check_heads(const Policy& policy, const std::vector<Index>& rotated, const LayerTrial& trial) {
  const auto heads = static_cast<std::size_t>(policy.heads());
  TokenValues different = trial.x, alike = trial.x;
  std::fill(different.values.begin(), different.values.end(), 0.0);
  alike.values = different.values;
  const auto add = [&](const std::vector<Index>& shifts, TokenValues& to) {
    TestedMixer<ShiftLayer<Policy>> mixer{TokenMixer(ShiftLayer<Policy>(policy, shifts))};
    const TokenValues y = mixer.forward(trial.x);
    for (std::size_t i = 0; i < y.values.size(); ++i) to.values[i] += y.values[i];
  };
  for (std::size_t r = 0; r < rotated.size(); ++r) {
    std::vector<Index> shifts;
    for (std::size_t h = 0; h < heads; ++h) shifts.push_back(rotated[(h + r) % rotated.size()]);
    add(shifts, different);
    add(std::vector<Index>(heads, rotated[r]), alike);
  }
  return compare("the sum over all rotations of these shifts", different, alike, 4 * trial.mode_bound(),
                 "a head must read its own rows and parameters, from run.first_head on",
                 "the sum with all heads at each of them");
}

/// "at shift 3", or "with heads at shifts 1, 3".
inline std::string shifts_text(const std::vector<Index>& shifts) {
  if (std::count(shifts.begin(), shifts.end(), shifts.front()) == static_cast<std::ptrdiff_t>(shifts.size()))
    return " at shift " + std::to_string(shifts.front());
  std::string text = " with heads at shifts ";
  for (const Index s : shifts) text += std::to_string(s) + ", ";
  return text.substr(0, text.size() - 2);
}

/// The policy with these shifts of its heads, which are the first rotation of `rotated` where they differ.
template <class Policy>
CheckResult check_policy_at(const Policy& policy, const std::vector<Index>& shifts,
                            const std::vector<Index>& rotated, const CheckOptions& options) {
  const Index reach = (taps_of(policy) - 1) * *std::max_element(shifts.begin(), shifts.end());
  return check_mixer<ShiftLayer<Policy>>(
      std::string(Policy::kName) + shifts_text(shifts), options,
      tokens_of("check_policy", options, 2 * reach + 5),
      [&] { return TokenMixer<ShiftLayer<Policy>>(ShiftLayer<Policy>(policy, shifts)); },
      [&](const auto& tried, const LayerTrial& trial) {
        const Mixer<Policy> mixer(tried.parameters(), shifts);
        std::string wrong;
        if (!rotated.empty()) wrong = check_heads(mixer.parameters(), rotated, trial);
        if constexpr (Policy::kStages.in_place && Policy::kStages.projected() == 0 &&
                      !Policy::kStages.output) {
          if (wrong.empty()) wrong = check_in_place(mixer, trial);
        }
        if constexpr (HasChannelWeights<Policy>) {
          if (wrong.empty()) wrong = check_channel_weights(mixer, shifts, trial);
        }
        return wrong;
      });
}

}  // namespace detail

/// Tries `policy` as testing/check.hpp says: with all of its heads at each of `shifts`, and, where it has several, with
/// neighbouring heads at different ones. The policy is copied. Throws std::invalid_argument for no shifts and for
/// options out of range. Time: for each of these, about 150 forwards of three sequences for each tensor.
template <class Policy>
CheckResult check_policy(const Policy& policy, const std::vector<Index>& shifts = {1, 3},
                         const CheckOptions& options = {}) {
  static_assert(detail::explain_policy<Policy>());
  if (shifts.empty()) detail::fail("check_policy", "the shifts", "at least one", "none");
  const auto heads = static_cast<std::size_t>((std::max)(Index{1}, static_cast<Index>(policy.heads())));
  for (const Index s : shifts) {
    const CheckResult result = detail::check_policy_at(policy, std::vector<Index>(heads, s), {}, options);
    if (!result) return result;
  }
  if (heads == 1) return {};
  std::vector<Index> rotated = shifts, different;
  if (rotated.size() == 1) rotated.push_back(shifts[0] + 1);
  for (std::size_t h = 0; h < heads; ++h) different.push_back(rotated[h % rotated.size()]);
  return detail::check_policy_at(policy, different, rotated, options);
}

}  // namespace hsm::inline HSM_ABI
