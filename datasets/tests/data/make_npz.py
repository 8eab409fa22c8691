"""Writes numpy_savez.npz and numpy_savez_compressed.npz: three images in the form of downsampled ImageNet.

    pip install numpy
    python make_npz.py

Byte `i` of image `n` is `(100 * n + i) % 256`.
"""

import pathlib

import numpy

folder = pathlib.Path(__file__).parent
data = (100 * numpy.arange(3)[:, None] + numpy.arange(3 * 4 * 4)).astype(numpy.uint8)
arrays = {"data": data, "labels": [7, 1, 1000], "mean": data.mean(axis=0)}
numpy.savez(folder / "numpy_savez.npz", **arrays)
numpy.savez_compressed(folder / "numpy_savez_compressed.npz", **arrays)
