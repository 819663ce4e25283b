"""The Qwen3 dense architecture in PyTorch, small, with the initialisation and the optimiser that suit it.

Imported by train_demo.py; needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Shape:
    vocabulary: int = 1280
    width: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    feed_forward: int = 384
    context: int = 4096  # the longest training sequences count to 1,000
    rope_base: float = 1e6
    epsilon: float = 1e-6


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions over the two halves of a head, as llama.cpp does it for qwen3; [B, T, H, D] to [B, H, T, D]."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).transpose(1, 2)


class Block(nn.Module):
    """Attention with normalised queries and keys, then SwiGLU; both residual. The names are GGUF's."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        self.attn_norm = nn.Parameter(torch.ones(shape.width))
        self.ffn_norm = nn.Parameter(torch.ones(shape.width))
        self.attn_q_norm = nn.Parameter(torch.ones(shape.head_width))
        self.attn_k_norm = nn.Parameter(torch.ones(shape.head_width))
        self.attn_q = nn.Parameter(torch.empty(queries, shape.width))
        self.attn_k = nn.Parameter(torch.empty(keys, shape.width))
        self.attn_v = nn.Parameter(torch.empty(keys, shape.width))
        self.attn_output = nn.Parameter(torch.empty(shape.width, queries))
        self.ffn_gate = nn.Parameter(torch.empty(shape.feed_forward, shape.width))
        self.ffn_up = nn.Parameter(torch.empty(shape.feed_forward, shape.width))
        self.ffn_down = nn.Parameter(torch.empty(shape.width, shape.feed_forward))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        batch, length, _ = x.shape
        h = rms_norm(x, self.attn_norm, shape.epsilon)
        q = functional.linear(h, self.attn_q).view(batch, length, shape.heads, shape.head_width)
        k = functional.linear(h, self.attn_k).view(batch, length, shape.kv_heads, shape.head_width)
        v = functional.linear(h, self.attn_v).view(batch, length, shape.kv_heads, shape.head_width).transpose(1, 2)
        q = rotate(rms_norm(q, self.attn_q_norm, shape.epsilon), cos, sin)
        k = rotate(rms_norm(k, self.attn_k_norm, shape.epsilon), cos, sin)
        with torch.autocast("cpu", enabled=False):  # attention's backward pass in bfloat16 failed on the CPU
            y = functional.scaled_dot_product_attention(
                q.float(), k.float(), v.float(), is_causal=True, enable_gqa=True
            )
        y = y.to(x.dtype).transpose(1, 2).reshape(batch, length, shape.heads * shape.head_width)
        x = x + functional.linear(y, self.attn_output)
        h = rms_norm(x, self.ffn_norm, shape.epsilon)
        return x + functional.linear(
            functional.silu(functional.linear(h, self.ffn_gate)) * functional.linear(h, self.ffn_up), self.ffn_down
        )


