"""Run folders as training and evaluating write them, made up for tests of what reads them."""

import json

import numpy as np

RECIPE = """name = "{name}"
summary = "a <summary> & more"
workload = "news"

[balance]
method = "{method}"
scale = 0.3

[training]
epochs = 3
learning_rate = 2e-05
seed = {seed}
"""


def evaluation(seed=0, auc=0.68, **changes):
    """A plausible evaluation file."""
    shift = 0.002 * seed
    return {
        "split": "test",
        "unit": "impressions",
        "metrics": {
            "auc": auc + shift,
            "mrr": 0.331 + shift,
            "ndcg@5": 0.366 + shift,
            "ndcg@10": 0.428 + shift,
            "category/accuracy": 0.873 + shift,
            "entities/f1": 0.792 + shift,
        },
        "intervals": {"auc": [auc + shift - 0.003, auc + shift + 0.003]},
        "floors": {
            "random": {"auc": 0.5003, "mrr": 0.2010, "ndcg@5": 0.2031, "ndcg@10": 0.2672},
            "popularity": {"auc": 0.5712, "mrr": 0.2511, "ndcg@5": 0.2702, "ndcg@10": 0.3321},
            "recency": {"auc": 0.5344, "mrr": 0.2304, "ndcg@5": 0.2437, "ndcg@10": 0.3065},
            "content": {"auc": 0.6120, "mrr": 0.2803, "ndcg@5": 0.3054, "ndcg@10": 0.3690},
            "optimum (simulated)": {"auc": 0.7731, "mrr": 0.4306, "ndcg@5": 0.4710, "ndcg@10": 0.5292},
        },
        "slices": {
            "cold readers": {"impressions": 2214, "auc": 0.601 + shift, "mrr": 0.281, "ndcg@10": 0.361},
            "new articles": {"impressions": 31847, "auc": 0.655 + shift, "mrr": 0.318, "ndcg@10": 0.413},
        },
        "counts": {"impressions": 73152, "skipped (one class)": 0, "unknown candidates": 3},
        "warnings": [],
    } | changes


def write_run(folder, *, name="mtrec", method="mtrec", seed=0, steps=3000, **evaluated):
    """Write a run folder as training leaves it: losses that fall, cosines that scatter around zero."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    facts = {
        "format": 2,
        "name": name,
        "status": "done",
        "seed": seed,
        "versions": {"counterpoint": "0.1.0", "torch": "2.13.0"},
        "machine": {"processor": "2 cores", "memory_gb": 23.4},
        "parameters": 22_713_216,
        "started": "2026-03-01T09:00:00",
        "finished": "2026-03-01T13:12:09",
        "seconds": 15129.4,
        "store": {
            "manifest": {"counts": {"articles": 51282}, "splits": {"train": 126544, "validation": 30421}}
        },
    }
    training, balance = [], []
    for step in range(1, steps + 1):
        progress = step / steps
        losses = {
            "click": 1.45 - 0.35 * progress + rng.normal(scale=0.12),
            "category": 0.4 + 2.4 * np.exp(-9 * progress) + rng.normal(scale=0.1),
            "entities": 0.2 + 1.3 * np.exp(-6 * progress) + rng.normal(scale=0.06),
        }
        if step % 10 == 0:
            training.append(
                {
                    "step": step,
                    "epoch": 3 * progress,
                    "losses": losses,
                    "learning_rate": 2e-5 * (1 - progress),
                    "examples_per_second": 41.0,
                }
            )
        if step % (steps // 6) == 0:
            score = 0.60 + 0.08 * progress**0.5 + 0.002 * seed
            validation = {
                "auc": score,
                "mrr": score / 2,
                "ndcg@5": score * 0.54,
                "ndcg@10": score * 0.63,
                "category/accuracy": 0.9 - 0.5 * np.exp(-4 * progress),
            }
            training.append({"step": step, "epoch": 3 * progress, "validation": validation})
        cosine = rng.normal(loc=0.02, scale=0.08)
        balance.append(
            {
                "step": step,
                "losses": losses,
                "norms": {
                    "click": 2.0 + rng.gamma(2, 0.4),
                    "category+entities": 0.3 + 3 * np.exp(-7 * progress) + rng.gamma(2, 0.05),
                },
                "cosines": {"click|category+entities": cosine},
                "weights": {
                    "click": 1.0,
                    "category": 1.0 + max(0, -cosine),
                    "entities": 1.0 + max(0, -cosine),
                },
                "conflict_rate": float(cosine < 0),
            }
        )
    (folder / "recipe.toml").write_text(RECIPE.format(name=name, method=method, seed=seed))
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in training))
    (folder / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in balance))
    (folder / "evaluation-test.json").write_text(json.dumps(evaluation(seed, **evaluated)))
    return folder
