// SPDX-License-Identifier: MIT
//
// Any layer that mixes tokens (layer/mixing_layer.hpp) as a torch::nn::Module of LibTorch 1.13 or later, for tensors on the
// processor:
//
//   auto mixer = hsm::torch_mixer(hsm::Mixer(hsm::ScalarPair<float>(512), 8));
//   torch::nn::Sequential net(torch::nn::Linear(64, 512), mixer, torch::nn::Linear(512, 10));
//   torch::Tensor y = net->forward(x);                                             // [B,T,64] to [B,T,10], with autograd
//
//   hsm::TorchState state = mixer->make_state(4);                                  // chunk by chunk: 4 streams
//   auto [y, next] = mixer->extend(x, state);                                      // [4,T,C]; next.values has a gradient
//
// The module owns the mixer, and its parameters are tensors in the mixer's own memory, under the names of its visit: an
// optimizer that writes to them in place changes the mixer. Of a parameter whose memory somebody replaced (torch::load,
// set_data, to() and back) the next call copies the values into the mixer's, which it then shares again; one of another type,
// size or device is refused then, in a sentence. Weights that were changed between forward and backward are refused by Torch.
//
// Tensors are float or double as the mixer is. x may be any view whose channels lie beside each other, others are copied once;
// y and gradients are new tensors. Without gradients (NoGradGuard, InferenceMode, nothing that requires any) nothing is
// recorded. Second derivatives are refused. A call computes on the thread that makes it, or on the executor that the
// module was made with; any number of threads may call a module. Errors are std::invalid_argument and what Torch throws.
//
// No program can load Debian's LibTorch and its SentencePiece, which each bring a protobuf of their own: a program that links
// hsm::torch leaves hsm::sentencepiece out, or takes one of the two from elsewhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <hsm/torch/mix_function.hpp>

#include <torch/nn/module.h>

namespace hsm::inline HSM_ABI {

/// What streams have seen: a value, which calls read and never change. A fork is a copy.
struct TorchState {
  torch::Tensor values;       ///< [n]: stream after stream, as torch/state_values.hpp says; differentiable
  std::vector<Index> counts;  ///< [streams]: how many tokens each has seen

  /// How many streams there are.
  Index streams() const { return static_cast<Index>(counts.size()); }
  /// The same values, from which no gradient goes back: where backpropagation through time ends.
  TorchState detach() const { return {values.detach(), counts}; }
};

/// A mixer of any kind as a module.
class TorchModule : public torch::nn::Module {
 public:
  /// y = mix(x), whole sequences from their start: x, y [B,T,C].
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
  /// The next tokens of every stream, and the state behind them: x, y [streams,T,C]. O(values of the state) besides.
  virtual std::pair<torch::Tensor, TorchState> extend(const torch::Tensor& x, const TorchState& state) = 0;
  /// Streams that have seen nothing.
  virtual TorchState make_state(Index streams = 1) const = 0;
  /// C.
  virtual Index channels() const = 0;
};

/// One mixer as a module; see the file comment.
template <class AMixer>
class TorchMixer final : public TorchModule {
 public:
  /// float or double.
  using Scalar = typename AMixer::Scalar;

  /// A mixer, and who runs its work: the calling thread where there is no executor.
  explicit TorchMixer(AMixer mixer, std::shared_ptr<Executor> executor = nullptr)
      : core_(new detail::TorchCore<AMixer>{std::move(mixer), detail::WorkspacePool(std::move(executor))}) {
    std::map<std::string, std::shared_ptr<torch::nn::Module>> owners;
    AMixer::visit(
        [&](std::string_view name, auto& tensor) {
          own_.push_back(detail::share_memory(tensor, core_));
          names_.emplace_back(name);
          torch::nn::Module* owner = this;
          std::size_t begin = 0;
          for (std::size_t dot; (dot = name.find('.', begin)) != name.npos; begin = dot + 1) {
            std::shared_ptr<torch::nn::Module>& child = owners[std::string(name.substr(0, dot))];
            if (!child)
              child = owner->register_module(std::string(name.substr(begin, dot - begin)),
                                             std::make_shared<torch::nn::Module>());
            owner = child.get();
          }
          shared_.push_back(owner->register_parameter(std::string(name.substr(begin)), own_.back().detach()));
        },
        core_->mixer);
  }

  torch::Tensor forward(const torch::Tensor& x) override {
    constexpr const char* kWho = "TorchMixer::forward";
    detail::check_torch_tokens(kWho, x, kType, channels());
    take_over(kWho);
    return mix({}, x, torch::empty({0}, kType))[0];
  }

  std::pair<torch::Tensor, TorchState> extend(const torch::Tensor& x, const TorchState& state) override {
    constexpr const char* kWho = "TorchMixer::extend";
    check_has_values(kWho);
    detail::check_torch_tokens(kWho, x, kType, channels());
    detail::check_kind(kWho, "the values of the state", state.values, kType);
    detail::check_equal(kWho, "the batch of x (streams)", static_cast<Index>(x.size(0)), state.streams());
    double tokens = 0;
    for (const Index count : state.counts) {
      detail::check_at_least(kWho, "a count of the state", count, 0);
      if (count > RingState<Scalar>::kMostTokens - static_cast<Index>(x.size(1)))
        detail::fail(kWho, "a count of the state",
                     "at most " + std::to_string(RingState<Scalar>::kMostTokens) + " with the tokens of x",
                     std::to_string(count));
      tokens += static_cast<double>(count);
    }
    // What grows with the tokens is compared before memory for them is taken.
    const auto footprint = core_->mixer.layer().footprint();
    const double least = footprint.unbounded ? tokens * static_cast<double>(footprint.kept * channels()) : 0;
    if (static_cast<double>(state.values.numel()) < least)
      detail::fail(kWho, "the values of the state", "those of as many tokens as its counts say",
                   detail::to_text(state.values.sizes()));
    take_over(kWho);
    detail::MixCall call{.continues = true, .before = state.counts, .after = state.counts};
    for (Index& count : call.after) count += static_cast<Index>(x.size(1));
    auto results = mix(call, x, state.values);
    return {results[0], {results[1], call.after}};
  }

