"""Trained models: agreement with transformers, generation, and what is refused."""

import json
import os
import shutil
import signal
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import reformer_burn
from support import HUGGING_FACE, SHAKESPEARE, read_safetensors


def golden(folder):
    """A Hugging Face model with the rotations that transformers drew, and what it computed."""
    expected = read_safetensors(folder / "expected.safetensors")
    model = reformer_burn.load(folder)
    rotations = [expected[name] for name in sorted(expected) if name.startswith("rotations.")]
    return (model.with_rotations(rotations) if rotations else model), expected


class AgreementWithTransformers(unittest.TestCase):
    def test_logits(self):
        folders = sorted(path.parent for path in HUGGING_FACE.glob("*/expected.safetensors"))
        self.assertEqual(len(folders), 7)
        for folder in folders:
            with self.subTest(folder.name):
                model, expected = golden(folder)
                mask = expected.get("attention_mask")
                logits = model.logits(expected["input_ids"], None if mask is None else mask == 0)
                self.assertEqual(logits.dtype, np.float32)
                np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=2e-4)

    def test_the_next_token_is_the_most_probable_one(self):
        for name in ["causal-lsh", "causal-mixed-factored", "causal-one-round", "learned-positions"]:
            with self.subTest(name):
                model, expected = golden(HUGGING_FACE / name)
                tokens = model.generate(expected["input_ids"], 1, temperature=0)
                np.testing.assert_array_equal(tokens[:, 0], expected["logits"][:, -1].argmax(-1))

    def test_generation_from_every_prefix(self):
        # At this length attention is exact, so that later tokens change nothing.
        model, expected = golden(HUGGING_FACE / "causal-short")
        tokens, logits = expected["input_ids"], expected["logits"]
        for length in range(1, tokens.shape[1] + 1):
            found = model.generate(tokens[:, :length], 1, temperature=0)
            np.testing.assert_array_equal(found[:, 0], logits[:, length - 1].argmax(-1))

    def test_settings(self):
        model = reformer_burn.load(HUGGING_FACE / "causal-lsh")
        self.assertEqual((model.vocab_size, model.max_length), (40, 64))
        self.assertEqual(model.config["reformer"]["lsh"]["n_buckets"], {"Count": 16})
        self.assertEqual(repr(model)[:25], "ReformerLm(vocab_size=40,")


