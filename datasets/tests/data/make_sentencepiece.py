"""Writes small models of SentencePiece, unigram and byte pairs, and how SentencePiece itself reads with them.

    pip install sentencepiece==0.2.3
    python make_sentencepiece.py
"""

import os
import pathlib

import sentencepiece

# The model keeps the paths that it was given, so they are relative.
os.chdir(pathlib.Path(__file__).parent)
folder = pathlib.Path(".")
sample = pathlib.Path("../../samples/tinyshakespeare.txt")
lines = [line for line in sample.read_text(encoding="utf-8").splitlines() if line]
sentences = lines[:3000:30] + [
    "  two   blanks and more  ",
    "Schöne Grüße!",
    "日本 and 中国",
    "1,234.50",
    "",
]
models = [
    ("sentencepiece", "unigram", 400, False),
    ("sentencepiece_bpe", "bpe", 400, False),
    # As Llama's: what has no piece is written in bytes.
    ("sentencepiece_bytes", "bpe", 500, True),
]
for name, model_type, vocab_size, byte_fallback in models:
    sentencepiece.SentencePieceTrainer.train(
        input=str(sample),
        model_prefix=str(folder / name),
        vocab_size=vocab_size,
        byte_fallback=byte_fallback,
        model_type=model_type,
        normalization_rule_name="identity",
        num_threads=1,
    )
    (folder / f"{name}.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.model"))
    rows = []
    for sentence in sentences:
        pieces = processor.encode(sentence)
        numbers = " ".join(map(str, pieces))
        rows.append(f"{sentence}\t{numbers}\t{processor.decode(pieces)}\n")
    (folder / f"{name}.tsv").write_text("".join(rows), encoding="utf-8", newline="")
