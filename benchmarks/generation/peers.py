"""Times greedy generation of other Reformers, on the shape that bench_generation has by default.

    pip install torch==2.15.0 transformers==5.23.0 reformer_pytorch==1.4.4
    python peers.py huggingface --attention local,lsh
    python peers.py reformer_pytorch --tokens 3

Six layers, width 256, four heads of 64, d_ff 1,024, bytes, batch 1, four rounds, chunks of 64 that look
one back, random weights. The tokens come from each library's own `generate`: the first one closes the
reading of what is there (`prefill_seconds`), the median of the others is `token_ms`.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from importlib.metadata import version

import torch

VOCAB_SIZE, D_MODEL, N_LAYERS, N_HEADS, CHUNK, N_ROUNDS = 256, 256, 6, 4, 64, 4


def huggingface(attention, context, n_tokens):
    """Hugging Face's `generate` with `use_cache=True`; rotations are kept by `hash_seed`."""
    from transformers import ReformerConfig, ReformerModelWithLMHead
    from transformers.generation.streamers import BaseStreamer

    config = ReformerConfig(
        attention_head_size=D_MODEL // N_HEADS,
        attn_layers=[attention[number % len(attention)] for number in range(N_LAYERS)],
        axial_pos_embds=False,
        eos_token_id=None,
        feed_forward_size=4 * D_MODEL,
        hash_seed=1,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        hidden_size=D_MODEL,
        is_decoder=True,
        local_attn_chunk_length=CHUNK,
        local_num_chunks_after=0,
        lsh_attn_chunk_length=CHUNK,
        lsh_num_chunks_after=0,
        max_position_embeddings=context + CHUNK * (n_tokens // CHUNK + 2),
        num_attention_heads=N_HEADS,
        num_buckets=None,
        num_hashes=N_ROUNDS,
        pad_token_id=0,
        use_cache=True,
        vocab_size=VOCAB_SIZE,
    )
    model = ReformerModelWithLMHead(config).eval()

    class Clock(BaseStreamer):
        """Is given the prompt, and then each token as it is chosen."""

        def __init__(self):
            self.times = []

        def put(self, value):
            self.times.append(time.perf_counter())

        def end(self):
            pass

    clock = Clock()
    prompt = torch.randint(0, VOCAB_SIZE, (1, context))
    generated = model.generate(
        prompt, max_new_tokens=n_tokens + 1, do_sample=False, use_cache=True, streamer=clock
    )
    assert generated.shape[1] == context + n_tokens + 1
    return clock.times


def reformer_pytorch(attention, context, n_tokens):
    """The `generate` of lucidrains' TrainingWrapper, with the most probable token each time."""
    from reformer_pytorch import ReformerLM
    from reformer_pytorch.generative_tools import TrainingWrapper

    if attention != ["lsh"]:
        raise SystemExit("reformer_pytorch mixes kinds of attention by heads, not by layers: use lsh")
    model = TrainingWrapper(
        ReformerLM(
            num_tokens=VOCAB_SIZE,
            dim=D_MODEL,
            depth=N_LAYERS,
            max_seq_len=context + n_tokens + 2 * CHUNK,
            heads=N_HEADS,
            dim_head=D_MODEL // N_HEADS,
            bucket_size=CHUNK,
            n_hashes=N_ROUNDS,
            ff_chunks=1,
            causal=True,
        )
    )
    times = []

    def most_probable(logits, thres):
        times.append(time.perf_counter())
        best = torch.full_like(logits, float("-inf"))
        return best.scatter_(1, logits.argmax(-1, keepdim=True), 0.0)

    prompt = torch.randint(0, VOCAB_SIZE, (1, context))
    times.append(time.perf_counter())
    model.generate(prompt, n_tokens + 1, filter_logits_fn=most_probable)
    return times


PEERS = {
    "huggingface": (huggingface, "transformers"),
    "reformer_pytorch": (reformer_pytorch, "reformer_pytorch"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--contexts", default="1024,4096,16384")
    parser.add_argument("--attention", default="lsh", help="kinds of layers, in turn: local, lsh")
    parser.add_argument("--tokens", type=int, default=20, help="tokens that are timed")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    generate, package = PEERS[arguments.peer]
    attention = arguments.attention.split(",")
    for context in map(int, arguments.contexts.split(",")):
        # What the libraries print is no result.
        with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
            # Once before, for what happens once.
            generate(attention, 4 * CHUNK, 2)
            times = generate(attention, context, arguments.tokens)
        steps = [after - before for before, after in zip(times, times[1:])]
        measured = {
            "peer": f"{package} {version(package)}",
            "torch": torch.__version__,
            "threads": arguments.threads,
            "attention": arguments.attention,
            "context": context,
            "tokens": len(steps) - 1,
            "prefill_seconds": round(steps[0], 4),
            "token_ms": round(1e3 * statistics.median(steps[1:]), 3),
        }
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
