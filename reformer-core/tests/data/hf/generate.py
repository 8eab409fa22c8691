"""Makes golden cases from Hugging Face's Reformer, in the form that README.md describes.

    pip install torch==2.15.0 transformers==5.23.0 safetensors
    python generate.py FOLDER [--seed N] [--count N]

draws `count` random configurations and writes a folder for each below FOLDER. Run the tests with
HF_CASES=FOLDER to compare with them.
"""

import argparse
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import ReformerConfig, ReformerForMaskedLM, ReformerModelWithLMHead
from transformers.models.reformer import modeling_reformer

MARGIN = 3e-5
ACTIVATIONS = ["relu", "gelu", "gelu_new", "silu", "swish", "tanh", "sigmoid", "gelu_fast"]


def random_config(rng):
    chunks = {"lsh": rng.choice([4, 6, 8, 16]), "local": rng.choice([4, 8, 16])}
    common = max(chunks.values()) * min(chunks.values())
    length = common * rng.randint(1, max(1, 96 // common)) if rng.random() < 0.8 else rng.randint(2, 4)
    causal = rng.random() < 0.6
    heads, head_size = rng.choice([(1, 8), (2, 16), (3, 10), (4, 4)])
    layers = [rng.choice(["lsh", "local"]) for _ in range(rng.randint(1, 4))]
    first = next(n for n in range(int(length**0.5), 0, -1) if length % n == 0)
    hidden = rng.choice([16, 24, 32])
    split = rng.randint(1, hidden - 1)
    buckets = rng.choice([None, 2, 6, 16, [2, 4], [4, 6, 2]])
    return ReformerConfig(
        attention_head_size=head_size,
        attn_layers=layers,
        axial_norm_std=0.5,
        axial_pos_embds=rng.random() < 0.7,
        axial_pos_embds_dim=[split, hidden - split],
        axial_pos_shape=[first, length // first],
        chunk_size_feed_forward=rng.choice([0, 0, length]),
        eos_token_id=1,
        feed_forward_size=rng.choice([20, 64]),
        hash_seed=rng.randint(0, 1000),
        hidden_act=rng.choice(ACTIVATIONS),
        hidden_dropout_prob=0.0,
        hidden_size=hidden,
        is_decoder=causal,
        layer_norm_eps=rng.choice([1e-12, 1e-5]),
        local_attention_probs_dropout_prob=0.0,
        local_attn_chunk_length=chunks["local"],
        local_num_chunks_after=0 if causal else rng.randint(0, 1),
        local_num_chunks_before=rng.randint(0, 2),
        lsh_attention_probs_dropout_prob=0.0,
        lsh_attn_chunk_length=chunks["lsh"],
        lsh_num_chunks_after=0 if causal else rng.randint(0, 1),
        lsh_num_chunks_before=rng.randint(0, 2),
        max_position_embeddings=length,
        num_attention_heads=heads,
        num_buckets=buckets,
        num_hashes=rng.randint(1, 5),
        use_cache=False,
        vocab_size=rng.choice([17, 40]),
    ), length


class Recorder:
    """Notes the rotations and buckets of every LSH layer of one forward pass."""

    def __init__(self):
        self.rotations, self.buckets, self.margin = [], [], float("inf")

    def __enter__(self):
        self.original = modeling_reformer.LSHSelfAttention._hash_vectors
        recorder = self

        def hash_vectors(layer, vectors, num_hashes, attention_mask, *args, **kwargs):
            randn = torch.randn

            def recorded(*shape, **options):
                drawn = randn(*shape, **options)
                recorder.rotations.append(drawn.clone())
                recorder.watch(layer, vectors, drawn)
                return drawn

            torch.randn = recorded
            try:
                buckets = recorder.original(layer, vectors, num_hashes, attention_mask, *args, **kwargs)
            finally:
                torch.randn = randn
            batch, heads, _ = buckets.shape
            recorder.buckets.append(buckets.view(batch, heads, num_hashes, -1).clone())
            return buckets

        modeling_reformer.LSHSelfAttention._hash_vectors = hash_vectors
        return self

    def __exit__(self, *_):
        modeling_reformer.LSHSelfAttention._hash_vectors = self.original

    def watch(self, layer, vectors, drawn):
        factors = layer.num_buckets
        factors = [factors] if isinstance(factors, int) else factors
        rotated = torch.einsum("bmtd,mdhr->bmhtr", vectors.detach(), drawn)
        start = 0
        for factor in factors:
            part = rotated[..., start : start + factor // 2]
            start += factor // 2
            top = torch.cat([part, -part], -1).topk(2, -1).values
            self.margin = min(self.margin, (top[..., 0] - top[..., 1]).min().item())


def make(folder, rng):
    config, length = random_config(rng)
    torch.manual_seed(rng.randint(0, 2**31))
    kind = ReformerModelWithLMHead if config.is_decoder else ReformerForMaskedLM
    model = kind(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    input_ids = torch.randint(0, config.vocab_size, (2, length))
    labels = input_ids.clone() if config.is_decoder else torch.randint(0, config.vocab_size, (2, length))
    labels[torch.rand(labels.shape) < 0.2] = -100
    inputs = {"input_ids": input_ids}
    if rng.random() < 0.3 and length > 4:
        mask = torch.ones(2, length, dtype=torch.long)
        mask[1, length - rng.randint(1, length // 2) :] = 0
        labels[mask == 0] = -100
        inputs["attention_mask"] = mask
    if not (labels[:, 1:] >= 0).any():
        return False

    model.eval()
    with Recorder() as seen:
        hidden = model.reformer(**inputs)[0]
    logits = model(**inputs).logits
    # Training mode is what has gradients; with dropout 0 it computes the same.
    model.train()
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    if seen.margin < MARGIN:
        return False
    expected = dict(inputs, labels=labels, hidden=hidden, logits=logits, loss=loss.reshape(1))
    for layer, (rotations, buckets) in enumerate(zip(seen.rotations, seen.buckets)):
        expected[f"rotations.{layer}"] = rotations
        expected[f"buckets.{layer}"] = buckets
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            expected[f"grad.{name}"] = parameter.grad
    model.save_pretrained(folder)
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in expected.items()}
    save_file(tensors, str(folder / "expected.safetensors"))
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    made = 0
    while made < options.count:
        folder = options.folder / f"case-{options.seed}-{made:03}"
        made += make(folder, rng)


if __name__ == "__main__":
    main()
