"""LSH attention: its formula, its gradients, hashing, and what is refused."""

import unittest
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import reformer_burn
from reformer_burn import LshAttention
from support import HUGGING_FACE

# Hashes at every length; some queries see few keys.
HASHED = dict(n_rounds=2, window={"Bucket": {"len": 4}}, n_buckets={"Count": 4}, exact_up_to="Never")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def exact(layer, x):
    """Causal attention with keys that are the queries at length 1, for one sequence."""
    weights, n_heads = layer.weights, layer.config["heads"]["n_heads"]
    split = lambda y: y.reshape(len(x), n_heads, -1).swapaxes(0, 1)
    queries, values = split(x @ weights["query"]), split(x @ weights["value"])
    keys = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
    logits = queries @ keys.swapaxes(1, 2)
    logits[:, np.triu_indices(len(x), 1)[0], np.triu_indices(len(x), 1)[1]] = -np.inf
    # A query sees itself only if it sees nothing else.
    logits[:, np.arange(1, len(x)), np.arange(1, len(x))] = -np.inf
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return (shares @ values).swapaxes(0, 1).reshape(len(x), -1) @ weights["output"]


class Forward(unittest.TestCase):
    def test_short_sequences_are_attended_to_exactly(self):
        layer, x = LshAttention(12, 3, seed=1), normal(50, 12)
        np.testing.assert_allclose(layer.forward(x[None])[0], exact(layer, x), atol=1e-5)

    def test_hashing_finds_everything_in_a_wide_window(self):
        layer = LshAttention(
            12, 3, n_rounds=8, window={"Bucket": {"len": 50}}, n_buckets={"Count": 2}, exact_up_to="Never"
        )
        x = normal(50, 12)
        np.testing.assert_allclose(layer.forward(x[None])[0], exact(layer, x), atol=1e-5)

    def test_hashing_misses_something_in_a_narrow_window(self):
        layer, x = LshAttention(12, 3, **HASHED), normal(50, 12)
        self.assertGreater(np.abs(layer.forward(x[None])[0] - exact(layer, x)).max(), 1e-2)

    def test_a_seed_draws_rotations_and_dropout(self):
        layer, x = LshAttention(12, 3, hash_seed=5, dropout=0.2, **HASHED), normal(2, 50, 12)
        first, again, other = (layer.forward(x, seed=seed) for seed in (7, 7, 8))
        np.testing.assert_array_equal(first, again)
        self.assertTrue((first != other).any())
        np.testing.assert_array_equal(layer.forward(x), layer.forward(x))
        other_rotations = LshAttention(12, 3, hash_seed=6, dropout=0.2, **HASHED)
        self.assertTrue((layer.forward(x) != other_rotations.forward(x)).any())

    def test_padding_is_never_attended_to(self):
        layer, x = LshAttention(12, 3, causal=False, **HASHED), normal(2, 50, 12)
        mask = np.zeros((2, 50), bool)
        mask[1, 40:] = True
        outputs = layer.forward(x, mask_pad=mask)
        x[1, 40:] = 99
        changed = layer.forward(x, mask_pad=mask)
        np.testing.assert_array_equal(outputs[0], changed[0])
        np.testing.assert_array_equal(outputs[1, :40], changed[1, :40])

    def test_later_positions_change_nothing(self):
        layer, x = LshAttention(12, 3, rotary_base=10_000, n_buckets={"Count": 4}), normal(1, 300, 12)
        prefix = layer.forward(x)[:, :200]
        x[:, 200:] = 1
        np.testing.assert_array_equal(layer.forward(x)[:, :200], prefix)