  TorchState make_state(Index streams = 1) const override {
    constexpr const char* kWho = "TorchMixer::make_state";
    check_has_values(kWho);
    detail::check_at_least(kWho, "streams", streams, 0);
    return {torch::empty({0}, kType), std::vector<Index>(static_cast<std::size_t>(streams), 0)};
  }

  Index channels() const override { return core_->mixer.channels(); }

  /// The mixer, to read, and to run in its own modes.
  const AMixer& mixer() {
    take_over("TorchMixer::mixer");
    return core_->mixer;
  }

  /// A module of a mixer of its own, of the same values. Throws for a device other than the processor.
  std::shared_ptr<torch::nn::Module> clone(
      const c10::optional<torch::Device>& device = c10::nullopt) const override {
    constexpr const char* kWho = "TorchMixer::clone";
    if (device && *device != at::kCPU) detail::fail(kWho, "the device", "cpu", device->str());
    take_over(kWho);
    auto copy = std::make_shared<TorchMixer>(core_->mixer, core_->workspaces.executor());
    for (std::size_t i = 0; i < shared_.size(); ++i)
      copy->shared_[i].set_requires_grad(shared_[i].requires_grad());
    copy->train(is_training());
    return copy;
  }

  /// "hsm::TorchMixer(mixer ab taps 2 shifts 8)".
  void pretty_print(std::ostream& stream) const override {
    stream << "hsm::TorchMixer(" << core_->mixer.layer().description() << ")";
  }

 private:
  static constexpr at::ScalarType kType = detail::kTorchType<Scalar>;

  /// Whether parameter i still has the mixer's memory.
  bool is_own(std::size_t i) const {
    const torch::Tensor &own = own_[i], &now = shared_[i];
    return now.data_ptr() == own.data_ptr() && now.sizes() == own.sizes() && now.strides() == own.strides();
  }

  /// Copies parameters whose memory was replaced into the mixer's. Throws, with nothing changed, for other sizes, and where
  /// that memory is still another tensor's, as what was kept by data(): it would be overwritten.
  void take_over(const char* who) const {
    const std::lock_guard<std::mutex> lock(core_->taking);
    for (std::size_t i = 0; i < shared_.size(); ++i) {
      const torch::Tensor &own = own_[i], &now = shared_[i];
      detail::check_kind(who, "parameter " + names_[i], now, kType);
      if (is_own(i)) continue;
      if (now.sizes() != own.sizes())
        detail::fail(who, "parameter " + names_[i], detail::to_text(own.sizes()),
                     detail::to_text(now.sizes()));
      if (own.storage().use_count() > 1)
        detail::fail(who, "parameter " + names_[i],
                     "the only tensor that sees its memory, where that is replaced by another",
                     "one that shares it, such as its data() of before; keep a clone()");
    }
    for (std::size_t i = 0; i < shared_.size(); ++i) {
      const torch::Tensor &own = own_[i], &now = shared_[i];
      if (is_own(i)) continue;
      const torch::NoGradGuard without;
      own.copy_(now);
      now.set_data(own);
      // What was computed with the weights before has no gradient any more.
      torch::autograd::impl::bump_version(now);
    }
  }

  static void check_has_values(const char* who) {
    if constexpr (!HasStateValues<typename AMixer::State, Scalar>)
      detail::fail(who, "the state of the layer", "one that torch/state_values.hpp can put into a tensor",
                   "another");
  }

  torch::autograd::variable_list mix(detail::MixCall call, const torch::Tensor& x,
                                     const torch::Tensor& values) const {
    const auto requires_grad = [](const torch::Tensor& tensor) { return tensor.requires_grad(); };
    call.records = at::GradMode::is_enabled() && (x.requires_grad() || values.requires_grad() ||
                                                  std::any_of(shared_.begin(), shared_.end(), requires_grad));
    return detail::MixFunction<AMixer>::apply(core_, call, x, values, at::TensorList(shared_));
  }

  std::shared_ptr<detail::TorchCore<AMixer>> core_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> own_;     // the mixer's memory
  std::vector<torch::Tensor> shared_;  // the parameters, which share it
};

/// The mixer as a module.
template <class AMixer>
std::shared_ptr<TorchMixer<AMixer>> torch_mixer(AMixer mixer, std::shared_ptr<Executor> executor = nullptr) {
  return std::make_shared<TorchMixer<AMixer>>(std::move(mixer), std::move(executor));
}

/// One of several kinds of mixers, as make_mixer of model/any_mixer.hpp makes it from a recipe.
template <class... Mixers>
std::shared_ptr<TorchModule> torch_mixer(std::variant<Mixers...> mixer,
                                         std::shared_ptr<Executor> executor = nullptr) {
  return std::visit(
      [&](auto& own) -> std::shared_ptr<TorchModule> {
        return torch_mixer(std::move(own), std::move(executor));
      },
      mixer);
}

}  // namespace hsm::inline HSM_ABI
