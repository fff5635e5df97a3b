"""A backend for the golden suites in PyTorch: nn.GRU, nn.Conv2d, nn.BatchNorm2d, autograd, torch.optim.Adam.

Run
    python -m pip install "torch>=2.6" numpy safetensors
    python pytorch_backend.py SUITE OUT [--device cpu|cuda] [--precision f64|f32|tf32|bf16] [--case ID ...]
                              [--channels-last]
    vsepp golden check OUT --suite SUITE --profile f64

SUITE holds manifest.json and one <id>.safetensors per case; OUT receives <id>.safetensors with the tensors
that such an implementation has. On CUDA nn.GRU is cuDNN's, so this tests cuDNN. Its gates are not visible
from outside, so their tensors are left out. --channels-last chooses how pictures and kernels lie in memory,
and with it the kernels of cuDNN; what is written has the suite's order either way.

Adapt
    Copy the file. To test your own layer, replace the module in `Vse` or in the program that uses it, and
    keep the rest. To test a whole model, keep `Record.keep`: it writes each tensor that it gets under its
    name, and the gradient under grad.<name>.

Precision
    f64   everything in double
    f32   everything in float; TF32 switched off, which for cuDNN's GRU is *on* by default
    tf32  float, matrix products and cuDNN in TF32 (CUDA only)
    bf16  parameters, normalisation, loss and Adam in float; matrix products in bfloat16: the linear
          maps and the scores under torch.autocast, the GRU by casting its weights and inputs (see
          `Setup.recurrent` for the reason). The output is float.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear as affine
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Tensors = dict[str, Tensor]
Config = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """The device and the type of the computation."""

    device: str
    precision: str
    channels_last: bool = False

    @property
    def memory(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "f64" else torch.float32

    def product(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """A matrix product: its operands in bfloat16 under bf16, its result in `dtype`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            return function(*inputs).to(self.dtype)

    def recurrent(self, module: nn.Module, *inputs: Tensor | PackedSequence) -> Any:
        """Runs nn.GRU or nn.GRUCell, under bf16 entirely in bfloat16, from and to parameters in float.

        It does not use autocast: on a CPU autocast leaves the states in float, and on CUDA it gives cuDNN's
        GRU float16 for any requested type (in PyTorch 2.15).
        """
        if self.precision != "bf16":
            return module(*inputs)
        weights = {name: p.bfloat16() for name, p in module.named_parameters()}
        return functional_call(module, weights, tuple(x.to(torch.bfloat16) for x in inputs))


class Record(dict[str, Tensor]):
    """The tensors to write."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensors = {}

    def keep(self, name: str, x: Tensor) -> Tensor:
        """Records an intermediate tensor and, later, its gradient."""
        x.retain_grad()
        self.kept[name] = self[name] = x
        return x

    def backward(self, loss: Tensor, **inputs: Tensor) -> None:
        """Runs backward; records the gradients of all kept tensors and of the given inputs."""
        loss.backward()
        self.kept |= {f"in.{name}": x for name, x in inputs.items()}
        self.update({f"grad.{name}": x.grad.clone() for name, x in self.kept.items()})

    def gradients(self, module: nn.Module, prefix: str = "") -> None:
        self.update({f"grad.{prefix}{name}": p.grad.clone() for name, p in module.named_parameters()})


# ---- What must be refused -------------------------------------------------------------------------


class Rejected(Exception):
    """The inputs are not valid; the message says why."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Rejected(message)


def require_finite(name: str, x: Tensor) -> None:
    require(bool(x.isfinite().all()), f"{name} is not finite")


