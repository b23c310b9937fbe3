// SPDX-License-Identifier: MIT
//
// Tries a mixing policy (mixing/mixing_policy.hpp) and tells what is wrong with it; see testing/check.hpp.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/mixing/mixer.hpp>
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

/// "at shift 3", or "with heads at shifts 1, 3".
inline std::string shifts_text(const std::vector<Index>& shifts) {
  if (std::count(shifts.begin(), shifts.end(), shifts.front()) == static_cast<std::ptrdiff_t>(shifts.size()))
    return " at shift " + std::to_string(shifts.front());
  std::string text = " with heads at shifts ";
  for (const Index s : shifts) text += std::to_string(s) + ", ";
  return text.substr(0, text.size() - 2);
}

/// The policy with these shifts of its heads.
template <class Policy>
CheckResult check_policy_at(const Policy& policy, const std::vector<Index>& shifts,
                            const CheckOptions& options) {
  const Index reach = (taps_of(policy) - 1) * *std::max_element(shifts.begin(), shifts.end());
  return check_mixer<ShiftLayer<Policy>>(
      std::string(Policy::kName) + shifts_text(shifts), options,
      tokens_of("check_policy", options, 2 * reach + 5),
      [&] { return TokenMixer<ShiftLayer<Policy>>(ShiftLayer<Policy>(policy, shifts)); },
      [&](const auto& tried, const LayerTrial& trial) {
        const Mixer<Policy> mixer(tried.parameters(), shifts);
        std::string wrong;
        if constexpr (Policy::kStages.in_place && Policy::kStages.projected() == 0 && !Policy::kStages.output)
          wrong = check_in_place(mixer, trial);
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
    const CheckResult result = detail::check_policy_at(policy, std::vector<Index>(heads, s), options);
    if (!result) return result;
  }
  if (heads == 1) return {};
  std::vector<Index> different;
  for (std::size_t h = 0; h < heads; ++h)
    different.push_back(shifts[h % shifts.size()] + (shifts.size() == 1 ? static_cast<Index>(h % 2) : 0));
  return detail::check_policy_at(policy, different, options);
}

}  // namespace hsm::inline HSM_ABI
