// SPDX-License-Identifier: MIT
//
// What torch_mixer (torch/torch_mixer.hpp) puts into Torch's graph: a call of a mixer as an autograd function, whose backward is
// the mixer's. Where nothing will ask for gradients nothing is recorded. The record belongs to the graph, as Torch's own saved
// tensors do: it is gone after a backward that does not retain the graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// First, for what hsm/core/eigen.hpp says of warnings.
#include <hsm/core/check.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/raise.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/torch/state_values.hpp>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

namespace hsm::inline HSM_ABI::detail {

/// Workspaces that calls take turns with: as many as there ever were calls at a time.
class WorkspacePool {
 public:
  explicit WorkspacePool(std::shared_ptr<Executor> executor) : executor_(std::move(executor)) {}

  /// Calls f(workspace) with one that nobody else has.
  template <class F>
  void use(F&& f) {
    struct Lease {
      WorkspacePool& pool;
      std::unique_ptr<Workspace> own = pool.take();
      ~Lease() { pool.give(std::move(own)); }
    };
    Lease lease{*this};
    f(*lease.own);
  }

  const std::shared_ptr<Executor>& executor() const { return executor_; }

 private:
  std::unique_ptr<Workspace> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty())
      return executor_ ? std::make_unique<Workspace>(*executor_) : std::make_unique<Workspace>();
    std::unique_ptr<Workspace> last = std::move(free_.back());
    free_.pop_back();
    return last;
  }
  void give(std::unique_ptr<Workspace> own) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(own));
  }

  std::shared_ptr<Executor> executor_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

/// A mixer, and what calls of it need: owned by its module, by every tensor that shares its memory and by every record.
template <class AMixer>
struct TorchCore {
  AMixer mixer;
  WorkspacePool workspaces;
  std::mutex taking{};  // of parameters whose memory was replaced
};

template <class Scalar>
inline constexpr at::ScalarType kTorchType = std::is_same_v<Scalar, float> ? at::kFloat : at::kDouble;

[[nodiscard]] inline std::string to_text(at::IntArrayRef sizes) {
  std::string text = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) text += (i > 0 ? "," : "") + std::to_string(sizes[i]);
  return text + "]";
}

/// Throws unless the tensor is a dense one of this type on the processor.
inline void check_kind(const char* who, const std::string& what, const at::Tensor& tensor,
                       at::ScalarType type) {
  if (!tensor.defined()) fail(who, what, "a tensor", "an undefined one");
  if (tensor.device() != at::kCPU) fail(who, "the device of " + what, "cpu", tensor.device().str());
  if (tensor.layout() != at::kStrided) {
    fail(who, "the layout of " + what, "Strided", tensor.layout() == at::kSparse ? "Sparse" : "another");
  }
  if (tensor.scalar_type() != type)
    fail(who, "the type of " + what, c10::toString(type), c10::toString(tensor.scalar_type()));
}

/// Throws unless x is [B,T,C].
inline void check_torch_tokens(const char* who, const at::Tensor& x, at::ScalarType type, Index channels) {
  check_kind(who, "x", x, type);
  if (x.dim() != 3 || x.size(2) != channels)
    fail(who, "x", "[B,T," + std::to_string(channels) + "]", to_text(x.sizes()));
}

/// The tensor itself where its tokens can be viewed as they lie, else a copy: only channels must lie beside each other.
inline at::Tensor viewable(const at::Tensor& x) {
  const bool beside = x.size(2) <= 1 || x.stride(2) == 1;
  return beside && !x.is_neg() ? x : x.contiguous().resolve_neg();
}

template <class Scalar>
Tokens<const Scalar> tokens_of(const at::Tensor& x) {
  return {x.template data_ptr<Scalar>(), static_cast<Index>(x.size(0)),   static_cast<Index>(x.size(1)),
          static_cast<Index>(x.size(2)), static_cast<Index>(x.stride(1)), static_cast<Index>(x.stride(0))};
}
/// The same of a tensor without gaps, to write to.
template <class Scalar>
Tokens<Scalar> result_tokens(const at::Tensor& y) {
  return {y.template data_ptr<Scalar>(), static_cast<Index>(y.size(0)), static_cast<Index>(y.size(1)),
          static_cast<Index>(y.size(2))};
}

