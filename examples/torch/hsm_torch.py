#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The models of hsm in plain PyTorch: this one file, with no other package, reads a model file (include/hsm/io/model_file.hpp)
as a torch.nn.Module that computes the same, with autograd, and writes one that hsm reads.

  model = hsm_torch.load("tales.safetensors")
  logits = model(ids)                        # ids [B,T], logits [B,T,V]
  hsm_torch.save("trained.safetensors", model)

  /usr/bin/python3 hsm_torch.py MODEL --prompt "Once upon a time" --tokens 100     as `hsm_lm generate --temperature 0`
  /usr/bin/python3 hsm_torch.py MODEL --text FILE --context 128                    its loss on a text of bytes

Every mixer is written by its definition, one function each, x [B,T,C] to y; `shifts` is the distance of each head, head h owns the
channels h C/H ... (h+1) C/H - 1, and before the first token all is 0. That is for taking results elsewhere, and for reading: layers
take O(T^2) memory where the definition has a sum over all tokens. Needs PyTorch 1.12 or later (Debian: python3-torch).
"""

import argparse
import array
import json
import math
import os
import pathlib
import struct
import sys

import torch
from torch.nn import functional

# ------------------------------------------------------------------------------------------------------- schedules


def shift(schedule, layers, l, h):
  """The distance of head h in layer l of `layers`, by the text of a schedule:

    dyadic         2^l             cyclic=P     2^(l mod P)     geometric=b   b^l     list=1,2,4   as listed
    reversed:S     schedule S from its last layer to its first
    rotated:S      head h of layer l at the distance of layer (l + h) mod `layers` of S (also head-rotated:S)"""
  kind, _, inner = schedule.partition(":")
  if inner:
    place = layers - 1 - l if kind == "reversed" else (l + h) % layers
    return shift(inner, layers, place, h)
  kind, _, argument = schedule.partition("=")
  if kind == "list":
    return int(argument.split(",")[l])
  return {"dyadic": lambda: 2**l,
          "cyclic": lambda: 2**(l % int(argument)),
          "geometric": lambda: int(argument)**l}[kind]()


def layers_of(recipe):
  """A recipe that states every option, as model files have it: a list of (name, options)."""
  found = []
  for item in recipe.split(","):
    count, _, rest = item.rpartition("*")
    name, *options = rest.split(":")
    pairs = (option.split("=") for option in options)
    found += [(name, {key: int(value) for key, value in pairs})] * int(count or 1)
  return found


# ---------------------------------------------------------------------------------------------------------- mixers
#
# Each takes its tensors p by name, x, the shifts, and the options of its recipe.


def per_channel(values, channels):
  """[H] values, one per head, as [C]."""
  return values.repeat_interleave(channels // len(values))


def partner(u, shifts):
  """u[t - s] of every channel at the distance of its head, 0 where there is no such token."""
  batch, time, channels = u.shape
  distances = per_channel(torch.tensor(shifts, device=u.device), channels)
  source = torch.arange(time, device=u.device)[:, None] - distances[None, :]
  found = torch.gather(u, 1, source.clamp(min=0).expand(batch, time, channels))
  return torch.where(source >= 0, found, torch.zeros_like(found))


def mix_ab(p, x, shifts, _):
  """y[t] = a x[t] + b x[t-s], a and b one number for each head."""
  channels = x.shape[2]
  return per_channel(p["a"], channels) * x + per_channel(p["b"], channels) * partner(x, shifts)


def mix_channel(p, x, shifts, _):
  """The same, a and b one number for each channel."""
  return p["a"] * x + p["b"] * partner(x, shifts)


def mix_matrix(p, x, shifts, _):
  """A x[t] + B x[t-s]."""
  A, B = p["project.weight"].chunk(2)
  return x @ A.T + partner(x @ B.T, shifts)


def mix_gated(p, x, shifts, _):
  """g x[t] + (1-g) x[t-s], g = sigmoid(W x[t] + c)."""
  gate = torch.sigmoid(x @ p["project.weight"].T + p["project.bias"])
  return gate * x + (1 - gate) * partner(x, shifts)


def mix_gated_pair(p, x, shifts, _):
  """The same, g = sigmoid(W x[t] + c + U x[t-s])."""
  W, U = p["project.weight"].chunk(2)
  gate = torch.sigmoid(x @ W.T + p["project.bias"] + partner(x @ U.T, shifts))
  return gate * x + (1 - gate) * partner(x, shifts)


def mix_fusion(p, x, shifts, _):
  """W gelu(U x[t] + c + V x[t-s]) + d."""
  U, V = p["project.weight"].chunk(2)
  z = functional.gelu(x @ U.T + p["project.bias"] + partner(x @ V.T, shifts), approximate="tanh")
  return z @ p["output.weight"].T + p["output.bias"]


def attend(p, x, heads, allowed):
  """torch's own multi-head attention; allowed [H,T,T] says which key (last) each query may see."""
  batch, _, channels = x.shape
  y, _ = functional.multi_head_attention_forward(
      *[x.transpose(0, 1)] * 3, channels, heads, p["project.weight"], p.get("project.bias"), None, None,
      False, 0.0, p["output.weight"], p.get("output.bias"), need_weights=False,
      attn_mask=~allowed.repeat(batch, 1, 1))
  return y.transpose(0, 1)


