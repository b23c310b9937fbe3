// SPDX-License-Identifier: MIT
//
// Session and state files of known models: the first byte chooses the reader, the rest is the bytes of a file.
//
//   0, 1           a session of the fuzz model without positions, with learned ones
//   2, 3, 4, 5, 6  the state of (a,b), softmax-local, attention, attention with a window, and over chosen blocks
//
// What is not refused with std::runtime_error saves to a file of the same tensors, bit by bit, can be gone on
// with, and saves again.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/session_file.hpp>

#include "fuzz/fuzz_model.hpp"
#include "fuzz/property.hpp"
#include "fuzz/safetensors_fuzz.hpp"
#include "fuzz/scratch.hpp"

namespace hsm::test {

inline constexpr Index kFuzzReaders = 7;

/// Loads, saves and continues a session.
inline bool fuzz_session_of(const FuzzModel& model, const SafetensorsFile& file) {
  SavedSession<FuzzModel> loaded;
  if (!accepts<std::runtime_error>("file: ", [&] { loaded = read_session(file, model); })) return false;
  const auto path = scratch_file("session");
  const std::string prefix = path.string() + ": ";
  Workspace workspace;
  GenerationSession session(model, workspace, loaded.memory, OnFull::kRestart);
  save_session(path, session, loaded.notes);
  const SafetensorsFile saved = SafetensorsFile::load(path);
  save_session(path, GenerationSession(model, workspace, read_session(saved, model).memory), loaded.notes);
  require_same_tensors(saved, SafetensorsFile::load(path));

  const auto streams = static_cast<std::size_t>(session.streams());
  for (Index s = 0; s < session.streams(); ++s)
    require(session.position(s) >= 0, "a position must be at least 0");
  for (int t = 0; t < 2; ++t) session.next(std::vector<std::int32_t>(streams, t));
  // Large values may have passed the range of float.
  if (!accepts<std::runtime_error>(prefix, [&] { save_session(path, session, loaded.notes); })) return true;
  require(load_session(path, model).memory.restarts == session.restarts(),
          "a session that went on must load");
  session.reset(session.streams() - 1);
  return true;
}

/// One more token of every stream.
template <class Layer>
void fuzz_step(const Layer& layer, typename Layer::State& state) {
  if (state.streams() == 0) return;
  using Matrix = Eigen::Matrix<typename Layer::Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  const Matrix x = Matrix::Constant(layer.channels(), state.streams(), 0.5f);
  Matrix y = x;
  Workspace workspace;
  layer.step(x, state, y, workspace);
}

/// Loads, saves and continues the state of one layer.
template <class Layer>
bool fuzz_state_of(const Layer& layer, const SafetensorsFile& file) {
  typename Layer::State state;
  if (!accepts<std::runtime_error>("file: ", [&] { state = read_state(file, layer); })) return false;
  const auto path = scratch_file("state");
  const std::string prefix = path.string() + ": ";
  save_state(path, layer, state);
  const SafetensorsFile saved = SafetensorsFile::load(path);
  save_state(path, layer, read_state(saved, layer));
  require_same_tensors(saved, SafetensorsFile::load(path));

  fuzz_step(layer, state);
  if (!accepts<std::runtime_error>(prefix, [&] { save_state(path, layer, state); })) return true;
  require(load_state(path, layer).streams() == state.streams(), "a state that went on must load");
  return true;
}

inline Mixer<ScalarPair<float>> fuzz_pair() {
  ScalarPair<float> policy(4, 2);
  set_exact(policy);
  return {policy, std::vector<Index>{1, 3}};
}
inline Mixer<SoftmaxLocal<float>> fuzz_local() {
  Random random(1);
  SoftmaxLocal<float> policy(4, random, 2, 3);
  set_exact(policy);
  return {policy, 2};
}
inline CausalAttention<double> fuzz_attention(Index window = 0, Index block = 0, Index top = 0) {
  Random random(1);
  Attention<double> parameters(4, 2, random, {.window = window, .block = block, .top = top});
  set_exact(parameters);
  return CausalAttention<double>(parameters);
}

/// Returns whether `input` is a file of what its first byte says.
inline bool fuzz_session(Input input) {
  if (input.empty()) return false;
  std::vector<SafetensorsFile> file;
  if (!accepts<std::runtime_error>(
          "file: ", [&] { file.push_back(SafetensorsFile::parse(bytes_of(input.subspan(1)), "file")); })) {
    return false;
  }
  static const FuzzModel none = fuzz_model(Positions::kNone), learned = fuzz_model(Positions::kLearned);
  switch (input[0] % kFuzzReaders) {
    case 0:
      return fuzz_session_of(none, file[0]);
    case 1:
      return fuzz_session_of(learned, file[0]);
    case 2:
      return fuzz_state_of(fuzz_pair(), file[0]);
    case 3:
      return fuzz_state_of(fuzz_local(), file[0]);
    case 4:
      return fuzz_state_of(fuzz_attention(), file[0]);
    case 5:
      return fuzz_state_of(fuzz_attention(2), file[0]);
    default:
      return fuzz_state_of(fuzz_attention(0, 1, 1), file[0]);
  }
}

}  // namespace hsm::test