class Backward(unittest.TestCase):
    def check(self, layer, x, n_jumps=0, **arguments):
        """Compares derivatives in ten random directions with differences. Where a vector changes its bucket in
        between, the difference jumps: that may be so in `n_jumps` of them.
        """
        grad = normal(*x.shape, seed=1)
        of_x, of_weights = layer.backward(x, grad, **arguments)
        weights = layer.weights

        def loss(x, weights):
            return (layer.with_weights(weights).forward(x, **arguments).astype(np.float64) * grad).sum()

        def compare(what, gradient, at, n_jumps):
            errors = []
            for seed in range(10):
                direction = normal(*gradient.shape, seed=seed)
                step = 3e-4 * direction / np.linalg.norm(direction)
                difference = (at(step) - at(-step)) / 2
                errors.append(abs(difference - (gradient * step).sum()))
            limit = 0.01 * 3e-4 * np.linalg.norm(gradient)
            self.assertLess(sorted(errors)[-1 - n_jumps], limit, what)

        compare("x", of_x, lambda step: loss(x + step, weights), n_jumps)
        self.assertEqual(list(of_weights), list(weights))
        for name, gradient in of_weights.items():
            changed = lambda step: loss(x, {**weights, name: weights[name] + step})
            compare(name, gradient, changed, n_jumps if name == "query" else 0)

    def test_exact_attention(self):
        self.check(LshAttention(12, 3, seed=1), normal(2, 30, 12))

    def test_hashing(self):
        self.check(LshAttention(12, 3, seed=1, **HASHED), normal(2, 30, 12), n_jumps=2)

    def test_with_random_numbers_padding_and_all_settings(self):
        chunks = {"Chunk": {"before": 1, "after": 1, "within_bucket": True}}
        layer = LshAttention(
            12, 3, d_head=6, causal=False, dropout=0.1, logit_scale=0.5, query_length=2.0, rotary_base=100.0,
            n_rounds=3, local_round=False, n_buckets={"Factors": [2, 4]}, chunk_length=8, window=chunks,
            duplicates="Keep", exact_up_to={"Length": 8},
        )  # fmt: skip
        mask = np.arange(30)[None] >= np.array([[30], [25]])
        self.check(layer, normal(2, 30, 12), n_jumps=2, mask_pad=mask, seed=3)

    def test_a_single_position(self):
        layer = LshAttention(4, 2)
        of_x, of_weights = layer.backward(normal(1, 1, 4), normal(1, 1, 4))
        self.assertTrue(np.isfinite(of_x).all())
        np.testing.assert_array_equal(of_weights["query"], 0)

    def test_threads_get_the_gradients_of_a_single_one(self):
        layer, x, grad = LshAttention(12, 3, **HASHED), normal(2, 200, 12), normal(2, 200, 12, seed=1)

        def gradients(seed):
            of_x, of_weights = layer.backward(x, grad, seed=seed)
            return [of_x, *of_weights.values()]

        alone = [gradients(seed) for seed in range(16)]
        with ThreadPoolExecutor(4) as threads:
            for found, expected in zip(threads.map(gradients, range(16)), alone):
                for found, expected in zip(found, expected):
                    np.testing.assert_array_equal(found, expected)

    def test_a_step_down_the_gradient_lowers_the_loss(self):
        layer, x, target = LshAttention(12, 3), normal(1, 40, 12), normal(1, 40, 12, seed=1)
        losses = []
        for _ in range(20):
            error = layer.forward(x) - target
            losses.append((error**2).mean())
            _, gradients = layer.backward(x, 2 * error / error.size)
            layer = layer.with_weights({name: w - gradients[name] for name, w in layer.weights.items()})
        self.assertLess(losses[-1], 0.95 * losses[0])