def mix_softmax_local(p, x, shifts, options):
  """Attention over t, t-s, ..., t-(K-1)s alone, those that there are."""
  time = x.shape[1]
  places = torch.arange(time, device=x.device)
  behind = places[:, None] - places[None, :]  # how far key j lies behind query t
  taps = range(options.get("taps", 2))
  allowed = torch.stack([torch.isin(behind, torch.tensor([k * s for k in taps], device=x.device)) for s in shifts])
  return attend(p, x, len(shifts), allowed)


def seen_keys(time, window, device):
  """[T,T]: which key (last) each query sees, the last `window` up to its own; 0 for all."""
  seen = torch.ones(time, time, dtype=torch.bool, device=device).tril()
  return seen.triu(1 - window) if window else seen


def turned(u, heads, base):
  """Rotary positions (arXiv 2104.09864): values c and c + D/2 of each head, D = C/H, as the complex number
  u[c] + j u[c + D/2], times exp(j p base^(-2c / D)) at position p."""
  batch, time, channels = u.shape
  width = channels // heads
  real, imaginary = u.reshape(batch, time, heads, 2, width // 2).unbind(3)
  exact = {"dtype": torch.float64, "device": u.device}
  speeds = base ** (-2 * torch.arange(width // 2, **exact) / width)
  angles = (torch.arange(time, **exact)[:, None] * speeds)[:, None, :]
  z = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angles), angles)
  return torch.stack([z.real, z.imag], dim=3).reshape(batch, time, channels).to(u.dtype)


def block_keys(q, k, block, top, least_gap=0.0):
  """[B,H,T,T]: which key (last) each query sees of its own block, up to its own place, and of the `top` earlier blocks
  whose mean key has the largest product with it (arXiv 2502.13189); q and k are [B,H,T,D]. A block that is nearer than
  `least_gap` to one that was chosen is an error: another implementation could choose it."""
  time = q.shape[2]
  of = torch.arange(time, device=q.device) // block
  causal = seen_keys(time, 0, q.device)
  seen = (causal & (of[:, None] == of)).expand(*q.shape[:2], -1, -1).clone()
  blocks = time // block  # that are whole
  if not blocks:
    return seen
  means = k[:, :, :blocks * block].unflatten(2, (blocks, block)).mean(3)
  products = (q @ means.transpose(2, 3)).detach().masked_fill(torch.arange(blocks, device=q.device) >= of[:, None], -math.inf)
  best = products.topk(min(top + 1, blocks), dim=3)
  if blocks > top:
    gap = best.values[..., top - 1] - best.values[..., top]
    assert not (gap < least_gap).any(), f"choices {gap[gap < least_gap]} near to others"
  chosen = torch.zeros_like(products, dtype=torch.bool).scatter(3, best.indices[..., :top], True)
  chosen &= products > -math.inf
  return seen | functional.pad(chosen.repeat_interleave(block, 3), (0, time - blocks * block))


def split_heads(u, heads):
  """[B,T,C] as [B,H,T,C/H]."""
  return u.unflatten(2, (heads, u.shape[2] // heads)).transpose(1, 2)


def mix_attention(p, x, shifts, options):
  """Causal attention: dense, over the last `window` tokens, or over `top` blocks of `block` tokens; with rotary positions of
  base `rotary` where that is not 0. Of `shifts` only the number of heads counts."""
  heads, (batch, time, channels) = len(shifts), x.shape
  base, window, block = (options.get(name, 0) for name in ("rotary", "window", "block"))
  if not base and not block:
    return attend(p, x, heads, seen_keys(time, window, x.device).repeat(heads, 1, 1))
  q, k, v = (x @ p["project.weight"].T + p["project.bias"]).chunk(3, dim=2)
  if base:
    q, k = turned(q, heads, base), turned(k, heads, base)
  q, k, v = (split_heads(u, heads) for u in (q, k, v))
  scores = q @ k.transpose(2, 3) / math.sqrt(channels // heads)
  if block:
    seen = block_keys(q, k, block, options["top"], options.get("least_gap", 0.0))
  else:
    seen = seen_keys(time, window, x.device)
  mixed = scores.masked_fill(~seen, -math.inf).softmax(dim=3) @ v
  return mixed.transpose(1, 2).reshape(batch, time, channels) @ p["output.weight"].T + p["output.bias"]


def mix_ema(p, x, _shifts, _):
  """The damped moving average (arXiv 2209.10655) as the convolution that it is."""
  time, channels = x.shape[1:]
  a, d = torch.sigmoid(p["alpha"]), torch.sigmoid(p["delta"])
  steps = torch.arange(time, dtype=x.dtype, device=x.device)
  kernel = torch.einsum("nc,nct->ct", p["eta"] * a * p["beta"], (1 - a * d)[:, :, None] ** steps)
  padded = functional.pad(x.transpose(1, 2), (time - 1, 0))
  return functional.conv1d(padded, kernel.flip(1)[:, None, :], groups=channels).transpose(1, 2)


def mix_linear_attention(p, x, shifts, options):
  """Causal linear attention (arXiv 2006.16236), with the decay of retention (arXiv 2307.08621) where asked for, as a
  quadratic form; of `shifts` only the number of heads counts. hsm's features have a floor, far below those of usual keys."""
  heads, (batch, time, channels) = len(shifts), x.shape
  q, k, v = (split_heads(u, heads) for u in (x @ p["project.weight"].T + p["project.bias"]).chunk(3, dim=2))
  kept = torch.ones(heads, dtype=x.dtype, device=x.device)
  if options.get("decay"):
    kept = 1 - 2.0 ** (-5 - torch.arange(heads, dtype=x.dtype, device=x.device))
  places = torch.arange(time, device=x.device)
  behind = (places[:, None] - places[None, :]).clamp(min=0)
  weights = (functional.elu(q) + 1) @ (functional.elu(k) + 1).transpose(2, 3) * kept[:, None, None] ** behind
  weights = weights.tril()
  mixed = weights @ v / weights.sum(dim=3, keepdim=True)
  return mixed.transpose(1, 2).reshape(batch, time, channels) @ p["output.weight"].T + p["output.bias"]


def mix_hkt(p, x, shifts, _):
  """Causal attention over a hierarchy, in the manner of arXiv 2604.08829: scores of each level are a matrix of blocks, of
  which a matrix [T,T] takes what the last complete block of a query and the block of a key have together. Of `shifts` only
  the number of heads counts."""
  heads, (batch, time, channels) = len(shifts), x.shape
  q, k, v = (x @ p["project.weight"].T + p["project.bias"]).chunk(3, dim=2)
  share = p["lambda"].softmax(0)
  scores = share[0] * split_heads(q, heads) @ split_heads(k, heads).transpose(2, 3)
  places, blocks = torch.arange(time, device=x.device), x
  for l in range(1, len(share)):
    count = time // 2**l
    if not count:
      break
    taps = torch.stack([p[f"level{l}.a"], p[f"level{l}.b"]], dim=1)[:, None, :]
    blocks = functional.conv1d(blocks.transpose(1, 2), taps, stride=2, groups=channels).transpose(1, 2)
    q, k = (blocks @ p[f"level{l}.weight"].T + p[f"level{l}.bias"]).chunk(2, dim=2)
    products = split_heads(q, heads) @ split_heads(k, heads).transpose(2, 3)
    products = functional.pad(products, (0, 1, 1, 0))  # no query, no key: 0
    last, of = (places + 1) // 2**l, (places // 2**l).clamp(max=count)  # blocks that are complete; block of a key
    taken = products[:, :, last][:, :, :, of]
    scores = scores + share[l] * taken.masked_fill(of >= last[:, None], 0)
  scores = scores / math.sqrt(channels // heads)
  mixed = scores.masked_fill(~seen_keys(time, 0, x.device), -math.inf).softmax(dim=3) @ split_heads(v, heads)
  return mixed.transpose(1, 2).reshape(batch, time, channels) @ p["output.weight"].T + p["output.bias"]


MIXERS = {
    "ab": mix_ab,
    "channel": mix_channel,
    "matrix": mix_matrix,
    "gated": mix_gated,
    "gated-pair": mix_gated_pair,
    "fusion": mix_fusion,
    "softmax-local": mix_softmax_local,
    "ema": mix_ema,
    "linear-attention": mix_linear_attention,
    "attention": mix_attention,
    "hkt": mix_hkt,
}

# ----------------------------------------------------------------------------------------------------------- model


def register(module, name, parameter):
  """The parameter "a.b.c" as c of the submodule b of the submodule a, which are made where they are not there."""
  *path, last = name.split(".")
  for part in path:
    if part not in module._modules:
      module.add_module(part, torch.nn.Module())
    module = module._modules[part]
  module.register_parameter(last, parameter)


class LanguageModel(torch.nn.Module):
  """x = E[id] (+ P[t]);  per layer x += mix(norm(x)), x += W_2 gelu(W_1 norm(x) + b_1) + b_2;  logits = E norm(x). The names
  of state_dict() are those of the file. `tokenizer` is the SentencePiece model of the file, None where ids are bytes."""

  def __init__(self, config, tensors, tokenizer=None):
    super().__init__()
    self.config, self.tokenizer = config, tokenizer
    self.recipe = layers_of(config["layers"])
    unknown = {name for name, _ in self.recipe} - MIXERS.keys()
    if unknown:
      raise ValueError(f"the recipe must be of {', '.join(MIXERS)}, got {', '.join(sorted(unknown))}")
    for name, options in self.recipe:
      if name != "ema" and "heads" not in options:
        raise ValueError(f"the recipe must state every option, got {name} without heads: saved by hsm again it does")
    for name, value in tensors.items():
      register(self, name, torch.nn.Parameter(value))

  def shifts(self, l):
    """The distance of each head of layer l."""
    heads = self.recipe[l][1].get("heads", 1)
    return [shift(self.config["schedule"], len(self.recipe), l, h) for h in range(heads)]

  def mix(self, l, p, x):
    """What the mixer of layer l, with the tensors p, makes of x."""
    name, options = self.recipe[l]
    return MIXERS[name](p, x, self.shifts(l), options)

  def forward(self, ids):
    """Logits [B,T,V] after each token of ids [B,T]."""
    p = dict(self.named_parameters())

    def part(prefix):
      return {name[len(prefix):]: value for name, value in p.items() if name.startswith(prefix)}

    def normed(x, own):
      return functional.layer_norm(x, [self.config["width"]], own["gain"], own["bias"], 1e-5)

    x = p["embedding.weight"][ids]
    if self.config["positions"] == "learned":
      if ids.shape[1] > self.config["context"]:
        raise ValueError(f"the model has learned {self.config['context']} positions, got {ids.shape[1]} tokens")
      x = x + p["positions.weight"][:ids.shape[1]]
    for l in range(len(self.recipe)):
      net = part(f"layers.{l}.feed_forward.")
      x = x + self.mix(l, part(f"layers.{l}.mixer."), normed(x, part(f"layers.{l}.mixer_norm.")))
      y = normed(x, part(f"layers.{l}.feed_forward_norm."))
      y = functional.gelu(functional.linear(y, net["up.weight"], net["up.bias"]), approximate="tanh")
      x = x + functional.linear(y, net["down.weight"], net["down.bias"])
    return normed(x, part("norm.")) @ p["embedding.weight"].T


# ----------------------------------------------------------------------------------------------------------- files

KINDS = {"F64": (torch.float64, "d"), "F32": (torch.float32, "f"), "I64": (torch.int64, "q"), "I32": (torch.int32, "i"), "I16": (torch.int16, "h"),
         "U8": (torch.uint8, "B"), "I8": (torch.int8, "b")}


def to_bytes(tensor):
  """The values of a tensor, row-major and little-endian, and what safetensors calls their type."""
  kind = next(name for name, (dtype, _) in KINDS.items() if dtype == tensor.dtype)
  values = array.array(KINDS[kind][1], tensor.detach().flatten().tolist())
  if sys.byteorder == "big":
    values.byteswap()
  return kind, values.tobytes()


def from_bytes(kind, shape, data):
  """The tensor in these bytes; BF16 becomes float."""
  if kind == "BF16":
    halves = array.array("H", data)
    if sys.byteorder == "big":
      halves.byteswap()
    bits = torch.tensor(halves.tolist(), dtype=torch.int64) << 16
    return torch.where(bits >= 2**31, bits - 2**32, bits).int().view(torch.float32).reshape(shape)
  if kind == "F16":
    return from_bytes("I16", shape, data).view(torch.float16)
  if kind not in KINDS:
    raise ValueError(f"tensors must be of {', '.join(KINDS)}, F16 or BF16, got {kind}")
  dtype, code = KINDS[kind]
  values = array.array(code, data)
  if sys.byteorder == "big":
    values.byteswap()
  return torch.tensor(values.tolist(), dtype=dtype).reshape(shape)


def encode(tensors, metadata):
  """A safetensors file: 8 bytes with the length of the header, a JSON header, the values of the tensors."""
  header, blocks, place = {"__metadata__": metadata}, [], 0
  for name, tensor in tensors.items():
    kind, block = to_bytes(tensor)
    blocks.append(block)
    header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [place, place + len(block)]}
    place += len(block)
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  return struct.pack("<Q", len(text)) + text + b"".join(blocks)


def decode(data):
  """(tensors, metadata) of such a file. Throws ValueError for bytes that are none, or not all of it."""
  length = int.from_bytes(data[:8], "little")
  if len(data) < 8 or length > len(data) - 8:
    raise ValueError(f"must be a safetensors file, got {len(data)} bytes that begin with {data[:8]}")
  header = json.loads(data[8:8 + length])
  metadata = header.pop("__metadata__", {})
  values = data[8 + length:]
  expected = max((info["data_offsets"][1] for info in header.values()), default=0)
  if len(values) != expected:
    raise ValueError(f"must have {expected} bytes of tensors, got {len(values)}")
  tensors = {name: from_bytes(info["dtype"], info["shape"], values[slice(*info["data_offsets"])])
             for name, info in header.items()}
  return tensors, metadata


def widened(tensors, group):
  """8-bit matrices, a scale for each `group` values of a row, as what they are worth."""
  found = {}
  for name, value in tensors.items():
    if name.endswith(".scales"):
      continue
    scales = tensors.get(name + ".scales")
    if scales is not None:
      value = value.float() * scales.repeat_interleave(group, 1)[:, :value.shape[1]]
    found[name] = value
  return found


def load(path, dtype=torch.float32):
  """The model in a file that hsm wrote. Throws ValueError for another kind of file."""
  try:
    tensors, metadata = decode(pathlib.Path(path).read_bytes())
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  if metadata.get("format") != "hsm-language-model":
    raise ValueError(f"{path}: the format must be hsm-language-model, got {metadata.get('format')}")
  tokenizer = tensors.pop("tokenizer.model", None)
  if metadata.get("storage") == "int8":
    tensors = widened(tensors, int(metadata["storage.group"]))
  tensors = {name: value.to(dtype) for name, value in tensors.items()}
  pieces = None if tokenizer is None else bytes(tokenizer.tolist())
  return LanguageModel(json.loads(metadata["config"]), tensors, pieces)


def save(path, model):
  """Writes the weights as a file that hsm reads; those of less than 32 bits as floats."""
  metadata = {"format": "hsm-language-model", "version": "1", "config": json.dumps(model.config)}
  tensors = {name: value.detach().cpu() for name, value in model.named_parameters()}
  tensors = {name: value if value.element_size() >= 4 else value.float() for name, value in tensors.items()}
  if model.tokenizer is not None:
    raise ValueError("save: a model of bytes is written, got one with SentencePiece pieces")
  pathlib.Path(path).write_bytes(encode(tensors, metadata))


# --------------------------------------------------------------------------------------------------------- program


def continued(model, text, tokens):
  """The bytes `text` with so many more behind them, each the most probable one."""
  if not text:
    raise ValueError("there must be at least 1 byte to go on from, got none")
  ids = list(text)
  with torch.no_grad():
    for _ in range(tokens):
      ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
  return bytes(ids)


def loss_of(model, text, context):
  """Nats per byte of the bytes `text`, in windows of `context` that know nothing of each other."""
  if len(text) < 2:
    raise ValueError(f"a text must have at least 2 bytes for a loss, got {len(text)}")
  ids = torch.tensor(list(text))
  total = 0.0
  with torch.no_grad():
    for first in range(0, len(ids) - 1, context):
      row = ids[first:first + context + 1]
      total += functional.cross_entropy(model(row[None, :-1])[0], row[1:], reduction="sum").item()
  return total / (len(ids) - 1)


def count(text):
  """A whole number from 1 on, as an option."""
  if not text.isascii() or not text.isdigit() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
  return int(text)


def main():
  parser = argparse.ArgumentParser(description="Runs a model of hsm in PyTorch.", allow_abbrev=False)
  parser.add_argument("model")
  parser.add_argument("--prompt", help="text to go on from, each token the most probable one")
  parser.add_argument("--tokens", type=count, default=100)
  parser.add_argument("--text", help="instead: file whose loss is told, in nats per byte")
  parser.add_argument("--context", type=count, default=128, help="bytes of a window of --text")
  options = parser.parse_args()
  if (options.prompt is None) == (options.text is None):
    parser.error("takes --prompt or --text")
  try:
    run(options)
  except (OSError, ValueError) as error:
    sys.exit(f"hsm_torch: {error}")


def run(options):
  """What the options ask for, on the standard output."""
  model = load(options.model)
  if model.tokenizer is not None:
    raise ValueError(f"{options.model}: must be a model of bytes to be run here; its pieces are in model.tokenizer")
  if options.prompt is not None:
    sys.stdout.buffer.write(continued(model, os.fsencode(options.prompt), options.tokens) + b"\n")
  else:
    print(f"{loss_of(model, pathlib.Path(options.text).read_bytes(), options.context):.4f} nats per byte")


if __name__ == "__main__":
  main()
