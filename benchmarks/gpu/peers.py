"""Times a training step of a peer on a GPU and prints one line of JSON.

A step is forward, loss and backward without the optimizer, as `bench_step` counts it: causal, one
sequence of bytes, f32 with PyTorch's defaults (no TF32) or under autocast to bf16, no dropout. Every
step ends with a synchronisation of the device.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

VOCAB_SIZE = 256
CHUNK = 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["sdpa", "sdpa-checkpointed", "lucid"])
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--d-ff", type=int, default=1024)
    parser.add_argument("--n-heads", type=int, default=4)
    parser.add_argument("--n-rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--device", default="cuda", help="`cpu` tries the script without a GPU")
    return parser.parse_args()


class Block(nn.Module):
    """A pre-norm Transformer block with exact attention."""

    def __init__(self, size):
        super().__init__()
        self.n_heads = size.n_heads
        self.norms = nn.ModuleList(nn.LayerNorm(size.d_model) for _ in range(2))
        self.qkv = nn.Linear(size.d_model, 3 * size.d_model, bias=False)
        self.out = nn.Linear(size.d_model, size.d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(size.d_model, size.d_ff), nn.GELU(), nn.Linear(size.d_ff, size.d_model)
        )

    def forward(self, x):
        batch_size, length, d_model = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch_size, length, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch_size, length, d_model))
        return x + self.feed_forward(self.norms[1](x))


class Transformer(nn.Module):
    """A language model of such blocks; `checkpointed` keeps only what goes into each."""

    def __init__(self, size, checkpointed):
        super().__init__()
        self.checkpointed = checkpointed
        self.tokens = nn.Embedding(VOCAB_SIZE, size.d_model)
        self.positions = nn.Embedding(size.length, size.d_model)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.d_model)
        self.logits = nn.Linear(size.d_model, VOCAB_SIZE)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions.weight
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return self.logits(self.norm(x))


def reformer_pytorch(size):
    from reformer_pytorch import ReformerLM

    return ReformerLM(
        num_tokens=VOCAB_SIZE,
        dim=size.d_model,
        depth=size.layers,
        heads=size.n_heads,
        dim_head=size.d_model // size.n_heads,
        ff_mult=size.d_ff // size.d_model,
        bucket_size=CHUNK,
        n_hashes=size.n_rounds,
        ff_chunks=max(1, size.length // 4096),
        causal=True,
        max_seq_len=size.length,
        axial_position_emb=True,
        axial_position_shape=(size.length // CHUNK, CHUNK),
    )


def main():
    size = arguments()
    torch.manual_seed(0)
    on_gpu = size.device != "cpu"
    if size.peer == "lucid":
        model = reformer_pytorch(size)
    else:
        model = Transformer(size, size.peer == "sdpa-checkpointed")
    model = model.to(size.device).train()
    tokens = torch.randint(0, VOCAB_SIZE, (1, size.length), device=size.device)

    seconds = []
    for _ in range(size.steps + 2):  # Two steps to warm up.
        model.zero_grad(set_to_none=True)
        if on_gpu:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.autocast(size.device, torch.bfloat16, enabled=size.precision == "bf16"):
            loss = F.cross_entropy(model(tokens).transpose(1, 2), tokens)
        loss.backward()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    seconds = statistics.median(seconds[2:])
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
    print(
        json.dumps(
            {
                "seconds": seconds,
                "tokens_per_second": size.length / seconds,
                "peak_mib": peak,
                "parameters": sum(weights.numel() for weights in model.parameters()),
                "loss": loss.item(),
                "torch": torch.__version__,
                "settings": vars(size),
            }
        )
    )


if __name__ == "__main__":
    main()
