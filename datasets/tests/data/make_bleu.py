"""Writes bleu_sentences.tsv and bleu_scores.tsv: small corpora, and what sacreBLEU says about them.

    pip install sacrebleu==2.6.0
    python make_bleu.py

The sentences are our own. Each corpus spoils the references in its own way, so that every rule of the
tokenisation, the smoothing and the brevity penalty is met.
"""

import pathlib
import random

import sacrebleu

REFERENCES = [
    "The committee met on 3 May 2014, and the vote was 17-4 against the plan.",
    "\"We didn't expect that,\" she said (quietly); nobody answered.",
    "Prices rose by 1,234.50 euros, i.e. 3.5% more than in 2013/14.",
    "Der Präsident der Müller-Lüdenscheidt GmbH & Co. KG trat zurück.",
    "„Das weiß ich nicht“, sagte er – und ging.",
    "Rund 2.500 Menschen kamen; es gab keine Verletzten!",
    "E-mail: someone@example.org, http://example.org/a_b?c=d&e=f#g",
    "R&amp;D costs &lt;10% of sales &quot;in most years&quot;.",
    "Das Stück dauert 1 Stunde 45 Minuten... oder länger?",
    "~30 people [sic] paid $5.00 each; {that} is 50^2 + 1 = 2501 `ticks`.",
    "日本語 の 文 、 と 。",
    "non\u00a0breaking\u2009spaces \u3000 and   several   blanks",
    "Yes.",
    "",
    "the the the the the the the the",
    "Trailing space and hyphen - at 7- or -7, 7-7 and .5 or 5. or ,5, too. ",
]


def dropped(words, rng):
    return [word for word in words if rng.random() > 0.3]


def swapped(words, rng):
    words = list(words)
    for i in range(len(words) - 1):
        if rng.random() < 0.3:
            words[i], words[i + 1] = words[i + 1], words[i]
    return words


def repeated(words, rng):
    return [copy for word in words for copy in [word] * rng.choice([1, 1, 1, 2])]


def shuffled(words, rng):
    words = list(words)
    rng.shuffle(words)
    return words


def corpora():
    rng = random.Random(2020)
    for name, spoil in [
        ("dropped", dropped),
        ("swapped", swapped),
        ("repeated", repeated),
        ("shuffled", shuffled),
    ]:
        yield name, [(" ".join(spoil(r.split(" "), rng)), r) for r in REFERENCES]
    yield "equal", [(r, r) for r in REFERENCES]
    yield "lower-case", [(r.lower(), r) for r in REFERENCES]
    yield "without-punctuation", [
        ("".join(c for c in r if c.isalnum() or c == " "), r) for r in REFERENCES
    ]
    yield "others", list(zip(REFERENCES[1:] + REFERENCES[:1], REFERENCES))
    for index, reference in enumerate(REFERENCES):
        yield f"only-{index}", [(" ".join(swapped(reference.split(" "), rng)), reference)]
    # No match of a higher order, of any order, of any length.
    yield "words-only", [("c b a d f e", "a b c d e f")]
    yield "pairs-only", [("a b x c d y", "a b c d e f")]
    yield "nothing", [("x y z w v", "a b c d e")]
    yield "empty", [("", "a b c d e")]
    yield "short", [("a b", "a b c d e f g h")]
    yield "three-words", [("a b c", "a b c")]


def main():
    folder = pathlib.Path(__file__).parent
    bleu = sacrebleu.metrics.BLEU()
    sentences, scores = [], []
    for name, pairs in corpora():
        sentences += [f"{name}\t{hypothesis}\t{reference}\n" for hypothesis, reference in pairs]
        result = bleu.corpus_score([h for h, _ in pairs], [[r for _, r in pairs]])
        numbers = [result.score, *result.precisions, result.bp]
        lengths = [result.sys_len, result.ref_len]
        scores.append("\t".join([name, *map(repr, numbers), *map(str, lengths), str(result)]) + "\n")
    (folder / "bleu_sentences.tsv").write_text("".join(sentences), encoding="utf-8", newline="")
    signature = f"{bleu.get_signature()}\n"
    text = signature + "".join(scores)
    (folder / "bleu_scores.tsv").write_text(text, encoding="utf-8", newline="")


main()
