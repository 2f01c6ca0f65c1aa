"""ESM-2 on one GPU: the engine, its peers and the GEMM ceiling, on the same lengths in one run.

Random weights of a public model's shape, made on the device. A rate is real tokens (BOS and EOS
included, padding not) by the wall clock, everything on the device already. The ceiling is the
model's float16 products alone. Prints one table and writes JSON. Needs flash-attn, transformers
and fair-esm; ESME (esm-efficient) where it is installed.

    python benchmarks/esm2.py --output benchmarks/results/esm2-h200.json
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gpu_timing import (
    ceiling,
    machine,
    packs_of,
    padded_batches,
    print_table,
    timed,
    write_json,
)
from torch import Tensor

from virnuc_assets.encoders import alphabet, pooling
from virnuc_assets.encoders.attention import choose_backend
from virnuc_assets.encoders.catalog import ESM2_SHAPES
from virnuc_assets.encoders.esm2 import ESM2Config, rotary_angles, rotate
from virnuc_assets.encoders.fusing import load_fused
from virnuc_assets.encoders.packed_model import PackedModel
from virnuc_assets.encoders.packing import Frame, Pack

DEVICE = torch.device("cuda")
FRAME = Frame(alphabet.CLS, alphabet.EOS, alphabet.PAD)
RESIDUES = (4, 24)
# As the original batches, and as a padded peer does best on this card.
ORIGINAL_BUDGET, PADDED_BUDGET = 2048, 16384

State = dict[str, Tensor]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="esm2_t36_3B_UR50D", choices=list(ESM2_SHAPES))
    parser.add_argument("--token-budget", type=int, default=16896)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured for each figure")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    with torch.inference_mode():
        result = measure(options)
    write_json(options.output, result)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All rates, their ratios, and the agreement with float32."""
    shape = ESM2_SHAPES[options.shape]
    config = ESM2Config(shape.layers, shape.dim, shape.heads, 4 * shape.dim)
    state = random_state(config)
    lengths = length_mixes(options.token_budget)
    rates: dict[str, dict[str, float | None]] = {}
    print(machine(), flush=True)

    budget = options.token_budget
    first = ceiling(config, budget, 2 * options.seconds)
    for name, dtype, slots_of_a_pack in (
        ("ours, float16", "float16", budget),
        ("ours, float16, double budget", "float16", 2 * budget),
        ("ours, fp8", "fp8", budget),
    ):
        model = packed_model(config, state, dtype)
        rates[name] = {
            mix: packed_rate(model.means, slots, slots_of_a_pack, options.seconds)
            for mix, slots in lengths.items()
        }
        print(name, rates[name], flush=True)
    second = ceiling(config, budget, 2 * options.seconds)
    for name, peer in PEERS.items():
        try:
            rates[name] = peer(config, state, lengths, options)
        except (ImportError, RuntimeError) as error:
            print(f"{name}: left out ({error!r})", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
        print(name, rates.get(name), flush=True)
    ceilings = [first, second, ceiling(config, budget, 2 * options.seconds)]
    mean = float(np.mean(ceilings))
    rates["GEMM ceiling, float16"] = dict.fromkeys(lengths, mean)
    ratios = {
        name: {mix: rate and rate / mean for mix, rate in row.items()}
        for name, row in rates.items()
    }
    print("\nreal tokens a second")
    print_table(list(lengths), rates)
    print("\nshare of the GEMM ceiling")
    print_table(list(lengths), ratios)
    accuracy = agreement(config, state)
    print("\nagreement with fair-esm in float32, 500 sequences")
    print_table(list(next(iter(accuracy.values()))), accuracy)
    return {
        "machine": machine(),
        "shape": options.shape,
        "token_budget": budget,
        "sequences": {mix: len(slots) for mix, slots in lengths.items()},
        "ceilings": ceilings,
        "tokens_per_s": rates,
        "of_ceiling": ratios,
        "agreement": accuracy,
    }


def length_mixes(budget: int) -> dict[str, np.ndarray]:
    """Slots of each sequence (BOS and EOS included), about eight packs of each kind."""
    generator = np.random.default_rng(0)
    packs, total = 8, 8 * budget
    mixed = generator.integers(22, 1025, 3 * total // 1000)
    return {
        "reads (52)": np.full(packs * (budget // 52), 52),
        "chunks (168)": np.full(packs * (budget // 168), 168),
        "mixed (22-1024)": mixed[: int(np.searchsorted(np.cumsum(mixed), total))],
    }


def random_state(config: ESM2Config) -> State:
    """Random float16 weights on the device, by our names; products keep their input's scale."""
    d, f = config.dim, config.ffn_dim

    def normal(*shape: int, scale: float, centre: float = 0.0) -> Tensor:
        return (torch.randn(*shape, device=DEVICE) * scale + centre).half()

    state = {"embed.weight": normal(config.vocabulary, d, scale=0.5)}
    norms = ["norm"]
    for number in range(config.layers):
        layer = f"layers.{number}"
        norms += [f"{layer}.attn_norm", f"{layer}.ffn_norm"]
        for name, rows, width in (
            ("qkv", 3 * d, d),
            ("out", d, d),
            ("up", f, d),
            ("down", d, f),
        ):
            state[f"{layer}.{name}.weight"] = normal(rows, width, scale=width**-0.5)
            state[f"{layer}.{name}.bias"] = normal(rows, scale=0.05)
    for name in norms:
        state[f"{name}.weight"] = normal(d, scale=0.1, centre=1.0)
        state[f"{name}.bias"] = normal(d, scale=0.1)
    return state


def packed_model(config: ESM2Config, state: State, dtype: str) -> PackedModel:
    """The engine as `load_encoder` builds it."""
    attention = choose_backend(
        "auto", DEVICE, torch.float16, needs_alibi=False, head_dim=config.head_dim
    )
    float8 = range(1, config.layers - 1) if dtype == "fp8" else range(0)
    return load_fused(config, state, attention, DEVICE, torch.float16, 1, float8)


def packed_rate(
    means: Callable[[Pack], object], slots: np.ndarray, budget: int, seconds: float
) -> float:
    """Real tokens a second over all packs, host preparation of a pack's arrays included."""
    packs = packs_of(slots, budget, RESIDUES, FRAME)

    def run() -> None:
        for pack in packs:
            means(pack)

    return int(slots.sum()) / timed(run, seconds)


def plain_packed(
    config: ESM2Config, state: State, lengths: dict[str, np.ndarray], options: argparse.Namespace
) -> dict[str, float | None]:
    """What packing alone gives: flash-attn over varlen packs, everything else torch, eager."""
    from flash_attn import flash_attn_varlen_func

    def means(pack: Pack) -> Tensor:
        tokens, cu_seqlens, positions = (
            torch.from_numpy(array).to(DEVICE)
            for array in (pack.tokens, pack.cu_seqlens, pack.positions)
        )
        cos, sin = (table.half() for table in rotary_angles(positions, config.head_dim))
        x = F.embedding(tokens, state["embed.weight"])
        d = (config.dim,)
        for number in range(config.layers):
            own = {name: state[f"layers.{number}.{name}"] for name in LAYER_TENSORS}
            y = F.layer_norm(x, d, own["attn_norm.weight"], own["attn_norm.bias"])
            qkv = F.linear(y, own["qkv.weight"], own["qkv.bias"])
            q, k, v = qkv.unflatten(-1, (3, config.heads, -1)).unbind(1)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            y = flash_attn_varlen_func(
                q, k, v, cu_seqlens, cu_seqlens, pack.max_seqlen, pack.max_seqlen
            )
            x = x + F.linear(y.flatten(1), own["out.weight"], own["out.bias"])
            y = F.layer_norm(x, d, own["ffn_norm.weight"], own["ffn_norm.bias"])
            y = F.gelu(F.linear(y, own["up.weight"], own["up.bias"]))
            x = x + F.linear(y, own["down.weight"], own["down.bias"])
        x = F.layer_norm(x, d, state["norm.weight"], state["norm.bias"])
        return pooling.segment_means(x, pooling.boundaries(pack.cu_seqlens, len(pack.items), 1))

    return {
        mix: packed_rate(means, slots, options.token_budget, options.seconds)
        for mix, slots in lengths.items()
    }


LAYER_TENSORS = [
    f"{name}.{part}"
    for name in ("attn_norm", "qkv", "out", "ffn_norm", "up", "down")
    for part in ("weight", "bias")
]


def padded_rate(
    forward: Callable[[Tensor], object],
    slots: np.ndarray,
    budget: int,
    seconds: float,
    tokens: int,
) -> float:
    """Real tokens a second over padded batches of similar lengths, of about `tokens` in all."""
    slots = slots[: int(np.searchsorted(np.cumsum(slots), tokens)) + 1]
    batches = []
    for rows in padded_batches(slots, budget):
        batch = torch.full((len(rows), int(slots[rows].max())), alphabet.PAD, device=DEVICE)
        for place, row in enumerate(rows):
            batch[place, : slots[row]] = torch.randint(*RESIDUES, (int(slots[row]),), device=DEVICE)
            batch[place, 0], batch[place, slots[row] - 1] = alphabet.CLS, alphabet.EOS
        batches.append(batch)

    def run() -> None:
        for batch in batches:
            forward(batch)

    return int(slots.sum()) / timed(run, seconds)


def fair_esm_model(config: ESM2Config, state: State, dtype: torch.dtype) -> torch.nn.Module:
    """fair-esm's ESM2 with the weights of `state`; its language-model head, not read, has none."""
    from esm.model.esm2 import ESM2

    with torch.device("meta"):
        model = ESM2(config.layers, config.dim, config.heads).to(dtype)
    model.to_empty(device=DEVICE)
    weights = {"embed_tokens.weight": state["embed.weight"]}
    exponent = torch.arange(0, config.head_dim, 2, device=DEVICE).float() / config.head_dim
    for part in ("weight", "bias"):
        weights[f"emb_layer_norm_after.{part}"] = state[f"norm.{part}"]
        for number in range(config.layers):
            layer = f"layers.{number}"
            q, k, v = state[f"{layer}.qkv.{part}"].chunk(3)
            weights |= {
                f"{layer}.self_attn.q_proj.{part}": q,
                f"{layer}.self_attn.k_proj.{part}": k,
                f"{layer}.self_attn.v_proj.{part}": v,
                f"{layer}.self_attn.out_proj.{part}": state[f"{layer}.out.{part}"],
                f"{layer}.self_attn_layer_norm.{part}": state[f"{layer}.attn_norm.{part}"],
                f"{layer}.fc1.{part}": state[f"{layer}.up.{part}"],
                f"{layer}.fc2.{part}": state[f"{layer}.down.{part}"],
                f"{layer}.final_layer_norm.{part}": state[f"{layer}.ffn_norm.{part}"],
                f"{layer}.self_attn.rot_emb.inv_freq": 1.0 / 10000**exponent,
            }
    unfilled = model.load_state_dict(weights, strict=False).missing_keys
    assert all("head" in name for name in unfilled), unfilled
    return model.eval().requires_grad_(False)


def fair_esm(dtype: torch.dtype, budget: int, tokens: int) -> Callable[..., dict[str, float]]:
    """fair-esm as the original calls it, in `dtype` and batches of `budget`."""

    def rates(
        config: ESM2Config,
        state: State,
        lengths: dict[str, np.ndarray],
        options: argparse.Namespace,
    ) -> dict[str, float]:
        model = fair_esm_model(config, state, dtype)

        def forward(batch: Tensor) -> object:
            return model(batch, repr_layers=[config.layers])

        return {
            mix: padded_rate(forward, slots, budget, options.seconds, tokens)
            for mix, slots in lengths.items()
        }

    return rates


def transformers_esm(compiled: bool) -> Callable[..., dict[str, float | None]]:
    """transformers' EsmModel in float16 with SDPA; compiled only where no shape changes."""

    def rates(
        config: ESM2Config,
        state: State,
        lengths: dict[str, np.ndarray],
        options: argparse.Namespace,
    ) -> dict[str, float | None]:
        from transformers import EsmConfig, EsmModel

        theirs = EsmConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.dim,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_dim,
            position_embedding_type="rotary",
            token_dropout=True,
            emb_layer_norm_before=False,
            pad_token_id=alphabet.PAD,
            mask_token_id=alphabet.MASK,
            attn_implementation="sdpa",
        )
        with DEVICE:
            model = EsmModel(theirs, add_pooling_layer=False).half().eval()
        if compiled:
            for layer in model.encoder.layer:
                layer.compile(dynamic=False)
        found: dict[str, float | None] = {}
        for mix, slots in lengths.items():
            alike = len(np.unique(slots)) == 1
            if compiled and not alike:
                found[mix] = None
                continue
            # Whole batches alone, so that equal lengths are one shape; and these need no mask.
            size = PADDED_BUDGET // int(slots.max())
            slots = slots[: len(slots) // size * size]

            def forward(batch: Tensor, bare: bool = alike) -> object:
                return model(batch, None if bare else batch != alphabet.PAD)

            found[mix] = padded_rate(forward, slots, PADDED_BUDGET, options.seconds, 100_000)
        return found

    return rates


def esme(
    config: ESM2Config, state: State, lengths: dict[str, np.ndarray], options: argparse.Namespace
) -> dict[str, float | None]:
    """ESME (esm-efficient): packed, bfloat16, eager."""
    if find_spec("esme") is None:
        raise ImportError("esm-efficient is not installed")
    from esme.esm import ESM2

    with DEVICE:
        model = ESM2(config.layers, config.dim, config.heads).eval()

    def means(pack: Pack) -> object:
        tokens, cu_seqlens = (
            torch.from_numpy(array).to(DEVICE) for array in (pack.tokens, pack.cu_seqlens)
        )
        return model.forward_representation(tokens, pad_args=(cu_seqlens, pack.max_seqlen))

    return {
        mix: packed_rate(means, slots, options.token_budget, options.seconds)
        for mix, slots in lengths.items()
    }


PEERS: dict[str, Callable[..., dict[str, float | None]]] = {
    "packed, flash-attn, eager": plain_packed,
    "ESME, bfloat16": esme,
    "transformers, float16, SDPA": transformers_esm(compiled=False),
    "transformers, compiled": transformers_esm(compiled=True),
    "fair-esm, float16": fair_esm(torch.float16, PADDED_BUDGET, 100_000),
    "fair-esm, float32 (original)": fair_esm(torch.float32, ORIGINAL_BUDGET, 12_000),
}


def agreement(config: ESM2Config, state: State) -> dict[str, dict[str, float]]:
    """Cosines to fair-esm in float32, and equal labels of a random head, on 500 sequences.

    Lengths are spread evenly over the logarithm from 3 to 1024 slots. The head is a random
    two-class perceptron, once over the embeddings as they are and once over embeddings
    standardised by feature. Random weights make all embeddings much alike, so that what is left
    after standardising is small differences: the hardest case there is.
    """
    slots = np.geomspace(3, 1024, 500).round().astype(int)
    tokens_of = [torch.randint(*RESIDUES, (int(n) - 2,), device=DEVICE) for n in slots]
    model = fair_esm_model(config, state, torch.float32)
    reference = torch.empty(len(slots), config.dim, device=DEVICE)
    for rows in padded_batches(slots, PADDED_BUDGET):
        batch = torch.full((len(rows), int(slots[rows].max())), alphabet.PAD, device=DEVICE)
        for place, row in enumerate(rows):
            batch[place, 0], batch[place, slots[row] - 1] = alphabet.CLS, alphabet.EOS
            batch[place, 1 : slots[row] - 1] = tokens_of[row]
        found = model(batch, repr_layers=[config.layers])["representations"][config.layers]
        for place, row in enumerate(rows):
            reference[row] = found[place, 1 : slots[row] - 1].mean(0)
    del model, found
    torch.cuda.empty_cache()

    mean, deviation = reference.mean(0), reference.std(0)
    hidden = torch.randn(config.dim, 512, device=DEVICE) * config.dim**-0.5
    out = torch.randn(512, 2, device=DEVICE)

    def labels(values: Tensor) -> Tensor:
        return ((values @ hidden).relu() @ out).argmax(1)

    def equal(values: Tensor, others: Tensor) -> float:
        return (labels(values) == labels(others)).float().mean().item()

    result = {}
    content = np.concatenate([one.cpu().numpy() for one in tokens_of]).astype(np.int32)
    for dtype in ("float16", "fp8"):
        packed = packed_model(config, state, dtype)
        values = torch.empty_like(reference)
        for pack in packs_of(slots, 16896, RESIDUES, FRAME):
            fill(pack, content, slots)
            values[torch.from_numpy(pack.items).to(DEVICE)] = packed.means(pack)
        cosines = F.cosine_similarity(values, reference).double()
        result[f"ours, {dtype}"] = {
            "cosine median": cosines.median().item(),
            "cosine min": cosines.min().item(),
            "equal labels": equal(values, reference),
            "standardised": equal((values - mean) / deviation, (reference - mean) / deviation),
        }
    return result


def fill(pack: Pack, content: np.ndarray, slots: np.ndarray) -> None:
    """Put `content`, all sequences' residues end to end, into the places of `pack`'s items."""
    ends = np.cumsum(slots - 2)
    for start, item in zip(pack.cu_seqlens, pack.items, strict=False):
        size = slots[item] - 2
        pack.tokens[start + 1 : start + 1 + size] = content[ends[item] - size : ends[item]]


if __name__ == "__main__":
    main()
