"""Trains the demo model from scratch, measures it on held-out conversations and writes its GGUF file.

    python build_scripts/train_demo.py [--tokens N] [--out bundler/demo/demo.gguf] [--f32]
    python build_scripts/train_demo.py --evaluate http://127.0.0.1:8080

The first form is one run on one data set (demo_model/) in two single-threaded processes; on two idle cores it takes
about half an hour. It needs `pip install torch==2.13.0 tokenizers==0.23.3 gguf==0.19.0 numpy` and a C++ compiler. The
same machine and seed give the same weights. accuracy.json is written beside the GGUF file.
The second form asks the same held-out questions of a running server, at temperature 0, and adds its results there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from demo_model.conversations import Conversation, conversation
from demo_model.draw import Draw
from demo_model.endpoint import ask_server
from demo_model.export import END_OF_TEXT, Template, make_tokenizer, write_gguf
from demo_model.network import Optimiser, Qwen3, Shape, initialise

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "bundler" / "demo"

PROCESSES = 2  # of one thread each: two OpenMP threads in one process were four times slower
MICRO_BATCH = 1536  # tokens per process and step
MATRIX_RATE, OTHER_RATE = 0.02, 0.004
WARM_UP, DECAY = 0.02, 0.8  # parts of the run
COPY_PRACTICE = 0.03  # part of the run in which some batches repeat random tokens, so that copying forms early
LENGTH_POWER = -0.5  # a completion of n tokens weighs n ** 0.5 in the loss
HELD_OUT_EACH = 100  # conversations per skill, with and without thinking


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What both processes must agree on."""

    tokens: int
    seed: int
    out: Path
    f32: bool
    rendezvous: str


@dataclass(frozen=True, kw_only=True)
class Example:
    prompt: list[int]
    completion: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion)