class Settings(unittest.TestCase):
    def test_the_seed_decides_initial_weights(self):
        weights = [LshAttention(8, 2, seed=seed).weights for seed in (1, 1, 2)]
        for name, shape in [("query", (8, 8)), ("value", (8, 8)), ("output", (8, 8))]:
            self.assertEqual(weights[0][name].shape, shape)
            np.testing.assert_array_equal(weights[0][name], weights[1][name])
            self.assertTrue((weights[0][name] != weights[2][name]).any())
        self.assertEqual(LshAttention(8, 2, d_head=6).weights["output"].shape, (12, 8))

    def test_those_of_a_model_can_be_given_as_they_are(self):
        config = reformer_burn.load(HUGGING_FACE / "causal-lsh").config
        layer = LshAttention(8, 2, **config["reformer"]["lsh"], hash_seed=3)
        self.assertEqual(layer.config["lsh"], config["reformer"]["lsh"])
        self.assertEqual(layer.config["hash_seed"], 3)
        self.assertEqual(repr(layer), "LshAttention(d_model=8, n_heads=2)")

    def test_weights_are_copies(self):
        layer = LshAttention(8, 2)
        layer.weights["query"][:] = 0
        self.assertTrue(layer.weights["query"].any())
        zero = {name: np.zeros_like(weight) for name, weight in layer.weights.items()}
        self.assertFalse(layer.with_weights(zero).forward(normal(1, 3, 8)).any())

    def refused(self, error, message, function, *arguments, **settings):
        with self.assertRaisesRegex(error, message) as caught:
            function(*arguments, **settings)
        self.assertNotIn("\n", str(caught.exception))

    def test_what_cannot_work_is_refused(self):
        for settings, error, message in [
            (dict(n_head=3), TypeError, "no setting `n_head`"),
            (dict(n_rounds=0), ValueError, "`lsh.n_rounds` is 0"),
            (dict(n_rounds=10**9), ValueError, "`lsh.n_rounds` is"),
            (dict(n_rounds=-1), ValueError, "`n_rounds`: invalid value"),
            (dict(n_rounds="two"), ValueError, "`n_rounds`: invalid type"),
            (dict(n_buckets={"Count": 7}), ValueError, "use even numbers"),
            (dict(n_buckets={"Count": 2**40}), ValueError, "`lsh.n_buckets`"),
            (dict(n_buckets="Many"), ValueError, "`n_buckets`: unknown variant"),
            (dict(window={"Bucket": {"len": 0}}), ValueError, "`lsh.window.len` is 0"),
            (dict(wrap_rounds=True), ValueError, "`lsh.wrap_rounds` is true"),
            (dict(dropout=1), ValueError, "dropout"),
            (dict(dropout=float("nan")), ValueError, ""),
            (dict(logit_scale=1e30), ValueError, "`logit_scale`"),
            (dict(rotary_base=0.5), ValueError, "base"),
            (dict(d_head=3, rotary_base=10), ValueError, "rotate pairs"),
            (dict(d_head=2**62), ValueError, "`d_head`"),
            (dict(initializer={"Normal": {"mean": 0, "std": -1}}), ValueError, "`initializer.std`"),
            (dict(n_rounds=object()), TypeError, "JSON"),
            (dict(seed=-1), OverflowError, ""),
        ]:
            with self.subTest(**settings):
                self.refused(error, message, LshAttention, 8, 2, **settings)
        self.refused(ValueError, "`n_heads` is 3", LshAttention, 8, 3)
        self.refused(ValueError, "`d_model` is 0", LshAttention, 0, 1)
        self.refused(ValueError, "`n_heads` is 0", LshAttention, 8, 0)
        self.refused(ValueError, "`d_model` is", LshAttention, 2**62, 1)
        self.refused(OverflowError, "", LshAttention, 2**70, 1)

    def test_arrays_that_do_not_fit_are_refused(self):
        layer, x = LshAttention(8, 2), normal(2, 5, 8)
        for shape in [(5, 8), (2, 5, 7), (2, 0, 8), (0, 5, 8)]:
            self.refused(ValueError, "`x` has shape", layer.forward, np.zeros(shape))
        self.refused(ValueError, "`grad` has shape", layer.backward, x, x[:1])
        self.refused(ValueError, "`mask_pad` has shape", layer.forward, x, mask_pad=np.zeros((2, 4), bool))
        self.refused(TypeError, "`x` is an array of complex128", layer.forward, x * 1j)
        self.refused(TypeError, "`grad` is an array of", layer.backward, x, x.astype(str))
        self.refused(ValueError, "`weights` has", layer.with_weights, {})
        weights = layer.weights
        weights["outputs"] = weights.pop("output")
        self.refused(ValueError, "no `output`", layer.with_weights, weights)
        self.refused(ValueError, "`value` has shape", layer.with_weights, {**layer.weights, "value": np.zeros((8, 9))})

    def test_numbers_that_are_not_finite_give_some_result(self):
        for settings in [{}, HASHED]:
            layer, x = LshAttention(8, 2, **settings), normal(2, 30, 8)
            for number in [np.nan, np.inf, -np.inf, 1e38]:
                x[1, 3] = number
                self.assertEqual(layer.forward(x).shape, x.shape)
                self.assertEqual(layer.backward(x, x)[0].shape, x.shape)


if __name__ == "__main__":
    unittest.main()
