#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Trains the same models twice, by hsm_lm and by PyTorch (examples/torch/hsm_torch.py), and compares the losses:

  /usr/bin/python3 bench/paper/twin.py --text FILE [--program HSM_LM] [--layers RECIPE]... [--steps 50] [--out FILE.md]

Both start from the same weights and see the same batches: the weights are read from a model file that hsm_lm writes after
one step at a rate of 1e-12, the windows are drawn by the generator of core/random.hpp, which is written out here. Losses are
nats per byte of each step's batch, before its update. Exits with 1 where one differs by more than --bound (1e-3).
Needs PyTorch 1.12 or later (Debian: python3-torch). float32 on both sides, or with --double float64 in PyTorch: what the two
then differ by is what rounding does to the run. Threads change nothing in hsm."""

import argparse
import csv
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

try:
  import torch
  from torch.nn import functional
except ModuleNotFoundError as missing:
  sys.exit(f"twin.py: {missing} (Debian: python3-torch)")

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "torch"))
import hsm_torch

BETAS, EPSILON, DECAY, CLIP, FINAL_RATE, WARMUP = (0.9, 0.95), 1e-8, 0.1, 1.0, 0.1, 0.02  # as hsm_lm train


class Random:
  """SplitMix64 and `below`, as core/random.hpp defines them."""

  def __init__(self, seed):
    self.state = seed

  def bits(self):
    mask = 2**64 - 1
    self.state = (self.state + 0x9E3779B97F4A7C15) & mask
    z = self.state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)

  def below(self, n):
    unfair = 2**64 % n
    value = self.bits()
    while value < unfair:
      value = self.bits()
    return value % n


def train(model, text, steps, batch, peak, seed):
  """The loss of each step."""
  time_, windows, losses = model.config["context"], Random(seed), []
  decays = lambda name: (name.endswith("weight") and not name.startswith(("embedding", "positions")))
  groups = [{"params": [v for n, v in model.named_parameters() if decays(n)], "weight_decay": DECAY},
            {"params": [v for n, v in model.named_parameters() if not decays(n)], "weight_decay": 0.0}]
  optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON)
  warmup = math.floor(WARMUP * steps + 0.5)
  for step in range(steps):
    starts = [windows.below(len(text) - time_) for _ in range(batch)]
    rows = torch.stack([text[s:s + time_ + 1] for s in starts])
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    done = step + 1
    share = (1 + math.cos(math.pi * (done - warmup) / (steps - warmup))) / 2
    rate = peak * done / warmup if done <= warmup else peak * (FINAL_RATE + (1 - FINAL_RATE) * share)
    for group in optimizer.param_groups:
      group["lr"] = rate
    optimizer.step()
    losses.append(loss.item())
  return losses


def compare(recipe, positions, options, folder):
  """(losses of hsm_lm, losses of torch, seconds of each)."""
  model, log = folder / "model.safetensors", folder / "log.csv"
  common = [options.program, "train", "--text", options.text, "--valid", options.text, "--out", model, "--layers", recipe,
            "--positions", positions, "--width", options.width, "--context", options.context, "--batch", options.batch,
            "--validation-tokens", 1, "--seed", options.seed]

  def run(*more):
    done = subprocess.run([str(word) for word in [*common, *more]], capture_output=True, text=True)
    if done.returncode != 0:
      sys.exit(f"twin.py: {' '.join(done.stderr.splitlines()[-1:])}")

  run("--steps", 1, "--learning-rate", 1e-12, "--weight-decay", 0)
  twin = hsm_torch.load(model, torch.float64 if options.double else torch.float32)
  start = time.monotonic()
  run("--steps", options.steps, "--learning-rate", options.learning_rate, "--log", log)
  middle = time.monotonic()
  text = torch.frombuffer(bytearray(pathlib.Path(options.text).read_bytes()), dtype=torch.uint8).long()
  torches = train(twin, text, options.steps, options.batch, options.learning_rate, options.seed)
  end = time.monotonic()
  with open(log, encoding="utf-8") as rows:
    ours = [float(row["loss"]) for row in csv.DictReader(rows)]
  return ours, torches, middle - start, end - middle


def main():
  parser = argparse.ArgumentParser(description="Compares losses of hsm_lm and PyTorch.", allow_abbrev=False)
  parser.add_argument("--text", required=True)
  parser.add_argument("--program", default=str(ROOT / "build/examples/examples/hsm_lm"))
  parser.add_argument("--layers", action="append", metavar="RECIPE[@learned]")
  parser.add_argument("--width", type=int, default=128)
  parser.add_argument("--context", type=int, default=128)
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--steps", type=int, default=50)
  parser.add_argument("--learning-rate", type=float, default=1e-3)
  parser.add_argument("--seed", type=int, default=1)
  parser.add_argument("--double", action="store_true", help="PyTorch computes in float64")
  parser.add_argument("--bound", type=float, default=1e-3)
  parser.add_argument("--out", help="Markdown file to write the table to")
  options = parser.parse_args()
  if not os.access(options.program, os.X_OK):
    parser.error(f"--program must be hsm_lm, which bash examples/run.sh builds, got {options.program!r}")
  if options.out and not pathlib.Path(options.out).absolute().parent.is_dir():
    parser.error(f"--out must be a file in a folder that is there, got {options.out!r}")
  lines = [f"{options.steps} steps of {options.batch} x {options.context} bytes, width {options.width}, learning rate "
           f"{options.learning_rate:g}, seed {options.seed}; PyTorch {torch.__version__}"
           f"{' in float64' if options.double else ''}, "
           f"{torch.get_num_threads()} threads", "",
           "| recipe | first loss | last loss, hsm | last loss, PyTorch | largest difference | seconds, hsm | PyTorch |",
           "|---|---|---|---|---|---|---|"]
  worst = 0.0
  for layers in options.layers or ["7*attention:heads=4@learned", "7*attention:heads=4:rotary=10000", "7*ab"]:
    recipe, _, positions = layers.partition("@")
    with tempfile.TemporaryDirectory() as folder:
      ours, torches, *seconds = compare(recipe, positions or "none", options, pathlib.Path(folder))
    if len(ours) != len(torches):
      sys.exit(f"twin.py: {layers}: {len(ours)} losses by hsm_lm, {len(torches)} by PyTorch")
    gaps = [abs(a - b) for a, b in zip(ours, torches)]
    off = max(gap if gap == gap else math.inf for gap in gaps)  # max forgets NaN
    worst = max(worst, off)
    lines.append(f"| `{layers}` | {ours[0]:.4f} | {ours[-1]:.6f} | {torches[-1]:.6f} | {off:.1e} | {seconds[0]:.1f} | "
                 f"{seconds[1]:.1f} |")
    print(lines[-1], flush=True)
  text = "\n".join(lines) + "\n"
  print(text, end="")
  if options.out:
    pathlib.Path(options.out).write_text(text, encoding="utf-8")
  if not worst <= options.bound:
    sys.exit(f"twin.py: losses differ by {worst:.3g}, expected at most {options.bound:g}")


if __name__ == "__main__":
  main()
