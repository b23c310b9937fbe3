# SPDX-License-Identifier: MIT
"""The layers of hsm as torch.nn.Modules, computed by hsm itself: the library that examples/torch/hsm_layers.cpp makes.

  hsm_layers.load("build/examples/examples/libhsm_layers.so")
  mixer = hsm_layers.Mixer("gated:heads=4", 256, shifts=[8])
  y = mixer(x)                                               # x, y [B,T,C] of float on the processor, with autograd
  y, state = mixer.extend(x, state)                          # chunk by chunk; None to begin with
  model = hsm_layers.Model(hsm_torch.load(file))             # a model of hsm_torch.py, its mixers by hsm

The parameters are tensors in hsm's memory, under the names of hsm: torch.optim trains them in place. Where LibTorch is found
(`bash .ci/setup torch`), `cmake --preset examples && cmake --build build/examples --target hsm_layers` makes the library."""

import torch

import hsm_torch


def load(path):
  """Loads the library."""
  torch.classes.load_library(str(path))


class Mixer(torch.nn.Module):
  """A layer by its recipe, such as "ab" or "attention:heads=4"; head h mixes at shifts[h mod their number]. It computes on
  `threads` threads, by default as many as torch."""

  def __init__(self, recipe, channels, shifts=(1,), seed=1, threads=None):
    super().__init__()
    self.recipe = recipe
    self.layer = torch.classes.hsm.Layer(recipe, channels, list(shifts), seed, threads or torch.get_num_threads())
    for name, value in self.layer.parameters().items():
      value._is_param = True  # a torch.nn.Parameter would be another tensor than the one that hsm knows
      hsm_torch.register(self, name, value)

  def forward(self, x):
    return self.layer.forward(x)

  def extend(self, x, state=None):
    """The next tokens of as many streams as x has rows, and the state behind them: (values, tokens that each has seen)."""
    values, counts = state or (torch.empty(0), [0] * x.shape[0])
    y, values, counts = self.layer.extend(x, values, counts)
    return y, (values, counts)

  def extra_repr(self):
    return self.recipe


class Model(hsm_torch.LanguageModel):
  """A model of hsm_torch.py whose mixers hsm computes."""

  def __init__(self, model):
    super().__init__(model.config, {name: value.detach().clone() for name, value in model.named_parameters()}, model.tokenizer)
    for l, (name, options) in enumerate(self.recipe):
      text = ":".join([name, *(f"{key}={value}" for key, value in options.items())])
      mixer = Mixer(text, self.config["width"], self.shifts(l))
      block = self.get_submodule(f"layers.{l}")
      mixer.load_state_dict(block.mixer.state_dict())
      block.mixer = mixer

  def mix(self, l, p, x):
    return self.get_submodule(f"layers.{l}.mixer")(x)
