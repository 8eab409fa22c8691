#!/usr/bin/env python3
"""Times of a sum of gradients and memory of a process that are to be expected, by formula.

A ring sends 2 (N-1)/N S bytes from every process, a tree starts 2 log2(machines) times. Compute is 6
operations for each parameter and token, and 2 more where reversible layers compute forward again.
Nothing here is measured: the rates below are what others report (see docs/distributed.md).
"""

from math import log2

SIZES = {"150 M": 150e6, "1.5 B": 1.5e9}
GPUS = (8, 64, 512)
# A GPU a machine, Ethernet: 94 % of 25 Gb/s.
ETHERNET = 0.94 * 25e9 / 8
# Eight H100 a machine: what each of them sees of a sum within a machine, and across machines.
NVLINK, ACROSS = 400e9, 300e9
START = 30e-6
TOKENS = 16384  # of a GPU in a step
OPERATIONS = 0.4 * 989e12  # 40 % of an H100's bf16


def ring(n, n_bytes, rate):
    return 2 * (n - 1) / n * n_bytes / rate


def nvlink(n, n_bytes):
    rate = NVLINK if n <= 8 else ACROSS
    return ring(n, n_bytes, rate) + 2 * log2(max(n / 8, 1)) * START


def text(seconds):
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1e3 * seconds:.1f} ms"


def row(*cells):
    print("| " + " | ".join(cells) + " |")


def main():
    row("parameters", "sum", *(f"{n} GPUs" for n in GPUS))
    row(*["---"] * (2 + len(GPUS)))
    for name, parameters in SIZES.items():
        for kind, width in (("f32", 4), ("bf16", 2)):
            n_bytes = width * parameters
            row(name, f"{kind}, 25 Gb/s, a GPU a machine", *(text(ring(n, n_bytes, ETHERNET)) for n in GPUS))
            row(name, f"{kind}, NVLink and 8 x 400 Gb/s", *(text(nvlink(n, n_bytes)) for n in GPUS))
        compute = 8 * parameters * TOKENS / OPERATIONS
        row(name, "compute of 16,384 tokens", *[text(compute)] * len(GPUS))
    print()
    row("parameters", "memory of a process", *(f"{n} GPUs" for n in GPUS))
    row(*["---"] * (2 + len(GPUS)))
    for name, parameters in SIZES.items():
        gigabytes = [f"{16 * parameters / 1e9:.1f} GB"] * len(GPUS)
        row(name, "weights, gradients, Adam: whole", *gigabytes)
        shared = (f"{(8 + 8 / n) * parameters / 1e9:.1f} GB" for n in GPUS)
        row(name, "the same, --shard-optimizer", *shared)


if __name__ == "__main__":
    main()
