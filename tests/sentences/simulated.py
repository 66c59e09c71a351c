"""Little files in the course's form; every sentence in them is made up by a rule."""

import random
from pathlib import Path

FEELINGS = ("awful", "weak", "plain", "good", "superb")
THINGS = ("plot", "cast", "song", "scene", "ending", "score", "camera", "script")
NOUNS = ("dog", "cat", "boat", "train", "city", "river", "garden", "window", "king", "farmer")
VERBS = ("sees", "likes", "builds", "paints", "sells")


def sentiments(count, seed=0):
    """Sentences whose class is the feeling in them."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = draw.randrange(5)
        rows.append(
            (f"s{seed}-{number}", f"A {FEELINGS[label]} {draw.choice(THINGS)} , take {number} .", label)
        )
    return rows


def pairs(count, seed=0):
    """Pairs of sentences of three words, and how many of them they share."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        first = [draw.choice(NOUNS), draw.choice(VERBS), draw.choice(NOUNS)]
        shared = draw.randrange(4)
        second = [
            word if place < shared else draw.choice(VERBS if place == 1 else NOUNS)
            for place, word in enumerate(first)
        ]
        said = [f"The {one} {verb} the {other}" for one, verb, other in (first, second)]
        rows.append((f"p{seed}-{number}", *said, shared))
    return rows


def duplicates(count, seed):
    """Pairs that are duplicates where they share two words or three."""
    return [(*row[:3], float(row[3] >= 2)) for row in pairs(count, seed)]


def likenesses(count, seed):
    """Pairs whose similarity is the share of their words, from 0 to 5."""
    return [(*row[:3], round(row[3] * 5 / 3, 1)) for row in pairs(count, seed)]


def lines(rows, header=None):
    """Rows with an index in front, separated by tabs."""
    written = [[str(number), *map(str, row)] for number, row in enumerate(rows)]
    return "".join("\t".join(row) + "\n" for row in ([["", *header], *written] if header else written))


def write_course(folder: Path, *, rows: int = 48, tests: int = 24) -> Path:
    """Write the files of all three tasks; Quora's in two pieces, the second without a header."""
    folder.mkdir(parents=True)
    pair = ("id", "sentence1", "sentence2")
    sst, quora, sts = "ids-sst", "quora", "sts"

    def put(name, text):
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")

    put(f"{sst}-train", lines(sentiments(rows), ("id", "sentence", "sentiment")))
    put(f"{sst}-dev", lines(sentiments(tests, 1), ("id", "sentence", "sentiment")))
    put(f"{sst}-test-student", lines([row[:2] for row in sentiments(5, 2)], ("id", "sentence")))
    twins = duplicates(2 * rows, 3)
    put(f"{quora}-train-a", lines(twins[:rows], (*pair, "is_duplicate")))
    put(f"{quora}-train-b", lines(twins[rows:]))
    put(f"{quora}-dev", lines(duplicates(tests, 4), (*pair, "is_duplicate")))
    put(f"{sts}-train", lines(likenesses(rows // 2, 5), (*pair, "similarity")))
    put(f"{sts}-dev", lines(likenesses(tests, 6), (*pair, "similarity")))
    put(f"{sts}-test-student", lines([row[:3] for row in pairs(6, 7)], pair))
    return folder
