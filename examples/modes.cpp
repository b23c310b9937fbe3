// SPDX-License-Identifier: MIT
//
// One mixer in every mode, each compared with forward of whole sequences: of (a,b) they are the same bits. The marked parts
// stand in include/hsm/guide, and a test compares the two.
#include <hsm/hsm.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace {

using Values = std::vector<float>;
constexpr hsm::Index B = 3, T = 20, C = 8;

/// The tokens first ... first + count - 1 of each of the B sequences in a buffer [B,T,C].
hsm::Tokens<float> part(Values& values, hsm::Index first, hsm::Index count) {
  return {values.data() + first * C, B, count, C, C, T * C};
}

int wrong = 0;
void report(bool same, const char* mode) {
  std::printf("%-28s %s\n", mode, same ? "the bits of forward" : "OTHER BITS");
  wrong += !same;
}

}  // namespace

int main() {
  hsm::Random random(1);
  Values input(B * T * C), whole(input.size());
  for (float& value : input) value = static_cast<float>(random.normal());
  hsm::Workspace workspace;

  // [shown]
  hsm::Mixer mixer(hsm::ScalarPair<float>(C, 2), 4);  // 2 heads, shift 4
  hsm::Tokens<const float> x(input.data(), B, T, C);  // a view of [B,T,C] where it lies
  hsm::Tokens<float> y(whole.data(), B, T, C);
  mixer.forward(x, y, workspace);
  // [/shown]

  Values out(input.size());
  {
    hsm::Tokens<const float> text(input.data(), 1, B * T, C);
    hsm::Tokens<float> result(out.data(), 1, B * T, C);
    // [shown]
    std::vector<hsm::Index> documents = {0, T, 2 * T, 2 * T, 3 * T};  // the third of four is empty
    mixer.packed(text, documents, result, workspace);                 // text, result [1,N,C]
    // [/shown]
    report(out == whole, "packed");
  }

  out.assign(out.size(), 0);
  auto prompt = part(input, 0, T - 3), next = part(input, T - 3, 1);
  auto prompt_y = part(out, 0, T - 3), next_y = part(out, T - 3, 1);
  // [shown]
  auto state = mixer.make_state({.streams = B, .spare = 2});
  mixer.extend(prompt, state, prompt_y, workspace);  // [B,17,C]
  mixer.step(next, state, next_y, workspace);        // [B,1,C], the 18th token of each stream
  // [/shown]
  auto filled = mixer.make_state({.streams = B});
  // [shown]
  mixer.fill(prompt, filled, workspace);  // the state of extend, and no y
  // [/shown]
  bool counts = true;
  for (hsm::Index b = 0; b < B; ++b) counts = counts && state.count(b) == T - 2 && filled.count(b) == T - 3;

  // Two tokens are left for each stream: here come those of stream 2, and the first of stream 0.
  const auto copy_token = [](const Values& from, hsm::Index n, Values& to, hsm::Index m) {
    std::copy_n(from.data() + n * C, C, to.data() + m * C);
  };
  Values last(3 * C), last_y(3 * C);
  copy_token(input, 3 * T - 2, last, 0);
  copy_token(input, 3 * T - 1, last, 1);
  copy_token(input, T - 2, last, 2);
  {
    hsm::Tokens<const float> some(last.data(), 1, 3, C);
    hsm::Tokens<float> some_y(last_y.data(), 1, 3, C);
    // [shown]
    std::vector<hsm::Index> streams = {2, 0}, offsets = {0, 2, 3};  // two tokens of stream 2, one of stream 0
    mixer.extend(some, offsets, streams, state, some_y, workspace);
    // [/shown]
  }
  copy_token(last_y, 0, out, 3 * T - 2);
  copy_token(last_y, 1, out, 3 * T - 1);
  copy_token(last_y, 2, out, T - 2);
  for (const hsm::Index n : {T - 1, 2 * T - 2, 2 * T - 1})
    copy_token(whole, n, out, n);  // which nobody asked for
  report(out == whole && counts, "extend, step, chosen streams");

  // [shown]
  auto fork = state;       // all streams once more
  fork.rewind(2, 2);       // stream 2 forgets its last two tokens: `spare` of them can always be taken back
  fork.copy_stream(2, 1);  // stream 1 goes on where stream 2 stands
  fork.reset(0);           // stream 0 begins again
  // [/shown]
  report(fork.count(0) == 0 && fork.count(1) == T - 2 && fork.count(2) == T - 2 && state.count(2) == T,
         "states");

  {
    Values over = input;
    hsm::Tokens<float> xy(over.data(), B, T, C);
    // [shown]
    mixer.forward_in_place(xy, workspace);  // shift mixers whose policy says in_place: y over x
    // [/shown]
    report(over == whole, "in place");
  }

  // Backward of the whole, and of two chunks that the gradient of the state joins.
  Values dy(input.size()), dx(input.size()), chunked(input.size());
  for (float& value : dy) value = static_cast<float>(random.normal());
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(x, y, saved, workspace);
  mixer.backward(x, saved, part(dy, 0, T), part(dx, 0, T), gradients, workspace);
  constexpr std::size_t kChunks = 2;
  constexpr hsm::Index kLength = T / 2;
  const auto chunk = [](Values& values, std::size_t i) {
    return part(values, static_cast<hsm::Index>(i) * kLength, kLength);
  };
  // [shown]
  std::vector<hsm::Mixer<hsm::ScalarPair<float>>::Saved> records(kChunks);
  auto stream = mixer.make_state({.streams = B});
  for (std::size_t i = 0; i < kChunks; ++i)
    mixer.extend(chunk(input, i), stream, chunk(out, i), records[i], workspace);
  auto later = mixer.make_state({.streams = B});  // the gradient 0: nothing comes after the last chunk
  for (std::size_t i = kChunks; i-- > 0;)
    mixer.backward(chunk(input, i), records[i], chunk(dy, i), chunk(chunked, i), gradients, workspace,
                   &later);
  // [/shown]
  float largest = 0, off = 0;
  for (std::size_t i = 0; i < dx.size(); ++i) {
    largest = (std::max)(largest, std::abs(dx[i]));
    const float difference = std::abs(chunked[i] - dx[i]);
    if (!(difference <= off)) off = difference;
    if (!(off == off)) break;  // NaN
  }
  std::printf("%-28s off by %.0e of the largest\n", "dx of two chunks", static_cast<double>(off / largest));
  wrong += !(off <= 1e-5F * largest);

  return wrong == 0 ? 0 : 1;
}