class Qwen3(nn.Module):
    """Token ids [B, T] to hidden states [B, T, width]; the embedding doubles as the output matrix."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.Parameter(torch.ones(shape.width))
        angles = torch.arange(shape.context).float()[:, None] * rope_frequencies(shape)
        self.register_buffer("cos", angles.cos()[None, :, None, :], persistent=False)
        self.register_buffer("sin", angles.sin()[None, :, None, :], persistent=False)

    def forward(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        length = ids.shape[1]
        x = functional.embedding(ids, self.token_embd).to(dtype)
        cos, sin = self.cos[:, :length].to(dtype), self.sin[:, :length].to(dtype)
        for block in self.blk:
            x = block(x, cos, sin)
        return rms_norm(x, self.output_norm, self.shape.epsilon)


def rope_frequencies(shape: Shape) -> Tensor:
    return shape.rope_base ** (-torch.arange(0, shape.head_width, 2).float() / shape.head_width)


@torch.no_grad()
def initialise(model: Qwen3, scale: float = 0.25, sharpness: float = 1.7, matching: tuple[int, ...] = (1, 2)) -> None:
    """Random weights with the two parts of copying laid in: a head that sees the previous token, and in the `matching`
    layers heads that look for what followed the current token before (induction). From plain random weights copying
    does not appear within a small token budget. Needs kv_heads * head_width == width.
    """
    shape = model.shape
    width, head, group = shape.width, shape.head_width, shape.heads // shape.kv_heads
    for block in model.blk:
        for name, weight in block.named_parameters():
            if weight.ndim == 2:
                deep = (2 * shape.layers) ** -0.5 if name in ("attn_output", "ffn_down") else 1.0
                nn.init.normal_(weight, std=0.5 * deep * weight.shape[1] ** -0.5)
        block.attn_q_norm.fill_(sharpness)
        block.attn_k_norm.fill_(sharpness)

    common = torch.randn(width)  # every embedding has this part: positions can be found by it
    common *= width**0.5 / common.norm()
    axis = common / common.norm()
    model.token_embd.copy_((torch.randn(shape.vocabulary, width) + common) * scale)
    model.output_norm.fill_(0.25 / scale)

    def orthogonal() -> Tensor:
        return torch.linalg.qr(torch.randn(width, width))[0]

    # Layer 0, first key-value head: the query is the common part rotated back by one position.
    frequencies = rope_frequencies(shape)
    fast = torch.zeros(head // 2)
    fast[:3] = 1
    key = torch.cat([fast, torch.zeros(head // 2)])
    query = torch.cat([fast * torch.cos(frequencies), -fast * torch.sin(frequencies)])
    first = model.blk[0]
    first.attn_k[:head] = key[:, None] * axis
    first.attn_q[: group * head] = (query[:, None] * axis).repeat(group, 1)
    identity = orthogonal()[:head]
    identity = identity - (identity @ axis)[:, None] * axis
    first.attn_v[:head] = identity
    previous = orthogonal()[:, :head]  # where the previous token's identity is written
    first.attn_output.mul_(0.3)
    first.attn_output[:, : group * head] = (previous * 1.4 * scale / group).repeat(1, group)

    slow = (frequencies < 0.04).float().repeat(2)[:, None]  # matching must not depend on the distance
    for layer in matching:
        block, out = model.blk[layer], orthogonal()
        for g in range(shape.kv_heads):
            basis = torch.randn(head, head) / head**0.5 * slow
            rows, heads = slice(g * head, (g + 1) * head), slice(g * group * head, (g + 1) * group * head)
            block.attn_k[rows] = basis @ previous.T
            block.attn_q[heads] = (basis @ identity).repeat(group, 1)
            block.attn_v[rows] = out[rows]
            block.attn_output[:, heads] = (out[rows].T * scale * 2.0 / group).repeat(1, group)


def orthogonalise(gradients: Tensor) -> Tensor:
    """Newton-Schulz iteration of Muon (Jordan et al. 2024) over a stack of matrices [N, rows <= columns]."""
    x = gradients.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        z = x @ x.mT
        x = 3.4445 * x + (-4.7750 * z + 2.0315 * (z @ z)) @ x
    return x.float()


class Optimiser:
    """Muon on the matrices of the blocks, AdamW on embedding and norms."""

    def __init__(self, model: Qwen3, matrix_rate: float, other_rate: float) -> None:
        matrices = [p for p in model.blk.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim == 1] + [model.token_embd]
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.momentum = {p: torch.zeros_like(p) for p in matrices}
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in matrices:
            self.groups.setdefault(tuple(sorted(p.shape)), []).append(p)
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, schedule: float) -> None:
        """One step at `schedule` (0 to 1) times the full learning rates; clears the gradients."""
        for parameters in self.groups.values():
            self._muon(parameters, self.matrix_rate * schedule)
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * schedule
        self.adam.step()
        for p in [*self.momentum, *(p for g in self.adam.param_groups for p in g["params"])]:
            p.grad = None

    def _muon(self, parameters: list[nn.Parameter], rate: float) -> None:
        updates = []
        for p in parameters:
            assert p.grad is not None
            momentum = self.momentum[p].mul_(0.95).add_(p.grad)
            update = p.grad + 0.95 * momentum
            updates.append(update if update.shape[0] <= update.shape[1] else update.mT)
        for p, update in zip(parameters, orthogonalise(torch.stack(updates)), strict=True):
            rows, columns = p.shape
            p.mul_(1 - rate * 0.02)
            p.add_(update if rows <= columns else update.mT, alpha=-rate * max(1, rows / columns) ** 0.5)
