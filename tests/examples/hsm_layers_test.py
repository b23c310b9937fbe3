#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""hsm's layers as PyTorch modules (examples/torch/hsm_layers.py): the same as in PyTorch's operations, and models that PyTorch
trains with them have the losses that hsm_lm has, step by step.

  /usr/bin/python3 tests/examples/hsm_layers_test.py HSM_LM LIBRARY      "skipped: ..." where there is no PyTorch"""

import csv
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples" / "torch"), str(ROOT / "bench" / "paper")]
try:
  import torch
except ImportError:
  print("skipped: PyTorch was not found (Debian: python3-torch)")
  sys.exit(0)
import hsm_layers
import hsm_torch
import train
import twin

TOOL = ""
RECIPES = ["ab:heads=2", "channel", "matrix", "gated:heads=2", "gated-pair", "fusion", "softmax-local:heads=2:taps=3",
           "ema:ndim=3", "attention:heads=2", "attention:heads=2:rotary=100", "attention:heads=2:window=5",
           "linear-attention:heads=2:decay=1", "hkt:heads=2:levels=3"]
TEXT = ("The quick brown fox jumps over the lazy dog. " * 20).encode()


class HsmLayers(unittest.TestCase):

  def assert_close(self, got, expected, message):
    self.assertEqual(got.shape, expected.shape, message)
    self.assertLessEqual(float((got - expected).abs().max()), 2e-5 * float(expected.abs().max()), message)

  def test_compute_what_they_are_in_the_operations_of_torch(self):
    for recipe in RECIPES:
      torch.manual_seed(1)
      mixer = hsm_layers.Mixer(recipe, 8, [3])
      with torch.no_grad():
        for value in mixer.parameters():
          value.add_(0.1 * torch.randn_like(value))
      name, options = hsm_torch.layers_of(recipe)[0]
      x = torch.randn(2, 11, 8, requires_grad=True)
      dy = torch.randn(2, 11, 8)
      y = mixer(x)
      expected = hsm_torch.MIXERS[name](dict(mixer.named_parameters()), x, [3] * options.get("heads", 1), options)
      self.assert_close(y, expected, recipe)
      names, inputs = ["x", *dict(mixer.named_parameters())], [x, *mixer.parameters()]
      for of, got, wanted in zip(names, torch.autograd.grad(y, inputs, dy), torch.autograd.grad(expected, inputs, dy)):
        self.assert_close(got, wanted, f"{recipe}: {of}")
      first, state = mixer.extend(x[:, :4])
      second, (_, counts) = mixer.extend(x[:, 4:], state)
      self.assertEqual(counts, [11, 11])
      chunks = torch.cat([first, second], dim=1)
      self.assert_close(chunks, y, recipe)
      self.assert_close(torch.autograd.grad(chunks, x, dy)[0], torch.autograd.grad(mixer(x), x, dy)[0], recipe)

  def test_share_their_tensors_and_say_what_they_expected(self):
    mixer = hsm_layers.Mixer("gated:heads=2", 8, [3])
    x = torch.randn(1, 5, 8)
    before = mixer(x)
    other = hsm_layers.Mixer("gated:heads=2", 8, [3], seed=2)
    self.assertFalse(torch.equal(other(x), before))
    other.load_state_dict(mixer.state_dict())
    self.assertTrue(torch.equal(other(x), before))
    for given, sentence in ((x.double(), "the type of x must be Float, got Double"),
                            (x[:, :, :6], r"x must be \[B,T,8\], got \[1,5,6\]")):
      with self.assertRaisesRegex(RuntimeError, sentence):
        mixer(given)
    with self.assertRaisesRegex(RuntimeError, "the type of parameter project.weight must be Float, got Double"):
      mixer.double()(x)
    with self.assertRaisesRegex(ValueError, "expected one of ab, channel"):
      hsm_layers.Mixer("nothing", 8, [3])

  def test_train_to_the_losses_of_the_tool(self):
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      (folder / "text").write_bytes(TEXT)
      for recipe in ("4*ab:heads=4", "2*ab:heads=4,attention:heads=2:rotary=100,gated"):
        common = [TOOL, "train", "--text", "text", "--valid", "text", "--layers", recipe, "--width", "32", "--context", "32",
                  "--batch", "4", "--threads", "1", "--out", "model"]

        def tool(*more):
          done = subprocess.run([*common, *more], capture_output=True, cwd=folder, check=False)
          self.assertEqual(done.returncode, 0, done.stderr.decode())

        tool("--steps", "1", "--learning-rate", "1e-12", "--weight-decay", "0")
        model = hsm_layers.Model(hsm_torch.load(folder / "model"))
        tool("--steps", "100", "--learning-rate", "0.003", "--log", "log.csv")
        losses = twin.train(model, torch.tensor(list(TEXT)), 100, 4, 0.003, 1)
        with open(folder / "log.csv", encoding="utf-8") as rows:
          expected = [float(row["loss"]) for row in csv.DictReader(rows)]
        self.assertEqual(len(losses), len(expected))
        self.assertLess(losses[-1], 0.5 * losses[0])
        worst = max(abs(a - b) / b for a, b in zip(losses, expected))
        print(f"{recipe}: losses {losses[0]:.6f} to {losses[-1]:.6f}, off by {worst:.1e} of one at most")
        self.assertLessEqual(worst, 1e-5, recipe)

  def test_train_in_the_script(self):
    text = torch.tensor(list(TEXT))
    for recipes in (["ab:heads=4"] * 2, ["ab:heads=4", "attention:heads=2"]):
      losses = list(train.train(recipes, text, 30, width=16, context=24))
      self.assertEqual(losses, list(train.train(recipes, text, 30, width=16, context=24)))
      self.assertLess(losses[-1], 0.8 * losses[0])


if __name__ == "__main__":
  TOOL, LIBRARY = sys.argv[1], sys.argv[2]
  hsm_layers.load(LIBRARY)
  unittest.main(argv=sys.argv[:1])