/// The memory of an Eigen matrix or vector as a tensor, [rows, columns] or [rows], which keeps `owner` alive.
template <class Matrix>
at::Tensor share_memory(Matrix& matrix, std::shared_ptr<void> owner) {
  const at::TensorOptions options(kTorchType<typename Matrix::Scalar>);
  const auto release = [owner = std::move(owner)](void*) {};
  const std::int64_t rows = matrix.rows(), columns = matrix.cols(), outer = matrix.outerStride();
  if constexpr (Matrix::ColsAtCompileTime == 1)
    return torch::from_blob(matrix.data(), {rows}, release, options);
  const std::int64_t down = Matrix::IsRowMajor ? outer : 1, right = Matrix::IsRowMajor ? 1 : outer;
  return torch::from_blob(matrix.data(), {rows, columns}, {down, right}, release, options);
}

/// One call: whole sequences, or the next tokens of streams.
struct MixCall {
  bool continues = false;
  bool records = false;
  std::vector<Index> before;  // tokens that each stream has seen
  std::vector<Index> after;   // and with those of this call
};

/// A state whose streams have seen so many tokens and keep these values.
template <class AMixer>
typename AMixer::State state_of(const AMixer& mixer, std::span<const Index> counts,
                                const at::Tensor& values) {
  using Scalar = typename AMixer::Scalar;
  constexpr const char* kWho = "TorchMixer::extend";
  typename AMixer::State state = mixer.make_state({.streams = static_cast<Index>(counts.size())});
  for (Index s = 0; s < state.streams(); ++s) hold_tokens(state, s, counts[static_cast<std::size_t>(s)]);
  const Index size = kept_size<Scalar>(state, counts);
  if (values.dim() != 1 || values.size(0) != size)
    fail(kWho, "the values of the state", "[" + std::to_string(size) + "]", to_text(values.sizes()));
  const at::Tensor dense = values.contiguous().resolve_neg();
  fill_kept<Scalar>(state, counts, dense.template data_ptr<Scalar>());
  return state;
}

/// What a state, or its gradient, keeps of so many tokens.
template <class AMixer>
at::Tensor values_of(typename AMixer::State& state, std::span<const Index> counts) {
  using Scalar = typename AMixer::Scalar;
  const at::Tensor values = torch::empty({kept_size<Scalar>(state, counts)}, kTorchType<Scalar>);
  copy_kept<Scalar>(state, counts, values.template data_ptr<Scalar>());
  return values;
}

/// Gradients that themselves have none: what asks for one is refused.
struct NoSecondDerivative : torch::autograd::Function<NoSecondDerivative> {
  using List = torch::autograd::variable_list;

  static List forward(torch::autograd::AutogradContext*, const List* gradients, at::TensorList) {
    return *gradients;
  }
  [[noreturn]] static List backward(torch::autograd::AutogradContext*, const List&) {
    raise<std::logic_error>(
        "TorchMixer: its gradients cannot be differentiated once more; a second derivative was asked of them "
        "(create_graph)");
  }
};

/// y, and of a call that continues streams the values of the state after it, as a function of x, of the values of the state
/// before it and of the parameters.
template <class AMixer>
struct MixFunction : torch::autograd::Function<MixFunction<AMixer>> {
  using Scalar = typename AMixer::Scalar;
  using Core = TorchCore<AMixer>;
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  /// What backward needs besides tensors.
  struct Record {
    std::shared_ptr<Core> core;
    MixCall call;
    typename AMixer::Saved saved;
    Index kept = 0;  // values of the state that it left
  };
  /// The graph knows a record; a saved tensor owns it, and is gone when Torch lets go of saved tensors.
  struct KnownRecord : torch::CustomClassHolder {
    std::weak_ptr<Record> record;
  };

