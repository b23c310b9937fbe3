#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Trains two small models of bytes whose mixers are hsm's and all else is PyTorch's, (a,b) alone and a hybrid with attention.

  /usr/bin/python3 examples/torch/train.py [--library LIBRARY] [--text README.md] [--steps 100]

LIBRARY is what examples/torch/hsm_layers.cpp becomes, build/examples/examples/libhsm_layers.so by default."""

import argparse
import pathlib
import sys

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
import torch
from torch import nn

import hsm_layers
import hsm_torch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def block(recipe, width, l):
  """x + mix(norm(x)), then x + net(norm(x)); layer l mixes with the token 2^l places back."""
  mix = nn.Sequential(nn.LayerNorm(width), hsm_layers.Mixer(recipe, width, [2**l], seed=l))
  net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
  return nn.Sequential(Residual(mix), Residual(net))


class Residual(nn.Module):

  def __init__(self, inner):
    super().__init__()
    self.inner = inner

  def forward(self, x):
    return x + self.inner(x)


def train(recipes, text, steps, width=64, context=64, batch=8):
  """Losses in nats per byte, each before its step."""
  torch.manual_seed(1)
  blocks = [block(recipe, width, l) for l, recipe in enumerate(recipes)]
  net = nn.Sequential(nn.Embedding(256, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 256))
  optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
  for _ in range(steps):
    starts = torch.randint(len(text) - context, [batch])
    rows = torch.stack([text[start:start + context + 1] for start in starts])
    loss = nn.functional.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    yield loss.item()


def main():
  parser = argparse.ArgumentParser(description="Trains two models with hsm's layers in PyTorch.", allow_abbrev=False)
  parser.add_argument("--library", default=ROOT / "build/examples/examples/libhsm_layers.so")
  parser.add_argument("--text", default=ROOT / "README.md")
  parser.add_argument("--steps", type=hsm_torch.count, default=100)
  options = parser.parse_args()
  hsm_layers.load(options.library)
  text = torch.tensor(list(pathlib.Path(options.text).read_bytes()))
  if len(text) < 66:
    sys.exit(f"train.py: {options.text} must have at least 66 bytes, got {len(text)}")
  for recipes in (["ab:heads=4"] * 6, ["ab:heads=4"] * 2 + ["attention:heads=2:rotary=10000"] + ["ab:heads=4"] * 3):
    losses = list(train(recipes, text, options.steps))
    print(f"{','.join(recipes)}: {losses[0]:.4f} nats per byte at first, {losses[-1]:.4f} after {len(losses)} steps")


if __name__ == "__main__":
  main()
