"""VSE++ in idiomatic PyTorch, float32: the peer that the Rust implementation is measured against.

`nn.GRU` on packed sequences sorted by length, autograd, `torch.optim.Adam`. Cosine similarity, no
caption projection. Letters: B pairs, T time steps, V vocabulary, E word dimension, D joint
dimension (= GRU hidden size), F image feature dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


def l2norm(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


class Vse(nn.Module):
    """An image tower (one linear map) and a text tower (word vectors, GRU), named as in the checkpoints."""

    def __init__(
        self,
        vocab_size: int,
        word_dim: int,
        embed_size: int,
        img_dim: int,
        num_layers: int = 1,
        no_imgnorm: bool = False,
    ) -> None:
        super().__init__()
        self.no_imgnorm = no_imgnorm
        self.img_enc = nn.ModuleDict({"fc": nn.Linear(img_dim, embed_size)})
        self.txt_enc = nn.ModuleDict(
            {
                "embed": nn.Embedding(vocab_size, word_dim),
                "rnn": nn.GRU(word_dim, embed_size, num_layers, batch_first=True),
            }
        )
        bound = math.sqrt(6.0) / math.sqrt(img_dim + embed_size)
        nn.init.uniform_(self.img_enc["fc"].weight, -bound, bound)
        nn.init.zeros_(self.img_enc["fc"].bias)
        nn.init.uniform_(self.txt_enc["embed"].weight, -0.1, 0.1)
        # nn.GRU draws every weight and both biases from U(-1/sqrt(D), 1/sqrt(D)) by itself.

    def embed_images(self, images: Tensor) -> Tensor:
        """[B, F] -> [B, D]"""
        f = self.img_enc["fc"](images)
        return f if self.no_imgnorm else l2norm(f)

    def embed_captions(self, captions: Tensor, lengths: Tensor) -> Tensor:
        """[B, T] token ids, longest caption first -> [B, D]"""
        words = self.txt_enc["embed"](captions)
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=True)
        _, last_states = self.txt_enc["rnn"](packed)
        return l2norm(last_states[-1])


def vse_of(tensors: dict[str, Tensor]) -> Vse:
    """The model whose parameters are among these tensors, under their names in the checkpoints."""
    vocab_size, word_dim = tensors["txt_enc.embed.weight"].shape
    embed_size, img_dim = tensors["img_enc.fc.weight"].shape
    model = Vse(vocab_size, word_dim, embed_size, img_dim)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    return model


def hinge_loss(scores: Tensor, margin: float, max_violation: bool) -> Tensor:
    """Sum over the batch; scores [B, B] with images as rows and the right pairs on the diagonal."""
    own = scores.diagonal()
    diagonal = torch.eye(len(own), dtype=torch.bool)
    cost_s = (margin + scores - own[:, None]).clamp(min=0).masked_fill(diagonal, 0)
    cost_im = (margin + scores - own[None, :]).clamp(min=0).masked_fill(diagonal, 0)
    if max_violation:
        return cost_s.max(dim=1).values.sum() + cost_im.max(dim=0).values.sum()
    return cost_s.sum() + cost_im.sum()


def train_step(
    model: Vse,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    captions: Tensor,
    lengths: Tensor,
    *,
    margin: float,
    max_violation: bool,
    grad_clip: float,
) -> float:
    """Forward, backward, clip, Adam; the loss before the step."""
    optimizer.zero_grad()
    scores = model.embed_images(images) @ model.embed_captions(captions, lengths).T
    loss = hinge_loss(scores, margin, max_violation)
    loss.backward()
    if grad_clip > 0:
        nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return loss.item()