def shapes(program: str, config: Config) -> dict[str, str]:
    """A program's inputs, with their shapes. Without a caption projection H is D."""
    joint = "D" if config.get("caption_projection") else "H"
    ids = {"image_ids": "B"} if config.get("mask_same_image") else {}
    rnn: dict[str, str] = {}
    for k in range(config.get("num_layers", 1)):
        rnn |= {f"txt_enc.rnn.weight_ih_l{k}": "3H H" if k else "3H E", f"txt_enc.rnn.weight_hh_l{k}": "3H H"}
        rnn |= {f"txt_enc.rnn.bias_ih_l{k}": "3H", f"txt_enc.rnn.bias_hh_l{k}": "3H"}
    match program:
        case "gru_cell":
            return {"x": "B E", "h": "B H", "d_h_next": "B H"} | rnn
        case "gru":
            return {"x": "B T E", "lengths": "B", "h0": "L B H", "d_last": "B H"} | rnn
        case "embedding":
            return {"captions": "B T", "lengths": "B", "d_words": "B T E", "txt_enc.embed.weight": "V E"}
        case "linear":
            return {"x": "N I", "d_y": "N O", "img_enc.fc.weight": "O I", "img_enc.fc.bias": "O"}
        case "l2norm":
            return {"x": "N D", "d_y": "N D"}
        case "scores":
            return {"image_embedding": "N D", "caption_embedding": "M D", "d_scores": "N M"}
        case "loss":
            return {"scores": "B B"} | ids
        case "model":
            image = {"images": "B F", "img_enc.fc.weight": f"{joint} F", "img_enc.fc.bias": joint}
            caption = {"captions": "B T", "lengths": "B", "txt_enc.embed.weight": "V E"} | rnn
            proj = {"txt_enc.proj.weight": "D H", "txt_enc.proj.bias": "D"} if joint == "D" else {}
            return image | caption | proj | ids
    return {}


