"""DNABERT-S on one GPU: the engine, its peers and the GEMM ceiling, on the same lengths in one run.

Random weights of the published model's shape, made on the device. A rate is real tokens ([CLS] and
[SEP] included, padding not) by the wall clock, everything on the device already. The ceiling is the
model's float16 products alone. Prints one table and writes JSON. Needs flash-attn.

    python benchmarks/dnabert_s.py --output benchmarks/results/dnabert-s-h200.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_timing import ceiling, machine, packs_of, print_table, timed, write_json
from torch import Tensor

from virnuc_assets.encoders import pooling
from virnuc_assets.encoders.attention import SDPA, choose_backend
from virnuc_assets.encoders.dnabert_s import DNABERTS, DNABERTSConfig, alibi_slopes
from virnuc_assets.encoders.fusing import load_fused
from virnuc_assets.encoders.packed_model import PackedModel
from virnuc_assets.encoders.packing import Frame, Pack

DEVICE = torch.device("cuda")
CONFIG = DNABERTSConfig(layers=12, dim=768, heads=12, ffn_dim=3072, vocabulary=4096)
FRAME = Frame(1, 2, 3)
LETTERS = (5, 4096)
LENGTHS = (33, 105)
PADDED_BUDGET = 16384

State = dict[str, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--token-budget", type=int, default=16896)
    parser.add_argument("--seconds", type=float, default=1.0, help="measured for each figure")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    with torch.inference_mode():
        result = measure(options)
    write_json(options.output, result)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All rates, their ratios, and the agreement with float32."""
    state = random_state()
    half = {name: tensor.half() for name, tensor in state.items()}
    seconds = options.seconds
    print(machine(), flush=True)

    def each_length(rate: Callable[[int], float]) -> dict[str, float | None]:
        return {str(length): rate(length) for length in LENGTHS}

    rates: dict[str, dict[str, float | None]] = {}
    ceilings: dict[int, list[float]] = {}
    for budget in (options.token_budget, 2 * options.token_budget):
        before = ceiling(CONFIG, budget, 2 * seconds)
        model = engine(state)
        rates[f"ours, float16, packs of {budget}"] = each_length(
            lambda length, model=model, budget=budget: packed_rate(
                model.means, length, budget, seconds
            )
        )
        ceilings[budget] = [before, ceiling(CONFIG, budget, 2 * seconds)]
    for compiled in (False, True):
        name = "compiled" if compiled else "eager"
        rates[f"packed, flash-attn, {name}"] = each_length(
            lambda length, compiled=compiled: packed_rate(
                plain_packed(half, compiled), length, options.token_budget, seconds
            )
        )
    rates["padded, float16, SDPA"] = each_length(
        lambda length: padded_rate(half, length, PADDED_BUDGET // length, seconds)
    )
    rates["one sequence a call, float16"] = each_length(
        lambda length: padded_rate(half, length, 1, seconds)
    )
    rates["one sequence a call, float32"] = each_length(
        lambda length: padded_rate(state, length, 1, seconds)
    )
    mean = float(np.mean(ceilings[options.token_budget]))
    rates["GEMM ceiling, float16"] = {str(length): mean for length in LENGTHS}
    ratios = {
        name: {length: rate and rate / mean for length, rate in row.items()}
        for name, row in rates.items()
    }
    columns = [str(length) for length in LENGTHS]
    print("\nreal tokens a second, by tokens of a sequence")
    print_table(columns, rates)
    print("\nshare of the GEMM ceiling")
    print_table(columns, ratios)
    cosines = agreement(state)
    print("\ncosine to float32, 500 sequences:", cosines)
    return {
        "machine": machine(),
        "token_budget": options.token_budget,
        "ceilings": {str(budget): found for budget, found in ceilings.items()},
        "tokens_per_s": rates,
        "of_ceiling": ratios,
        "agreement": cosines,
    }


def random_state() -> State:
    """Random float32 weights on the device, by our names; products keep their input's scale."""
    d, f = CONFIG.dim, CONFIG.ffn_dim

    def normal(*shape: int, scale: float, centre: float = 0.0) -> Tensor:
        return torch.randn(*shape, device=DEVICE) * scale + centre

    state = {
        "embed.weight": normal(CONFIG.vocabulary, d, scale=1.0),
        "token_type": normal(d, scale=1.0),
    }
    norms = ["embed_norm"]
    for number in range(CONFIG.layers):
        layer = f"layers.{number}"
        norms += [f"{layer}.attn_norm", f"{layer}.ffn_norm"]
        for name, rows, width in (
            ("qkv", 3 * d, d),
            ("out", d, d),
            ("gated", 2 * f, d),
            ("down", d, f),
        ):
            state[f"{layer}.{name}.weight"] = normal(rows, width, scale=width**-0.5)
            if name != "gated":
                state[f"{layer}.{name}.bias"] = normal(rows, scale=0.05)
    for name in norms:
        state[f"{name}.weight"] = normal(d, scale=0.1, centre=1.0)
        state[f"{name}.bias"] = normal(d, scale=0.1)
    return state


def engine(state: State) -> PackedModel:
    """The engine as `load_encoder` builds it."""
    attention = choose_backend(
        "auto", DEVICE, torch.float16, needs_alibi=True, head_dim=CONFIG.head_dim
    )
    return load_fused(CONFIG, state, attention, DEVICE, torch.float16, 0)


def packed_rate(means: Callable[[Pack], object], length: int, budget: int, seconds: float) -> float:
    """Real tokens a second over eight packs, host preparation of a pack's arrays included."""
    lengths = np.full(8 * (budget // length), length)
    packs = packs_of(lengths, budget, LETTERS, FRAME)

    def run() -> None:
        for pack in packs:
            means(pack)

    return int(lengths.sum()) / timed(run, seconds)


def layer_forward(x: Tensor, own: State, attend: Attend) -> Tensor:
    """One MosaicBERT layer written plainly; `x` (..., dim)."""
    d = (CONFIG.dim,)
    qkv = F.linear(x, own["qkv.weight"], own["qkv.bias"])
    q, k, v = qkv.unflatten(-1, (3, CONFIG.heads, -1)).unbind(-3)
    y = F.linear(attend(q, k, v).flatten(-2), own["out.weight"], own["out.bias"])
    x = F.layer_norm(x + y, d, own["attn_norm.weight"], own["attn_norm.bias"], CONFIG.norm_eps)
    gate, value = F.linear(x, own["gated.weight"]).chunk(2, dim=-1)
    y = F.linear(F.gelu(gate) * value, own["down.weight"], own["down.bias"])
    return F.layer_norm(x + y, d, own["ffn_norm.weight"], own["ffn_norm.bias"], CONFIG.norm_eps)


def plain_forward(
    tokens: Tensor,
    state: State,
    attend: Attend,
    layer: Callable[[Tensor, State, Attend], Tensor] = layer_forward,
) -> Tensor:
    """The model written plainly, for any shape of `tokens`."""
    x = F.embedding(tokens, state["embed.weight"]) + state["token_type"]
    norm = state["embed_norm.weight"], state["embed_norm.bias"]
    x = F.layer_norm(x, (CONFIG.dim,), *norm, CONFIG.norm_eps)
    for number in range(CONFIG.layers):
        prefix = f"layers.{number}."
        own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        x = layer(x, own, attend)
    return x


def plain_packed(state: State, compiled: bool) -> Callable[[Pack], Tensor]:
    """What packing alone gives: flash-attn with ALiBi over varlen packs, the rest torch."""
    from flash_attn import flash_attn_varlen_func

    slopes = alibi_slopes(CONFIG.heads, DEVICE)
    layer = torch.compile(layer_forward, dynamic=False) if compiled else layer_forward
    fixed: dict[str, Any] = {}

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cu_seqlens, longest = fixed["cu_seqlens"], fixed["longest"]
        return flash_attn_varlen_func(
            q, k, v, cu_seqlens, cu_seqlens, longest, longest, alibi_slopes=slopes
        )

    def means(pack: Pack) -> Tensor:
        fixed["cu_seqlens"] = torch.from_numpy(pack.cu_seqlens).to(DEVICE)
        fixed["longest"] = pack.max_seqlen
        x = plain_forward(torch.from_numpy(pack.tokens).to(DEVICE), state, attend, layer)
        return pooling.segment_means(x, pooling.boundaries(pack.cu_seqlens, len(pack.items), 0))

    return means


def padded_rate(state: State, length: int, size: int, seconds: float) -> float:
    """Real tokens a second in batches of `size` sequences of one length."""
    place = torch.arange(length, device=DEVICE)
    slopes = alibi_slopes(CONFIG.heads, DEVICE)[:, None, None]
    bias = (-slopes * (place[:, None] - place).abs()).to(state["embed.weight"].dtype)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads, attn_mask=bias).transpose(1, 2)

    batches = [torch.randint(*LETTERS, (size, length), device=DEVICE) for _ in range(8)]

    def run() -> None:
        for batch in batches:
            plain_forward(batch, state, attend).mean(1)

    return 8 * size * length / timed(run, seconds)


def agreement(state: State) -> dict[str, float]:
    """Cosines of 500 sequences, 3 to 512 slots, to the plain layers in float32."""
    lengths = np.geomspace(3, 512, 500).round().astype(int)
    with torch.device("meta"):
        module = DNABERTS(CONFIG, SDPA)
    module.load_state_dict(state, assign=True)
    reference = PackedModel(module, SDPA, DEVICE, pooling_margin=0)
    ours = engine(state)
    cosines = torch.cat(
        [
            F.cosine_similarity(ours.means(pack), reference.means(pack)).double()
            for pack in packs_of(lengths, 4096, LETTERS, FRAME)
        ]
    )
    return {"median": cosines.median().item(), "min": cosines.min().item()}


if __name__ == "__main__":
    main()
