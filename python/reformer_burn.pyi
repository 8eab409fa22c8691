"""The Reformer in Rust: inference with trained models, and LSH attention with gradients, on numpy arrays."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, final, overload

from numpy import float32, int64
from numpy.typing import ArrayLike, NDArray

__version__: str

def load(path: str | PathLike[str]) -> ReformerLm:
    """Loads a language model: the folder of a run, finished or not, or one of Hugging Face with `config.json` and
    `model.safetensors` or `pytorch_model.bin`.

    Raises FileNotFoundError or another OSError for files that are missing or cannot be read, and ValueError for
    damaged ones, for settings that are not supported, and for models of other kinds.
    """

@final
class ReformerLm:
    """A trained language model, as `load` returns it. It is never changed, and threads can share it."""

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, with the names and forms of a run's `config.json`."""
    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
    @property
    def max_length(self) -> int | None:
        """Maximum sequence length, or None if there is no limit."""
    def logits(self, tokens: ArrayLike, mask_pad: ArrayLike | None = None) -> NDArray[float32]:
        """Logits of all positions, `(batch_size, seq_length, vocab_size)`, for tokens `(batch_size, seq_length)`.

        `mask_pad` is True where a position is padding, which is never attended to.
        """
    @overload
    def generate(  # type: ignore[overload-overlap] # To numpy, bytes are an array, but here they are told apart.
        self,
        prompt: bytes,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> bytes:
        """Continues bytes, for a model whose tokens are bytes."""
    @overload
    def generate(
        self,
        prompt: ArrayLike,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> NDArray[int64]:
        """Continues tokens `(seq_length,)` or `(batch_size, seq_length)` with as many new ones as asked for."""
    def with_rotations(self, rotations: Sequence[ArrayLike]) -> ReformerLm:
        """The same model with other hash rotations: for each LSH layer an array of shape
        `(n_heads, d_head, n_rounds, sum(bucket factors) / 2)`.
        """

@final
class LshAttention:
    """Self-attention by locality-sensitive hashing, with projections into heads and back.

    Choices have the form of `config.json`, such as `n_buckets={"Count": 32}`. A layer is never changed, and
    threads can share it.
    """

    def __new__(
        cls,
        d_model: int,
        n_heads: int,
        *,
        seed: int = 0,
        d_head: int | None = None,
        causal: bool = True,
        dropout: float = 0.0,
        logit_scale: float | None = None,
        query_length: float | None = None,
        rotary_base: float | None = None,
        initializer: str | dict[str, Any] = ...,
        n_rounds: int = 2,
        local_round: bool = True,
        hash_rotated: bool = True,
        n_buckets: str | dict[str, Any] = "Auto",
        chunk_length: int = 64,
        window: dict[str, Any] = ...,
        duplicates: str = "Exact",
        wrap_rounds: bool = False,
        exact_up_to: str | dict[str, int] = "Window",
        fixed_rotations: bool = False,
        hash_seed: int = 0,
    ) -> LshAttention: ...
    @property
    def config(self) -> dict[str, Any]:
        """The configuration: `heads`, `lsh` and `hash_seed`."""
    @property
    def weights(self) -> dict[str, NDArray[float32]]:
        """Copies of the weights: `query` and `value` of shape `(d_model, n_heads * d_head)`, `output` of shape
        `(n_heads * d_head, d_model)`. A projection is `x @ weight`.
        """
    def with_weights(self, weights: dict[str, ArrayLike]) -> LshAttention:
        """The same layer with other weights, a dict like `weights`."""
    def forward(
        self, x: ArrayLike, *, mask_pad: ArrayLike | None = None, seed: int | None = None
    ) -> NDArray[float32]:
        """Attends: `x` and the result have shape `(batch_size, seq_length, d_model)`.

        With a `seed`, the layer hashes and drops as in a step of training.
        """
    def backward(
        self, x: ArrayLike, grad: ArrayLike, *, mask_pad: ArrayLike | None = None, seed: int | None = None
    ) -> tuple[NDArray[float32], dict[str, NDArray[float32]]]:
        """Gradients with respect to `x` and to the weights, from the gradient with respect to the output. The other
        arguments are those of `forward`, which is computed again.
        """