class Run(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = reformer_burn.load(SHAKESPEARE)

    def test_settings(self):
        with open(SHAKESPEARE / "config.json") as file:
            self.assertEqual(self.model.config, json.load(file)["model"])
        self.assertEqual((self.model.vocab_size, self.model.max_length), (256, None))
        self.assertEqual(reformer_burn.load(str(SHAKESPEARE)).config, self.model.config)

    def test_it_has_learned_something(self):
        text = b"ROMEO:\nI would the time were come to speak with thee,\nAnd that the king shall be the better man.\n"
        tokens = np.frombuffer(text, np.uint8).astype(np.int64)
        logits = self.model.logits(tokens[None, :-1])[0].astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        bits = -log_probabilities[np.arange(len(tokens) - 1), tokens[1:]].mean() / np.log(2)
        self.assertLess(bits, 3.0)

    def test_greedy_generation_follows_the_logits(self):
        prompt = b"ROMEO:\n"
        answer = self.model.generate(prompt, 300, temperature=0)
        self.assertEqual(len(answer), 300)
        tokens = np.frombuffer(prompt + answer, np.uint8)
        most_probable = self.model.logits(tokens[None])[0].argmax(-1)
        np.testing.assert_array_equal(most_probable[len(prompt) - 1 : -1], tokens[len(prompt) :])

    def test_bytes_and_arrays_are_continued_alike(self):
        settings = dict(temperature=0.8, top_k=40, top_p=0.9, min_p=0.01, repetition_penalty=1.1, seed=3)
        answer = self.model.generate(b"JULIET:", 40, **settings)
        tokens = self.model.generate(list(b"JULIET:"), 40, **settings)
        self.assertEqual((tokens.dtype, tokens.shape), (np.int64, (40,)))
        self.assertEqual(bytes(tokens.tolist()), answer)
        rows = self.model.generate([list(b"JULIET:")] * 2, 40, **settings)
        self.assertEqual(rows.shape, (2, 40))
        np.testing.assert_array_equal(rows[0], tokens)
        self.assertTrue((rows[0] != rows[1]).any())

    def test_the_seed_decides(self):
        text = [self.model.generate(b"ROMEO:", 40, seed=seed) for seed in (1, 1, 2**64 - 1)]
        self.assertEqual(text[0], text[1])
        self.assertNotEqual(text[0], text[2])

    def test_all_layouts_and_types_of_arrays_are_read(self):
        tokens = np.arange(60).reshape(2, 30)
        expected = self.model.logits(tokens)
        wide = np.repeat(tokens, 2, axis=1)[:, ::2]
        for same in [tokens.tolist(), tokens.astype(np.uint8), np.asfortranarray(tokens), wide, tokens.astype(">i4")]:
            np.testing.assert_array_equal(self.model.logits(same), expected)

    def test_padding_changes_nothing(self):
        tokens = np.arange(100, 180)[None]
        padded = np.pad(tokens, [(0, 0), (0, 7)])
        mask = np.arange(87)[None] >= 80
        found = self.model.logits(padded, mask_pad=mask)[:, :80]
        np.testing.assert_allclose(found, self.model.logits(tokens), rtol=1e-5, atol=1e-5)
        all_padding = self.model.logits(tokens, np.ones_like(tokens, bool))
        self.assertEqual(all_padding.shape, (1, 80, 256))

    def test_threads_share_a_model(self):
        def answer(seed):
            return self.model.generate(b"ROMEO:", 60, seed=seed)

        alone = [answer(seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as threads:
            self.assertEqual(list(threads.map(answer, range(4))), alone)

    @unittest.skipUnless(hasattr(signal, "raise_signal") and os.name == "posix", "needs signals")
    def test_ctrl_c_ends_generation(self):
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            self.model.generate(b"ROMEO:", 10_000_000)
        timer.join()


class Refusals(unittest.TestCase):
    def refused(self, error, message, function, *arguments, **settings):
        with self.assertRaisesRegex(error, message) as caught:
            function(*arguments, **settings)
        self.assertNotIn("\n", str(caught.exception))

    def test_folders(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            load = reformer_burn.load
            self.refused(FileNotFoundError, "is not the folder of a run", load, folder)
            self.refused(FileNotFoundError, "is not the folder of a run", load, folder / "missing")
            self.refused(NotADirectoryError, "is not the folder of a run, since it is a file", load, __file__)
            self.refused(TypeError, "", load, 3)

            (folder / "config.json").write_text("{}")
            self.refused(ValueError, "is not a configuration of this version: `model` is missing", load, folder)
            config = json.loads((HUGGING_FACE / "causal-lsh/config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config))
            self.refused(FileNotFoundError, "neither model.safetensors nor", load, folder)
            (folder / "model.safetensors").write_bytes(b"\xff" * 100)
            self.refused(ValueError, "is damaged or no checkpoint", load, folder)
            shutil.copy(HUGGING_FACE / "causal-short/model.safetensors", folder)
            self.refused(ValueError, "does not fit its config.json", load, folder)
            config["architectures"] = ["ReformerForQuestionAnswering"]
            (folder / "config.json").write_text(json.dumps(config))
            self.refused(ValueError, "another task", load, folder)
            shutil.copy(SHAKESPEARE / "config.json", folder)
            self.refused(FileNotFoundError, "has no weights yet", load, folder)

    def test_tokens(self):
        logits = reformer_burn.load(HUGGING_FACE / "causal-lsh").logits
        for token in [40, -1, 2**40]:
            self.refused(ValueError, f"token {token} is outside of the vocabulary", logits, [[1, token]])
        self.refused(ValueError, "65 tokens are more than the 64", logits, np.zeros((1, 65), int))
        for shape in [(), (3,), (0, 3), (3, 0), (1, 2, 3)]:
            self.refused(ValueError, "`tokens` has shape", logits, np.zeros(shape, int))
        self.refused(TypeError, "array of float64, but it must hold whole numbers", logits, [[0.5]])
        self.refused(TypeError, "array of object", logits, [[None]])
        self.refused(ValueError, "mask_pad", logits, [[1, 2]], [[True]])
        self.refused(TypeError, "mask_pad", logits, [[1, 2]], [[1, 0]])
        endless = np.broadcast_to(np.int64(1), (2**40, 64))
        self.refused(MemoryError, "", logits, endless)

    def test_generation(self):
        model = reformer_burn.load(SHAKESPEARE)
        self.refused(TypeError, "use `prompt.encode", model.generate, "ROMEO:", 1)
        self.refused(TypeError, "prompt", model.generate, object(), 1)
        self.refused(ValueError, "prompt 1 is empty", model.generate, b"", 1)
        self.refused(ValueError, "`prompt` has shape", model.generate, [], 1)
        self.refused(ValueError, "0 tokens", model.generate, b"A", 0)
        self.refused(OverflowError, "", model.generate, b"A", -1)
        self.refused(OverflowError, "", model.generate, b"A", 1, seed=-1)
        self.refused(ValueError, "tokens are more than", model.generate, b"A", 2**63)
        self.refused(ValueError, "`temperature`", model.generate, b"A", 1, temperature=float("nan"))
        self.refused(ValueError, "`top_k`", model.generate, b"A", 1, top_k=0)
        self.refused(ValueError, "`top_p`", model.generate, b"A", 1, top_p=1.5)
        self.refused(ValueError, "`min_p`", model.generate, b"A", 1, min_p=0)
        self.refused(ValueError, "`repetition_penalty`", model.generate, b"A", 1, repetition_penalty=0)
        other_tokens = reformer_burn.load(HUGGING_FACE / "causal-lsh")
        self.refused(ValueError, "tokens are not bytes", other_tokens.generate, b"A", 1)
        self.refused(ValueError, "65 tokens are more than the 64", other_tokens.generate, [1], 65)
        both_sides = reformer_burn.load(HUGGING_FACE / "bidirectional-mixed")
        self.refused(ValueError, "not causal", both_sides.generate, [1], 1)

    def test_rotations(self):
        model = reformer_burn.load(HUGGING_FACE / "causal-lsh")
        self.refused(ValueError, "the model has 2 LSH layers", model.with_rotations, [])
        self.refused(ValueError, "`rotations` is of shape", model.with_rotations, [np.ones((1, 2, 3, 4))] * 2)
        self.refused(ValueError, "`rotations` has shape", model.with_rotations, [np.ones((1, 2, 3))] * 2)
        self.refused(TypeError, "rotations", model.with_rotations, [["a"]] * 2)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(HUGGING_FACE / "causal-lsh", folder, dirs_exist_ok=True)
            config = json.loads((folder / "config.json").read_text())
            config["num_buckets"] = None
            (folder / "config.json").write_text(json.dumps(config))
            automatic = reformer_burn.load(folder)
            self.refused(ValueError, "follows from the length", automatic.with_rotations, [])


if __name__ == "__main__":
    unittest.main()
