"""What several tests need."""

import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# Small models with outputs of transformers; the README there describes them.
HUGGING_FACE = ROOT / "reformer-core/tests/data/hf"
# A run on text.
SHAKESPEARE = ROOT / "experiments/models/shakespeare"

DTYPES = {"F32": np.float32, "I64": np.int64}


def read_safetensors(path):
    """The tensors of a file by their names."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            numbers = np.frombuffer(content[start + first : start + last], DTYPES[entry["dtype"]])
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors
