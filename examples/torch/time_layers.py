#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Times layers of hsm against the same in PyTorch's operations (hsm_torch.py), forward and backward in training, in turns, and
checks first that they compute the same.

  /usr/bin/python3 examples/torch/time_layers.py [--library build/examples/examples/libhsm_layers.so] [--threads 1] [RECIPE...]

A partner s tokens back is the sequence, padded in front, which takes PyTorch less time than the gather of hsm_torch.py. Its other
layers take O(T^2) time by their definitions: what they take says little. The figure is the median of the ratios of turns: above 1
hsm is faster. One thread is timed by the processor's clock, which other programs disturb less. OpenBLAS, which multiplies for both,
has as many threads as it is told by OPENBLAS_NUM_THREADS."""

import argparse
import math
import pathlib
import statistics
import sys
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
import torch

import hsm_layers
import hsm_torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = ["ab:heads=8", "channel", "matrix", "gated", "gated-pair", "fusion", "attention:heads=8"]


def padded(u, shifts):
  """partner() of hsm_torch.py for heads at one shift."""
  return torch.nn.functional.pad(u, (0, 0, shifts[0], 0))[:, :u.shape[1]]


def layers_of(recipe, channels, shift, threads):
  """The two: functions of x, each with its parameters."""
  own = hsm_layers.Mixer(recipe, channels, [shift], threads=threads)
  name, options = hsm_torch.layers_of(recipe)[0]
  tensors = {key: value.detach().clone().requires_grad_() for key, value in own.named_parameters()}
  shifts = [shift] * options.get("heads", 1)
  return (own, list(own.parameters())), (lambda x: hsm_torch.MIXERS[name](tensors, x, shifts, options), list(tensors.values()))


def run(layer, x, dy):
  """(seconds, y, gradients) of forward and backward."""
  function, parameters = layer
  clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
  start = clock()
  y = function(x)
  gradients = torch.autograd.grad(y, [x, *parameters], dy)
  return clock() - start, y, gradients


def off(got, expected):
  """The largest difference, in shares of the largest value; infinite where one is not a number, which max forgets."""
  shares = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, expected)]
  return max(share if share == share else math.inf for share in shares)


def processor():
  for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
    if line.startswith("model name"):
      return line.partition(": ")[2]
  return "an unknown processor"


def main():
  parser = argparse.ArgumentParser(description="Times hsm's layers against PyTorch's operations.", allow_abbrev=False)
  parser.add_argument("--library", default=ROOT / "build/examples/examples/libhsm_layers.so")
  parser.add_argument("--threads", type=int, default=1)
  parser.add_argument("--channels", type=int, default=256)
  parser.add_argument("--time", type=int, default=1024)
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--shift", type=int, default=8)
  parser.add_argument("--turns", type=int, default=7)
  parser.add_argument("recipes", nargs="*")
  options = parser.parse_args()
  torch.set_num_threads(options.threads)
  hsm_layers.load(options.library)
  hsm_torch.partner = padded
  print(f"{processor()}, PyTorch {torch.__version__}, threads {options.threads}, float, B {options.batch}, T {options.time}, "
        f"C {options.channels}, forward and backward\n\n| layer | ms, hsm | ms, PyTorch | ratio | of turns |\n"
        "|---|---:|---:|---:|---|")
  for recipe in options.recipes or RECIPES:
    torch.manual_seed(1)
    x = torch.randn(options.batch, options.time, options.channels, requires_grad=True)
    dy = torch.randn_like(x)
    ours, theirs = layers_of(recipe, options.channels, options.shift, options.threads)
    _, y, gradients = run(ours, x, dy)
    _, other_y, other_gradients = run(theirs, x, dy)
    different = max(off([y], [other_y]), off(gradients, other_gradients))
    if not different <= 1e-3:
      sys.exit(f"time_layers.py: {recipe}: results differ by {different:.2g} of the largest")
    times = [(run(ours, x, dy)[0], run(theirs, x, dy)[0]) for _ in range(options.turns)]
    ratios = sorted(b / a for a, b in times)
    own, other = (statistics.median(column) * 1e3 for column in zip(*times))
    print(f"| `{recipe}` | {own:.1f} | {other:.1f} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |",
          flush=True)


if __name__ == "__main__":
  main()
