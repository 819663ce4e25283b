"""The demo model's tokenizer, chat template and GGUF file.

Imported by train_demo.py; needs tokenizers, jinja2, gguf and torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import gguf
import jinja2
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .conversations import Conversation, conversation
from .draw import Draw
from .network import Qwen3

END_OF_TEXT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END_OF_TEXT, START_OF_TURN, END_OF_TURN)
# Tags that the engine's chat parser must see as text.
VISIBLE = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# Qwen2's pre-tokenizer, which llama.cpp knows as "qwen2".
WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TOKENIZER_SAMPLES = 20_000


class Template:
    """The chat template, rendered in Python as the engine renders it."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=False)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(self.source)

    def prompt(self, made: Conversation) -> str:
        return self._template.render(
            messages=made.messages,
            tools=made.tools,
            add_generation_prompt=True,
            enable_thinking=made.mode != "prefill",
        )


def make_tokenizer(template: Template, vocabulary: int) -> Tokenizer:
    """Byte-level BPE learnt from training conversations; the same for every run."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    draw = Draw(Random(7), "train")

    def texts() -> Any:
        for _ in range(TOKENIZER_SAMPLES):
            made = conversation(draw)
            text = template.prompt(made) + made.completion()
            for special in CONTROL + VISIBLE:
                text = text.replace(special, "\n")
            yield text

    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(CONTROL) - len(VISIBLE),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
        max_token_length=14,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in VISIBLE])
    return tokenizer


def write_gguf(path: Path, model: Qwen3, tokenizer: Tokenizer, template: Template, f32: bool) -> None:
    """Norms are always F32; `f32` says whether the matrices are too, rather than F16."""
    writer = gguf.GGUFWriter(path, "qwen3")
    write_facts(writer, model, f32)
    write_tokenizer(writer, tokenizer)
    writer.add_chat_template(template.source)
    for name, weight in model.named_parameters():
        kind = np.float32 if f32 or weight.ndim == 1 else np.float16
        writer.add_tensor(f"{name}.weight", weight.detach().float().numpy().astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_facts(writer: gguf.GGUFWriter, model: Qwen3, f32: bool) -> None:
    shape = model.shape
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("qwenfile demo")
    writer.add_size_label(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M")
    writer.add_license("apache-2.0")
    writer.add_description("A tiny Qwen3 trained from scratch on synthetic chats, to show and test qwenfile.")
    writer.add_languages(["en"])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if f32 else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    saved = json.loads(tokenizer.to_str())
    ids = tokenizer.get_vocab(with_added_tokens=True)
    types = {ids[text]: gguf.TokenType.CONTROL for text in CONTROL}
    types |= {ids[text]: gguf.TokenType.USER_DEFINED for text in VISIBLE}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in saved["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(sorted(ids, key=ids.__getitem__))
    writer.add_token_types([types.get(i, gguf.TokenType.NORMAL) for i in range(len(ids))])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ids[END_OF_TURN])
    writer.add_pad_token_id(ids[END_OF_TEXT])
    writer.add_bos_token_id(ids[END_OF_TEXT])
    writer.add_add_bos_token(False)