  static List forward(Context* context, const std::shared_ptr<Core>& core, const MixCall& call,
                      const at::Tensor& x, const at::Tensor& values, at::TensorList parameters) {
    const AMixer& mixer = core->mixer;
    const at::Tensor tokens = viewable(x);
    const at::Tensor y = torch::empty(x.sizes(), kTorchType<Scalar>);
    const auto in = tokens_of<Scalar>(tokens);
    const auto out = result_tokens<Scalar>(y);
    List results{y};
    std::shared_ptr<Record> record;
    if (call.records) record.reset(new Record{core, call, mixer.make_saved(), 0});
    core->workspaces.use([&](Workspace& workspace) {
      if (!call.continues) {
        if (!record) return mixer.forward(in, out, workspace);
        return mixer.forward(in, out, record->saved, workspace);
      }
      if constexpr (HasStateValues<typename AMixer::State, Scalar>) {
        typename AMixer::State state = state_of(mixer, call.before, values);
        if (record) {
          mixer.extend(in, state, out, record->saved, workspace);
        } else {
          mixer.extend(in, state, out, workspace);
        }
        results.push_back(values_of<AMixer>(state, call.after));
        if (record) record->kept = static_cast<Index>(results.back().numel());
      }
    });
    if (record) keep(context, std::move(record), tokens, parameters);
    return results;
  }

  static List backward(Context* context, const List& dys) {
    const List kept = context->get_saved_variables();  // which refuses what was changed in place since
    const auto record = context->saved_data["record"].toCapsule();
    const std::shared_ptr<Record> own = static_cast<const KnownRecord&>(*record).record.lock();
    if (!own) {
      raise<std::logic_error>(
          "TorchMixer: the record of a forward must be kept as it is; hooks for saved tensors have replaced "
          "it");
    }
    const AMixer& mixer = own->core->mixer;
    const at::Tensor& x = kept[0];
    const at::Tensor dy = dys[0].defined() ? viewable(dys[0]) : torch::zeros(x.sizes(), kTorchType<Scalar>);
    const at::Tensor dx = torch::empty(x.sizes(), kTorchType<Scalar>);
    auto gradients = std::make_shared<typename AMixer::Parameters>(mixer.make_gradients());
    at::Tensor d_values;
    own->core->workspaces.use([&](Workspace& workspace) {
      const auto run = [&](typename AMixer::State* state_gradient) {
        mixer.backward(tokens_of<Scalar>(x), own->saved, tokens_of<Scalar>(dy), result_tokens<Scalar>(dx),
                       *gradients, workspace, state_gradient);
      };
      if constexpr (HasStateValues<typename AMixer::State, Scalar>) {
        if (own->call.continues && (dys[1].defined() || context->needs_input_grad(1))) {
          typename AMixer::State state =
              state_of(mixer, own->call.after,
                       dys[1].defined() ? dys[1] : torch::zeros({own->kept}, kTorchType<Scalar>));
          run(&state);
          d_values = values_of<AMixer>(state, own->call.before);
          return;
        }
      }
      run(nullptr);
    });
    List all{dx};
    if (d_values.defined()) all.push_back(d_values);
    AMixer::visit([&](std::string_view, auto& gradient) { all.push_back(share_memory(gradient, gradients)); },
                  *gradients);
    if (at::GradMode::is_enabled()) {
      List from(kept.begin(), kept.end() - 1);
      for (const at::Tensor& d : dys)
        if (d.defined()) from.push_back(d);
      all = NoSecondDerivative::apply(static_cast<const List*>(&all), at::TensorList(from));
    }
    List results{{}, {}};  // of core and call
    results.push_back(all[0]);
    if (!d_values.defined()) results.emplace_back();
    results.insert(results.end(), all.begin() + 1, all.end());
    return results;
  }

 private:
  static void keep(Context* context, std::shared_ptr<Record> record, const at::Tensor& tokens,
                   at::TensorList parameters) {
    const auto known = c10::make_intrusive<KnownRecord>();
    known->record = record;
    context->saved_data["record"] = c10::IValue::make_capsule(known);
    context->set_materialize_grads(false);
    void* const place = record.get();
    List kept{tokens};
    kept.insert(kept.end(), parameters.begin(), parameters.end());
    kept.push_back(torch::from_blob(
        place, {1}, [owner = std::move(record)](void*) {}, at::kByte));
    context->save_for_backward(std::move(kept));
  }
};

}  // namespace hsm::inline HSM_ABI::detail
