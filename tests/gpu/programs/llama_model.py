"""A Llama-shaped model with random but repeatable weights and a vocabulary of bytes, as a GGUF file. Needs `gguf`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

CONTROLS = 3  # unknown, begin, end: before the 256 bytes
CONTEXT = 512  # tokens


@dataclass(frozen=True)
class Shape:
    """How large a model is."""

    embedding: int
    layers: int
    heads: int
    key_heads: int


def write_model(path: Path, shape: Shape) -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.embedding)
    writer.add_feed_forward_length(2 * shape.embedding)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_vocab_size(CONTROLS + 256)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_vocabulary(writer)
    add_weights(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter) -> None:
    """A SentencePiece vocabulary that knows no words: every byte is a token."""
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))])
    writer.add_token_scores([0.0] * (CONTROLS + 256))
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def add_weights(writer: gguf.GGUFWriter, shape: Shape) -> None:
    dice = np.random.default_rng(7)

    def add(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        values = dice.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale / columns**0.5)
        writer.add_tensor(f"{name}.weight", values)

    def add_ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.embedding, np.float32))

    wide = shape.embedding
    add("token_embd", CONTROLS + 256, wide, scale=wide**0.5)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        add_ones(f"{block}.attn_norm")
        add(f"{block}.attn_q", wide, wide)
        for name in ("attn_k", "attn_v"):
            add(f"{block}.{name}", wide // shape.heads * shape.key_heads, wide)
        add(f"{block}.attn_output", wide, wide)
        add_ones(f"{block}.ffn_norm")
        add(f"{block}.ffn_gate", 2 * wide, wide)
        add(f"{block}.ffn_up", 2 * wide, wide)
        add(f"{block}.ffn_down", wide, 2 * wide)
    add_ones("output_norm")
    add("output", CONTROLS + 256, wide)