def check(program: str, config: Config, given: Tensors, params: Tensors) -> None:
    """Refuses shapes that do not fit, lengths and word ids out of range, images that are not finite."""
    tensors = given | params
    sizes = {"L": config.get("num_layers", 1)}
    for name, letters in shapes(program, config).items():
        if name == "h0" and name not in given:
            continue  # then it is 0
        require(name in tensors, f"{name} is missing")
        shape, wanted = tuple(tensors[name].shape), letters.split()
        message = f"{name} has shape {shape}, expected [{', '.join(wanted)}] with {sizes}"
        require(len(shape) == len(wanted) and 0 not in shape, message)
        for size, letter in zip(shape, wanted, strict=True):
            factor = 3 if letter.startswith("3") else 1
            # The first tensor with a letter determines its size; the others must agree.
            require(size == factor * sizes.setdefault(letter.removeprefix("3"), size // factor), message)
    if "lengths" in given:
        low, high = int(given["lengths"].min()), int(given["lengths"].max())
        require(low >= 1 and high <= sizes["T"], f"lengths {low} to {high} are not within 1 to {sizes['T']}")
    if "captions" in given:  # also the ids of the padding, which may be any valid ids
        low, high = int(given["captions"].min()), int(given["captions"].max())
        require(low >= 0 and high < sizes["V"], f"word ids {low} to {high} are not within 0 to {sizes['V'] - 1}")
    if "images" in given:
        require_finite("images", given["images"])


# ---- Parts that several programs use --------------------------------------------------------------


def filled(module: nn.Module, params: Tensors, setup: Setup, prefix: str = "") -> Any:
    """The module on the chosen device, in the chosen type, with the parameters of the case."""
    module.to(setup.device, setup.dtype, memory_format=setup.memory)
    module.load_state_dict({name.removeprefix(prefix): p for name, p in params.items()})
    return module


def normalise(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Norms [N] and rows of length 1. functional.normalize is not used, because it has an epsilon."""
    norm = torch.linalg.vector_norm(x, dim=1)
    require(bool((norm > 0).all()), f"{name} has a row of zeros")
    require_finite(name, norm)
    return norm, x / norm[:, None]


def similarity(f: Tensor, g: Tensor, measure: str, setup: Setup) -> Tensor:
    """Scores of images f (rows) and captions g (columns)."""
    if measure == "cosine":
        scores = setup.product(lambda f, g: f @ g.T, f, g)
    else:
        violation = (g[None, :, :] - f[:, None, :]).relu()
        # vector_norm has gradient 0 at 0, where sum().sqrt() would give NaN.
        order = measure == "order"
        scores = -torch.linalg.vector_norm(violation, dim=2) if order else -violation.square().sum(dim=2)
    require_finite("scores", scores)
    return scores


def hinge_loss(record: Record, scores: Tensor, config: Config, given: Tensors) -> Tensor:
    """SH, MH, the k hardest, log-sum-exp or semi-hard negatives, summed over the batch."""
    require_finite("scores", scores)
    everyone = torch.arange(len(scores), device=scores.device)
    excluded = everyone[:, None] == everyone[None, :]
    if config["mask_same_image"]:
        excluded = excluded | (given["image_ids"][:, None] == given["image_ids"][None, :])

    right = scores.diagonal()
    # At a hinge of exactly 0, relu has gradient 0, as the specification demands.
    cost_s = (config["margin"] + scores - right[:, None]).relu().masked_fill(excluded, 0)
    cost_im = (config["margin"] + scores - right[None, :]).relu().masked_fill(excluded, 0)
    if config.get("semi_hard"):
        cost_s = cost_s.masked_fill(scores >= right[:, None], 0)
        cost_im = cost_im.masked_fill(scores >= right[None, :], 0)
    active_s, active_im = cost_s > 0, cost_im > 0
    if "temperature" in config:
        loss = log_sum_exp(record, scores, config, excluded)
    elif "hardest" in config:
        # A stable sort puts the first of equal costs first; topk does not say which it takes.
        rank_s = cost_s.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        rank_im = cost_im.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
        active_s = active_s & (rank_s < config["hardest"])
        active_im = active_im & (rank_im < config["hardest"])
        loss = (cost_s * active_s).sum() + (cost_im * active_im).sum()
    elif config["max_violation"]:
        # Among equal costs max(dim) takes the first and gives it the whole gradient; amax would share it.
        worst_s, hardest_s = cost_s.max(dim=1)
        worst_im, hardest_im = cost_im.max(dim=0)
        active_s = active_s & (everyone[None, :] == hardest_s[:, None])
        active_im = active_im & (everyone[:, None] == hardest_im[None, :])
        record["mid.hardest_s"] = hardest_s.where(worst_s > 0, -1)
        record["mid.hardest_im"] = hardest_im.where(worst_im > 0, -1)
        loss = worst_s.sum() + worst_im.sum()
    else:
        loss = cost_s.sum() + cost_im.sum()
    record |= {"mid.cost_s": cost_s, "mid.cost_im": cost_im}
    if "temperature" not in config:
        record |= {"mid.active_s": active_s.to(torch.uint8), "mid.active_im": active_im.to(torch.uint8)}
    record["out.loss"] = loss.reshape(1)
    return loss


def log_sum_exp(record: Record, scores: Tensor, config: Config, excluded: Tensor) -> Tensor:
    """[τ ln Σ exp((α + S − d) / τ)]₊ of every row and every column, and the weights of what it is made of."""
    tau, right = config["temperature"], scores.diagonal()
    loss = scores.new_zeros(())
    for side, dim, d in (("s", 1, right[:, None]), ("im", 0, right[None, :])):
        scaled = ((config["margin"] + scores - d) / tau).masked_fill(excluded, -math.inf)
        values = (tau * scaled.logsumexp(dim)).relu()
        record[f"mid.weight_{side}"] = scaled.softmax(dim).where((values > 0).unsqueeze(dim), 0)
        loss = loss + values.sum()
    return loss


def adam(params: list[Tensor], config: Config) -> torch.optim.Adam:
    return torch.optim.Adam(params, lr=config["learning_rate"], betas=(0.9, 0.999), eps=1e-8)


def clip(params: list[Tensor], limit: float) -> Tensor:
    """Clips the gradients by their global norm, unless the limit is 0; returns the norm before."""
    if limit > 0:
        return clip_grad_norm_(params, limit)
    return get_total_norm([p.grad for p in params])


def optimiser_tensors(optimizer: torch.optim.Adam, params: Tensors) -> Tensors:
    tensors: Tensors = {}
    for name, p in params.items():
        state = optimizer.state[p]
        tensors |= {f"opt.m.{name}": state["exp_avg"], f"opt.v.{name}": state["exp_avg_sq"], f"opt.param.{name}": p}
    return tensors


# ---- Programs: config, in.*, param.* (without their prefixes) → mid.*, out.*, grad.*, opt.* --------


def gru_cell(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    x, h, d_next = given["x"].requires_grad_(), given["h"].requires_grad_(), given["d_h_next"]

    # nn.GRUCell gives the result and the gradients of its inputs.
    record, weights = Record(), {name.removesuffix("_l0"): p for name, p in params.items()}
    cell = filled(nn.GRUCell(x.shape[1], h.shape[1]), weights, setup, "txt_enc.rnn.")
    record["out.h_next"] = setup.recurrent(cell, x, h).to(setup.dtype)
    record.backward((record["out.h_next"] * d_next).sum(), x=x, h=h)
    record |= {f"grad.txt_enc.rnn.{name}_l0": p.grad.clone() for name, p in cell.named_parameters()}

    # It hides its gates; these lines compute them.
    gates = Record()
    a = gates.keep("mid.a", setup.product(affine, x, cell.weight_ih, cell.bias_ih))
    c = gates.keep("mid.c", setup.product(affine, h, cell.weight_hh, cell.bias_hh))
    (a_r, a_z, a_n), (c_r, c_z, c_n) = a.chunk(3, dim=1), c.chunk(3, dim=1)
    r = gates.keep("mid.r", (a_r + c_r).sigmoid())
    z = gates.keep("mid.z", (a_z + c_z).sigmoid())
    n = gates.keep("mid.n", (a_n + r * c_n).tanh())
    gates.backward((((1 - z) * n + z * h) * d_next).sum())
    return record | gates


def gru(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    x, hidden, layers = given["x"].requires_grad_(), given["d_last"].shape[1], config["num_layers"]
    states = {"h0": given["h0"].requires_grad_()} if "h0" in given else {}  # without one, PyTorch begins with 0
    record = Record()
    rnn = filled(nn.GRU(x.shape[2], hidden, layers, batch_first=True), params, setup, "txt_enc.rnn.")
    # Packing takes only the valid steps: nothing after a caption's end is ever read.
    packed = pack_padded_sequence(x, given["lengths"].cpu(), batch_first=True, enforce_sorted=False)
    outputs, last = setup.recurrent(rnn, packed, *states.values())
    record[f"mid.l{layers - 1}.h"] = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0]
    record["out.last"] = last[-1].to(setup.dtype)
    record.backward((record["out.last"] * given["d_last"]).sum(), x=x, **states)
    record.gradients(rnn, "txt_enc.rnn.")
    return record


def embedding(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    captions, d_words = given["captions"], given["d_words"]
    record = Record()
    embed = filled(nn.Embedding(*params["txt_enc.embed.weight"].shape), params, setup, "txt_enc.embed.")
    words = record["mid.words"] = embed(captions)
    valid = torch.arange(captions.shape[1], device=captions.device)[None, :] < given["lengths"][:, None]
    record.backward((words[valid] * d_words[valid]).sum())
    record.gradients(embed, "txt_enc.embed.")
    return record


def linear(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    x = given["x"].requires_grad_()
    record = Record()
    fc = filled(nn.Linear(x.shape[1], given["d_y"].shape[1]), params, setup, "img_enc.fc.")
    record["out.y"] = setup.product(fc, x)
    record.backward((record["out.y"] * given["d_y"]).sum(), x=x)
    record.gradients(fc, "img_enc.fc.")
    return record


def l2norm(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    x = given["x"].requires_grad_()
    record = Record()
    record["mid.norm"], record["out.y"] = normalise(x, "x")
    record.backward((record["out.y"] * given["d_y"]).sum(), x=x)
    return record


def scores(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    f, g = given["image_embedding"].requires_grad_(), given["caption_embedding"].requires_grad_()
    record = Record()
    record["out.scores"] = similarity(f, g, config["measure"], setup)
    record.backward((record["out.scores"] * given["d_scores"]).sum(), image_embedding=f, caption_embedding=g)
    return record


def loss(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    record, s = Record(), given["scores"].requires_grad_()
    record.backward(hinge_loss(record, s, config, given), scores=s)
    return record


def optimiser(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    params = {name: nn.Parameter(p) for name, p in params.items()}
    optimizer = adam(list(params.values()), config)
    for name, p in params.items():
        require(given[f"grad.{name}"].shape == (config["steps"], *p.shape), f"grad.{name} does not fit {name}")
        require_finite(f"grad.{name}", given[f"grad.{name}"])
        if "step" in given:  # continues from a given state
            m, v = given[f"m.{name}"], given[f"v.{name}"]
            require(m.shape == p.shape == v.shape, f"the moments of {name} do not fit it")
            optimizer.state[p] = {"step": torch.tensor(float(given["step"][0])), "exp_avg": m, "exp_avg_sq": v}

    norms, limit = [], config["grad_clip"]
    for k in range(config["steps"]):
        for name, p in params.items():
            p.grad = given[f"grad.{name}"][k].clone()
        norms.append(clip(list(params.values()), limit))
        optimizer.step()
    norms = torch.stack(norms)
    coefficients = (limit / (norms + 1e-6)).clamp(max=1) if limit > 0 else torch.ones_like(norms)
    return {"opt.norms": norms, "opt.clip": coefficients} | optimiser_tensors(optimizer, params)


class Vse(nn.Module):
    """The whole model; its parameters have the names of the suite."""

    def __init__(self, params: Tensors, config: Config, setup: Setup) -> None:
        super().__init__()
        self.config, self.setup = config, setup
        joint, features = params["img_enc.fc.weight"].shape
        vocabulary, width = params["txt_enc.embed.weight"].shape
        hidden = params["txt_enc.rnn.weight_hh_l0"].shape[1]
        self.img_enc = nn.ModuleDict({"fc": nn.Linear(features, joint)})
        self.txt_enc = nn.ModuleDict({"embed": nn.Embedding(vocabulary, width)})
        self.txt_enc["rnn"] = nn.GRU(width, hidden, config["num_layers"], batch_first=True)
        if config["caption_projection"]:
            self.txt_enc["proj"] = nn.Linear(hidden, joint)
        filled(self, params, setup)

    def joint_space(self, record: Record, side: str, x: Tensor, unit: bool) -> Tensor:
        if unit:
            record[f"mid.{side}.norm"], x = normalise(x, side)
        if self.config["use_abs"]:
            x = record.keep(f"mid.{side}.unit", x).abs()
        return record.keep(f"out.{side}_embedding", x)

    def forward(self, given: Tensors) -> tuple[Tensor, Record]:
        record, config, setup = Record(), self.config, self.setup
        x = record.keep("mid.image.projected", setup.product(self.img_enc["fc"], given["images"]))
        f = self.joint_space(record, "image", x, not config["no_imgnorm"])

        lengths, steps = given["lengths"].cpu(), given["captions"].shape[1]
        words = record.keep("mid.words", self.txt_enc["embed"](given["captions"]))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        states, last = setup.recurrent(self.txt_enc["rnn"], packed)
        top = f"mid.l{config['num_layers'] - 1}.h"
        record[top] = pad_packed_sequence(states, batch_first=True, total_length=steps)[0]
        x = record.keep("mid.last", last[-1].to(setup.dtype))
        if config["caption_projection"]:
            x = record.keep("mid.caption.projected", setup.product(self.txt_enc["proj"], x))
        g = self.joint_space(record, "caption", x, True)

        s = record.keep("out.scores", similarity(f, g, config["measure"], setup))
        return hinge_loss(record, s, config, given), record


def model(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    vse = Vse(params, config, setup)
    given["images"].requires_grad_()
    value, record = vse(given)
    record.backward(value, images=given["images"])
    record.gradients(vse)

    if config["steps"] > 0:
        named = dict(vse.named_parameters())
        optimizer = adam(list(named.values()), config)
        losses, norms = [], []
        for _ in range(config["steps"]):
            optimizer.zero_grad()
            value, _ = vse(given)
            value.backward()
            losses.append(value.detach())
            norms.append(clip(list(named.values()), config["grad_clip"]))
            optimizer.step()
        record |= {"opt.losses": torch.stack(losses), "opt.norms": torch.stack(norms)}
        record |= optimiser_tensors(optimizer, named)
    return record


# ---- Programs of pictures -------------------------------------------------------------------------


def run(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """A layer's result. PyTorch refuses what does not fit with errors of its own."""
    try:
        return function(*inputs)
    except (RuntimeError, ValueError) as e:
        raise Rejected(str(e)) from e


def layer_of(
    config: Config, given: Tensors, setup: Setup, layer: nn.Module, record: Record, product: bool = False
) -> Record:
    """y, and the gradients of the parameters and of x."""
    x = given["x"].requires_grad_()
    record["out.y"] = run(setup.product, layer, x) if product else run(layer, x)
    record.backward((record["out.y"] * given["d_y"]).sum(), x=x)
    record.gradients(layer)
    return record


def convolution(weight: Tensor, stride: int, padding: int | None = None, bias: bool = False) -> nn.Conv2d:
    """The module for a weight. Unless the padding is given, a kernel of 3 x 3 keeps the size of a picture."""
    outputs, inputs, *kernel = weight.shape
    padding = kernel[0] // 2 if padding is None else padding
    return nn.Conv2d(inputs, outputs, tuple(kernel), stride, padding, bias=bias)


def conv(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    module = convolution(params["weight"], config["stride"], config["padding"], "bias" in params)
    return layer_of(config, given, setup, filled(module, params, setup), Record(), product=True)


def keep_statistics(record: Record, name: str, x: Tensor, norm: nn.BatchNorm2d) -> None:
    """The statistics of the batch, which the module does not show, and what the running ones have become."""
    if norm.training:
        axes, name = (0, 2, 3), name and f"{name}."
        record |= {f"mid.{name}mean": x.mean(axes), f"mid.{name}var": x.var(axes, correction=0)}
        record |= {f"out.{name}running_mean": norm.running_mean, f"out.{name}running_var": norm.running_var}


def batch_norm(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    norm = filled(nn.BatchNorm2d(len(params["weight"])), params, setup).train(config["training"])
    record = layer_of(config, given, setup, norm, Record())
    keep_statistics(record, "", given["x"], norm)
    return record


def max_pool(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    record = Record()
    pool = nn.MaxPool2d(config["kernel"], config["stride"], config["padding"], return_indices=True)

    def first(x: Tensor) -> Tensor:
        y, record["mid.index"] = pool(x)
        return y

    x = given["x"].requires_grad_()
    record["out.y"] = run(first, x)
    record.backward((record["out.y"] * given["d_y"]).sum(), x=x)
    return record


def avg_pool(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    return layer_of(config, given, setup, nn.AdaptiveAvgPool2d(config["size"]), Record())


class Block(nn.Module):
    """A residual block with torchvision's names. It adds its own tensors to a record, under its path in a network."""

    def __init__(self, params: Tensors, path: str, strides: list[int], setup: Setup) -> None:
        super().__init__()
        self.setup, self.path, self.count, self.stride = setup, path, len(strides), math.prod(strides)
        for k, stride in enumerate(strides, 1):
            weight = params[f"{path}conv{k}.weight"]
            self.add_module(f"conv{k}", convolution(weight, stride))
            self.add_module(f"bn{k}", nn.BatchNorm2d(len(weight)))
        if f"{path}downsample.0.weight" in params:
            weight = params[f"{path}downsample.0.weight"]
            self.downsample = nn.Sequential(convolution(weight, self.stride), nn.BatchNorm2d(len(weight)))

    def forward(self, record: Record, x: Tensor) -> Tensor:
        h = x
        for k in range(1, self.count + 1):
            r = stage(self, record, f"conv{k}", f"bn{k}", h)
            h = record.keep(f"mid.{self.path}relu{k}", r.relu()) if k < self.count else r
        if hasattr(self, "downsample"):
            x = stage(self, record, "downsample.0", "downsample.1", x)
        else:  # x itself, or every stride-th pixel and channels of zeros
            channels = (h.shape[1] - x.shape[1]) // 2
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, channels, channels))
        return record.keep(f"mid.{self.path}sum", h + x).relu()


def stage(module: Any, record: Record, conv: str, norm: str, x: Tensor) -> Tensor:
    """A convolution of a module and its norm."""
    convolved = record.keep(f"mid.{module.path}{conv}", module.setup.product(module.get_submodule(conv), x))
    r = record.keep(f"mid.{module.path}{norm}", module.get_submodule(norm)(convolved))
    keep_statistics(record, f"{module.path}{norm}", convolved, module.get_submodule(norm))
    return r


def block(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    record, x = Record(), given["x"].requires_grad_()
    module = filled(Block(params, "", config["strides"], setup), params, setup).train(config["training"])
    record["out.y"] = run(module, record, x)
    record.backward((record["out.y"] * given["d_y"]).sum(), x=x)
    record.gradients(module)
    return record


class ResNet(nn.Module):
    """A small residual network with torchvision's names, without its last layer."""

    def __init__(self, params: Tensors, config: Config, setup: Setup) -> None:
        super().__init__()
        self.setup, self.path, self.pool = setup, "", config["pool"]
        self.conv1 = convolution(params["conv1.weight"], config["stride"])
        self.bn1 = nn.BatchNorm2d(len(params["conv1.weight"]))
        ones = [1] * len(config["strides"])
        for layer, count in enumerate(config["layers"], 1):
            strides = [config["strides"] if layer > 1 and k == 0 else ones for k in range(count)]
            blocks = [Block(params, f"layer{layer}.{k}.", strides[k], setup) for k in range(count)]
            self.add_module(f"layer{layer}", nn.Sequential(*blocks))

    def forward(self, record: Record, x: Tensor) -> Tensor:
        h = record.keep("mid.relu1", stage(self, record, "conv1", "bn1", x).relu())
        if self.pool:
            h = record.keep("mid.maxpool", nn.functional.max_pool2d(h, 3, stride=2, padding=1))
        for block in self.modules():
            if isinstance(block, Block):
                h = record.keep(f"mid.{block.path}y", block(record, h))
        return nn.functional.adaptive_avg_pool2d(h, 1).flatten(1)


class Vgg(nn.Module):
    """A small VGG with torchvision's names, without its last layer and without dropout."""

    def __init__(self, params: Tensors, config: Config, setup: Setup) -> None:
        super().__init__()
        self.setup, self.features, self.avgpool = setup, nn.Sequential(), nn.AdaptiveAvgPool2d(7)
        for count in config["layers"]:
            for _ in range(count):
                weight = params[f"features.{len(self.features)}.weight"]
                self.features += nn.Sequential(convolution(weight, 1, bias=True), nn.ReLU())
            self.features.append(nn.MaxPool2d(2))
        linear = {k: nn.Linear(*reversed(params[f"classifier.{k}.weight"].shape)) for k in (0, 3)}
        self.classifier = nn.Sequential(linear[0], nn.ReLU(), nn.Identity(), linear[3], nn.ReLU())

    def forward(self, record: Record, x: Tensor) -> Tensor:
        for k, module in enumerate(self.features):
            x = record.keep(f"mid.features.{k}", self.setup.product(module, x))
        x = record.keep("mid.avgpool", self.avgpool(x)).flatten(1)
        for k, module in enumerate(self.classifier):
            x = self.setup.product(module, x)
            if k in (0, 1, 3):
                record.keep(f"mid.classifier.{k}", x)
        return x


def encoder(module: nn.Module, given: Tensors, params: Tensors, setup: Setup, training: bool) -> Tensors:
    record, x = Record(), given["x"].requires_grad_()
    filled(module, params, setup).train(training)
    record["out.phi"] = run(module, record, x)
    record.backward((record["out.phi"] * given["d_phi"]).sum(), x=x)
    record.gradients(module)
    return record


def resnet(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    return encoder(ResNet(params, config, setup), given, params, setup, config["training"])


def vgg(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    return encoder(Vgg(params, config, setup), given, params, setup, False)


OF_CAPTIONS = (gru_cell, gru, embedding, linear, l2norm, scores, loss, optimiser, model)
OF_PICTURES = (conv, batch_norm, max_pool, avg_pool, block, resnet, vgg)
PROGRAMS: dict[str, Callable[[Config, Tensors, Tensors, Setup], Tensors]] = {
    program.__name__: program for program in OF_CAPTIONS + OF_PICTURES
}


# ---- Files ----------------------------------------------------------------------------------------


def load(path: Path, setup: Setup) -> tuple[Tensors, Tensors]:
    """in.* and param.*, without their prefixes, on the chosen device and in the chosen type."""
    given, params = {}, {}
    for name, x in load_file(path).items():
        x = x.to(setup.device, setup.dtype) if x.is_floating_point() else x.to(setup.device)
        x = x.to(memory_format=setup.memory) if x.dim() == 4 else x
        if name.startswith("in."):
            given[name.removeprefix("in.")] = x
        elif name.startswith("param."):
            params[name.removeprefix("param.")] = x
    return given, params


def save(path: Path, tensors: Tensors, setup: Setup) -> None:
    tensors = {name: x.detach().cpu() for name, x in tensors.items()}
    tensors = {name: x.to(setup.dtype) if x.is_floating_point() else x for name, x in tensors.items()}
    save_file({name: x.clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="compute the golden suite in PyTorch")
    parser.add_argument("suite", type=Path, help="the folder with manifest.json")
    parser.add_argument("out", type=Path, help="where to write <id>.safetensors")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["f64", "f32", "tf32", "bf16"], default="f64")
    parser.add_argument("--channels-last", action="store_true", help="pictures and kernels in this order in memory")
    parser.add_argument("--case", nargs="+", metavar="ID", help="only these cases")
    args = parser.parse_args()
    if args.precision == "tf32" and args.device == "cpu":
        print("tf32 exists on CUDA only: a CPU has no TF32", file=sys.stderr)
        sys.exit(2)
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    setup = Setup(args.device, args.precision, args.channels_last)
    args.out.mkdir(parents=True, exist_ok=True)

    for case in json.loads((args.suite / "manifest.json").read_text())["cases"]:
        name = case["id"]
        if args.case and name not in args.case:
            continue
        if case["program"] not in PROGRAMS:
            print(f"{name}: skipped, no program {case['program']}")
            continue
        given, params = load(args.suite / f"{name}.safetensors", setup)
        try:
            check(case["program"], case["config"], given, params)
            tensors = PROGRAMS[case["program"]](case["config"], given, params, setup)
            print(f"{name}: {len(tensors)} tensors")
        except Rejected as reason:
            tensors = {"out.rejected": torch.ones(1, dtype=torch.uint8)}
            print(f"{name}: rejected, {reason}")
        save(args.out / f"{name}.safetensors", tensors, setup)


if __name__ == "__main__":
    main()
