// SPDX-License-Identifier: MIT
//
// The layers of hsm for Python, a library of one class: torch.classes.load_library("libhsm_layers.so") makes
//
//   layer = torch.classes.hsm.Layer("attention:heads=4", 256, [1], seed, threads)    a recipe of one layer, C, shifts
//   layer.parameters()                   its tensors by name, in the memory that it computes with; leaves that want gradients
//   y = layer.forward(x)                 x, y [B,T,C] of float, with autograd
//   y, values, counts = layer.extend(x, values, counts)     the next tokens of streams; values [0], counts [0] * streams first
//
// hsm_layers.py makes a torch.nn.Module of it.
#include <hsm/core/threaded_executor.hpp>
#include <hsm/model/any_mixer.hpp>
#include <hsm/torch/torch_mixer.hpp>

#include <torch/custom_class.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace {

using torch::Tensor;

/// The threads of all layers that want so many; none for one, which is the caller's.
std::shared_ptr<hsm::Executor> threads_of(std::int64_t count) {
  static std::mutex mutex;
  static std::map<std::int64_t, std::weak_ptr<hsm::Executor>> known;
  if (count == 1) return nullptr;
  const std::lock_guard lock(mutex);
  std::shared_ptr<hsm::Executor> executor = known[count].lock();
  if (!executor) known[count] = executor = std::make_shared<hsm::ThreadedExecutor>(static_cast<int>(count));
  return executor;
}

struct Layer : torch::CustomClassHolder {
  Layer(const std::string& recipe, std::int64_t channels, const std::vector<std::int64_t>& shifts,
        std::int64_t seed, std::int64_t threads) {
    const hsm::Recipe read = hsm::Recipe::parse(recipe);
    if (read.layers.size() != 1)
      throw std::invalid_argument("Layer: the recipe must be of one layer, got " +
                                  std::to_string(read.layers.size()));
    hsm::Random random(static_cast<std::uint64_t>(seed));
    const std::vector<hsm::Index> distances(shifts.begin(), shifts.end());
    module = hsm::torch_mixer(
        hsm::make_mixer<float>(hsm::StandardLayers{}, read.layers[0], channels, distances, random),
        threads_of(threads));
  }

  c10::Dict<std::string, Tensor> parameters() const {
    c10::Dict<std::string, Tensor> found;
    for (const auto& item : module->named_parameters()) found.insert(item.key(), item.value());
    return found;
  }

  Tensor forward(const Tensor& x) const { return module->forward(x); }

  std::tuple<Tensor, Tensor, std::vector<std::int64_t>> extend(
      const Tensor& x, const Tensor& values, const std::vector<std::int64_t>& counts) const {
    auto [y, next] = module->extend(x, {values, {counts.begin(), counts.end()}});
    return {y, next.values, {next.counts.begin(), next.counts.end()}};
  }

  std::shared_ptr<hsm::TorchModule> module;
};

}  // namespace

TORCH_LIBRARY(hsm, library) {
  library.class_<Layer>("Layer")
      .def(torch::init<const std::string&, std::int64_t, const std::vector<std::int64_t>&, std::int64_t,
                       std::int64_t>())
      .def("parameters", [](const c10::intrusive_ptr<Layer>& layer) { return layer->parameters(); })
      .def("forward",
           [](const c10::intrusive_ptr<Layer>& layer, const Tensor& x) { return layer->forward(x); })
      .def("extend",
           [](const c10::intrusive_ptr<Layer>& layer, const Tensor& x, const Tensor& values,
              const std::vector<std::int64_t>& counts) { return layer->extend(x, values, counts); });
}