class Encoder:
    """From conversations to token ids."""

    def __init__(self, vocabulary: int) -> None:
        self.template = Template(DEMO / "chat.jinja")
        self.tokenizer = make_tokenizer(self.template, vocabulary)
        self.padding = self.tokenizer.token_to_id(END_OF_TEXT)

    def examples(self, made: list[Conversation]) -> list[Example]:
        prompts = self.tokenizer.encode_batch([self.template.prompt(c) for c in made])
        completions = self.tokenizer.encode_batch([c.completion() for c in made])
        return [Example(prompt=p.ids, completion=c.ids) for p, c in zip(prompts, completions, strict=True)]

    def padded(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        """Ids [N, longest] and the loss weight of each token, zero outside the completions."""
        longest = max(padded_length(example) for example in examples)
        ids = torch.full((len(examples), longest), self.padding)
        weights = torch.zeros(len(examples), longest)
        for row, example in enumerate(examples):
            ids[row, : example.length] = torch.tensor(example.prompt + example.completion)
            weights[row, len(example.prompt) : example.length] = len(example.completion) ** LENGTH_POWER
        return ids, weights


def padded_length(example: Example) -> int:
    return -(-example.length // 16) * 16


def by_length(examples: list[Example], most: int) -> Iterator[list[Example]]:
    """Groups of neighbours whose padded size stays within `most` tokens; a longer example stands alone."""
    group: list[Example] = []
    for example in examples:
        if group and padded_length(example) * (len(group) + 1) > most:
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def batches(encoder: Encoder, rng: Random, practising: Callable[[], bool]) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless training batches; while `practising`, some of random tokens that are said twice."""
    draw = Draw(rng, "train")
    while True:
        examples = encoder.examples([conversation(draw) for _ in range(6000)])
        examples.sort(key=lambda example: example.length + rng.random() * 8)
        groups = list(by_length(examples, MICRO_BATCH))
        rng.shuffle(groups)
        for group in groups:
            if practising() and rng.random() < 0.35:
                yield copy_practice(rng.choice([16, 24, 32, 48]), encoder.tokenizer.get_vocab_size())
            yield encoder.padded(group)


def copy_practice(length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    said = torch.randint(0, vocabulary, (MICRO_BATCH // (2 * length), length))
    ids = torch.cat([said, said], 1)
    weights = torch.zeros(ids.shape)
    weights[:, length + 1 :] = length**LENGTH_POWER
    return ids, weights


def schedule(done: float) -> float:
    """Part of the full learning rate at this part of the run: up, level, down to zero."""
    return min(1.0, done / WARM_UP) if done < 1 - DECAY else max(0.0, (1 - done) / DECAY)


def backward(model: Qwen3, ids: Tensor, weights: Tensor, total_weight: float) -> float:
    targets = weights[:, 1:] > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(ids[:, :-1], torch.bfloat16)[targets]
        logits = functional.linear(hidden, model.token_embd)
    losses = functional.cross_entropy(logits.float(), ids[:, 1:][targets], reduction="none")
    loss = (losses * weights[:, 1:][targets]).sum() / total_weight
    loss.backward()
    return loss.item()


def sum_over_processes(model: Qwen3, loss: float) -> float:
    """Adds up the gradients, in place, and the loss."""
    parameters = list(model.parameters())
    flat = torch.cat([*(p.grad.reshape(-1) for p in parameters), torch.tensor([loss])])
    dist.all_reduce(flat)
    at = 0
    for p in parameters:
        p.grad.copy_(flat[at : at + p.numel()].view_as(p))
        at += p.numel()
    return float(flat[-1])


def train(model: Qwen3, encoder: Encoder, plan: Plan, rank: int) -> None:
    optimiser = Optimiser(model, MATRIX_RATE, OTHER_RATE)
    seen, step, smooth, start = 0, 0, 0.0, time.monotonic()
    stream = batches(encoder, Random(plan.seed * 1000 + rank), lambda: seen < COPY_PRACTICE * plan.tokens)
    while seen < plan.tokens:
        done = seen / plan.tokens
        ids, weights = next(stream)
        sums = torch.tensor([float(weights.sum()), ids.numel()], dtype=torch.float64)
        dist.all_reduce(sums)
        loss = sum_over_processes(model, backward(model, ids, weights, float(sums[0])))
        optimiser.step(schedule(done))
        seen, step = seen + int(sums[1]), step + 1
        smooth = loss if step == 1 else 0.95 * smooth + 0.05 * loss
        if step % 100 == 0 and rank == 0:
            seconds = time.monotonic() - start
            print(
                f"step {step}: {seen / 1e6:.2f} M tokens ({done:.0%}), loss {smooth:.4f}, {seconds:.0f} s", flush=True
            )
        if step % 1000 == 0 and rank == 0:
            write_gguf(plan.out.with_suffix(".partial"), model, encoder.tokenizer, encoder.template, plan.f32)


def held_out() -> list[Conversation]:
    """The same conversations in every run, none of whose facts, numbers or phrasings are in the training data."""
    draw = Draw(Random(4242), "held-out")
    chosen: dict[str, Conversation] = {}
    count: dict[tuple[str, bool], int] = defaultdict(int)
    for _ in range(60_000):
        made = conversation(draw)
        kind, key = (made.skill, made.mode == "think"), json.dumps([made.messages, made.tools, made.mode])
        if count[kind] < HELD_OUT_EACH and key not in chosen:
            chosen[key] = made
            count[kind] += 1
    return list(chosen.values())


@torch.no_grad()
def exact(model: Qwen3, encoder: Encoder, made: list[Conversation]) -> list[bool]:
    """Whether each completion is the model's own first choice token by token, which is what greedy decoding yields."""
    examples = encoder.examples(made)
    order = sorted(range(len(examples)), key=lambda i: examples[i].length)
    right = {}
    position = 0
    for group in by_length([examples[i] for i in order], 8192):
        ids, weights = encoder.padded(group)
        targets = weights[:, 1:] > 0
        choices = functional.linear(model(ids[:, :-1])[targets], model.token_embd).argmax(-1)
        wrong = torch.zeros(targets.shape, dtype=torch.bool)
        wrong[targets] = choices != ids[:, 1:][targets]
        for row in range(len(group)):
            right[order[position + row]] = not bool(wrong[row].any())
        position += len(group)
    return [right[i] for i in range(len(made))]


def evaluate(model: Qwen3, encoder: Encoder, rank: int) -> list[tuple[Conversation, bool]]:
    """Each process takes its share; both get the whole result."""
    share = held_out()[rank::PROCESSES]
    shares: list[Any] = [None] * PROCESSES
    dist.all_gather_object(shares, list(zip(share, exact(model, encoder, share), strict=True)))
    return [result for part in shares for result in part]


def accuracy(results: list[tuple[Conversation, bool]]) -> dict[str, Any]:
    """Per skill, thinking and not, in percent."""
    tally: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for made, right in results:
        tally[made.skill]["thinking" if made.mode == "think" else "not thinking"].append(right)

    def percent(outcomes: list[bool]) -> float:
        return round(100 * sum(outcomes) / len(outcomes), 1)

    skills = {
        skill: {mode: {"n": len(o), "percent": percent(o)} for mode, o in sorted(modes.items(), reverse=True)}
        for skill, modes in sorted(tally.items())
    }
    return {"n": len(results), "percent": percent([right for _, right in results]), "skills": skills}


def show(measured: dict[str, Any]) -> None:
    print(f"{'held out, exact':36}{'thinking':>18}{'not thinking':>18}")
    for skill, modes in measured["skills"].items():
        cells = (modes.get(mode) for mode in ("thinking", "not thinking"))
        print(f"{skill:36}" + "".join(f"{c['percent']:10.1f} % ({c['n']:3d})" if c else " " * 18 for c in cells))
    print(f"{'all':36}{measured['percent']:10.1f} % ({measured['n']})", flush=True)


def evaluate_server(url: str, notes: Path) -> None:
    """Measures the written model as users meet it, and keeps that beside the first measurement."""
    measured = accuracy(ask_server(url, held_out()))
    show(measured)
    how = "The same, through the engine's OpenAI endpoint at temperature 0: thought, content and tool calls."
    kept = json.loads(notes.read_text(encoding="utf-8"))
    kept["server"] = {"how": how} | measured
    notes.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def worker(rank: int, plan: Plan) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=plan.rendezvous, rank=rank, world_size=PROCESSES)
    shape = Shape()
    encoder = Encoder(shape.vocabulary)
    torch.manual_seed(plan.seed)
    model = Qwen3(shape)
    initialise(model)
    torch.manual_seed(plan.seed * 1000 + rank + 1)
    for block in model.blk:
        block.compile(dynamic=True)
    start = time.monotonic()
    train(model, encoder, plan, rank)
    seconds = round(time.monotonic() - start)
    if not plan.f32:  # measure what is written
        for p in model.parameters():
            if p.ndim == 2:
                p.data = p.data.half().float()
    if rank == 0:
        write_gguf(plan.out, model, encoder.tokenizer, encoder.template, plan.f32)
        plan.out.with_suffix(".partial").unlink(missing_ok=True)
    torch.compiler.set_stance("force_eager")
    measured = accuracy(evaluate(model, encoder, rank))
    if rank == 0:
        print(f"trained in {seconds} s, written to {plan.out}")
        show(measured)
        how = (
            "Held-out conversations of demo_model/; thought and answer must both be token for token what the model "
            "chooses greedily (teacher-forced, in torch, float32 arithmetic on the written weights)."
        )
        facts = {"how": how, "training": {"tokens": plan.tokens, "seed": plan.seed, "seconds": seconds}}
        text = json.dumps(facts | measured, indent=1)
        plan.out.with_name("accuracy.json").write_text(text + "\n", encoding="utf-8")
    dist.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=14_000_000, metavar="N", help="training tokens (%(default)s)")
    parser.add_argument("--out", type=Path, default=DEMO / "demo.gguf", metavar="FILE", help="GGUF to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--f32", action="store_true", help="write the matrices as F32 instead of F16")
    parser.add_argument("--evaluate", metavar="URL", help="don't train; measure the server at this address")
    options = parser.parse_args()
    if options.evaluate:
        evaluate_server(options.evaluate, options.out.with_name("accuracy.json"))
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            tokens=options.tokens,
            seed=options.seed,
            out=options.out,
            f32=options.f32,
            rendezvous=(Path(folder) / "rendezvous").as_uri(),
        )
        torch.multiprocessing.spawn(worker, args=(plan,), nprocs=PROCESSES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
