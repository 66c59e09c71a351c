"""A trained model with its vocabulary as files for ONNX Runtime, checked there before they are in place."""

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.capabilities import Exported
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.feedback.data.schema import Schema
from counterpoint.feedback.models.fields import Fields
from counterpoint.feedback.models.network import FeedbackNetwork
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import new_folder, write_json

PADDING = -1
_TOLERANCE = 1e-5
_CHECKED = 512  # rows


class Scale(Protocol):
    """How a column of numbers is standardised: (x - mean) / spread."""

    @property
    def mean(self) -> float:
        """Of the training rows."""
        ...

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        ...


class Encoding(Protocol):
    """How raw values become what a network takes."""

    @property
    def vocabularies(self) -> Mapping[str, Collection[str]]:
        """By column of ids or of lists, its ids in the order of their rows, the first of which is row 1."""
        ...

    @property
    def scales(self) -> Mapping[str, Scale]:
        """By column of numbers."""
        ...


def export(
    networks: Sequence[FeedbackNetwork], encoding: Encoding, out: Path, progress: Progress = silent
) -> Exported:
    """Write networks of the same columns as one ONNX model, with its vocabulary beside it.

    ``model.onnx`` takes the columns, any number of rows at once: under ``ids/NAME`` the vocabulary's row of
    each id (int64), under ``numbers/NAME`` what stands in the data (float64), and under ``lists/NAME`` a
    matrix of such rows (int64), filled up with -1. It gives ``probabilities``, a column for each label. A row
    beyond its vocabulary counts as unknown, a number that is missing (NaN) as the mean.

    ``vocabulary.json`` tells the row of every id (all others are unknown: row 0) and the order of the labels.

    Args:
        networks: one of all labels, or one of each; on the CPU.
        encoding: of the data that they were trained on.
        out: the folder; an older export there is replaced.
        progress: told when the model is written and when it is checked.

    Raises:
        UsageError: the folder holds something else.
        CounterpointError: the extra packages are missing, a vocabulary is another model's, probabilities
            differ by more than 1e-5, or a file cannot be written.
    """
    if out.exists() and not _may_be_replaced(out):
        raise UsageError(f"{out}: there is something else already; choose another place.")
    runtime = _runtime()
    schema = replace(
        networks[0].schema, labels=tuple(label for each in networks for label in each.schema.labels)
    )
    _check(schema, encoding)
    served = _Served(networks, schema, encoding).eval()
    with new_folder(out) as folder:
        progress("exporting", 0, 2)
        _write_model(served, folder / "model.onnx")
        progress("exporting", 1, 2)
        difference = _difference(networks, schema, encoding, runtime, folder / "model.onnx")
        if not difference <= _TOLERANCE:
            raise CounterpointError(
                f"{out}: ONNX Runtime's probabilities differ from the model's by {difference:.2g}, more than "
                f"{_TOLERANCE:g}; nothing was written, report it with the recipe."
            )
        write_json(folder / "vocabulary.json", _vocabulary(schema, encoding))
        progress("exporting", 2, 2)
    return Exported(out, _CHECKED, difference)


class _Served(nn.Module):
    """From raw columns to the probabilities of all labels."""

    scales: Float[Tensor, "numbers 2"]

    def __init__(self, networks: Sequence[FeedbackNetwork], schema: Schema, encoding: Encoding) -> None:
        super().__init__()
        self.networks, self.schema = nn.ModuleList(networks), schema
        self._each = tuple(networks)  # as they are: a list of modules does not know their type
        # Tensors: a number that stands in the graph by itself is written in single precision.
        scales = [(encoding.scales[name].mean, encoding.scales[name].spread) for name in schema.numbers]
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float64).view(-1, 2))

    def forward(self, columns: Sequence[Tensor]) -> Float[Tensor, "rows labels"]:
        schema, like = self.schema, columns[0]
        ids, rest = columns[: len(schema.ids)], columns[len(schema.ids) :]
        numbers, lists = rest[: len(schema.numbers)], rest[len(schema.numbers) :]
        rows = [_known(each, column.size) for each, column in zip(ids, schema.ids, strict=True)]
        of_ids = torch.stack(rows, dim=1) if rows else like.new_zeros(like.shape[0], 0, dtype=torch.int64)
        of_numbers = like.new_zeros(like.shape[0], 0)
        if numbers:
            scaled = (torch.stack(list(numbers), dim=1) - self.scales[:, 0]) / self.scales[:, 1]
            of_numbers = torch.where(scaled.isnan(), 0.0, scaled).float()
        return torch.cat(
            [
                each.probabilities_of(each.fields.joined(of_ids, of_numbers, self._means(each.fields, lists)))
                for each in self._each
            ],
            dim=1,
        )

    def _means(
        self, fields: Fields, lists: Sequence[Int[Tensor, "rows longest"]]
    ) -> Float[Tensor, "rows lists width"] | None:
        """Return the mean vector of each list."""
        means = []
        for place, (padded, column) in enumerate(zip(lists, self.schema.lists, strict=True)):
            there = (padded >= 0).unsqueeze(2)
            vectors = fields.table(_known(padded, column.size) + fields.first_of_lists[place]) * there
            means.append(vectors.sum(dim=1) / there.sum(dim=1).clamp(min=1))
        return torch.stack(means, dim=1) if means else None


def _known(rows: Int[Tensor, "*any"], size: int) -> Int[Tensor, "*any"]:
    """Return rows of a vocabulary, 0 for those beyond it."""
    return torch.where((rows >= 0) & (rows < size), rows, 0)


def _write_model(served: _Served, file: Path) -> None:
    """Trace the model with rows of its columns' kinds."""
    schema, rows = served.schema, 5
    columns = [torch.zeros(rows, dtype=torch.int64) for _ in schema.ids]
    columns += [torch.zeros(rows, dtype=torch.float64) for _ in schema.numbers]
    shapes: list[dict[int, Any]] = [{0: torch.export.Dim("rows")} for _ in columns]
    for place, _ in enumerate(schema.lists, 1):
        # Lengths that are the same here would be taken for the same everywhere.
        columns.append(torch.zeros(rows, rows + place, dtype=torch.int64))
        shapes.append({0: torch.export.Dim("rows"), 1: torch.export.Dim(f"longest_{place}")})
    with _quiet():
        program = torch.onnx.export(
            served,
            (columns,),
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=_inputs(schema),
            output_names=["probabilities"],
            verbose=False,
        )
        program.save(file)  # type: ignore[union-attr]


def _inputs(schema: Schema) -> list[str]:
    """Return the names of the inputs, none of which the exporter gives to anything else."""
    return [
        *(f"ids/{column.name}" for column in schema.ids),
        *(f"numbers/{name}" for name in schema.numbers),
        *(f"lists/{column.name}" for column in schema.lists),
    ]


def _vocabulary(schema: Schema, encoding: Encoding) -> dict[str, Any]:
    """Return what a caller of the model must know."""

    def rows(name: str) -> dict[str, int]:
        return {identifier: row for row, identifier in enumerate(encoding.vocabularies[name], 1)}

    return {
        "ids": {column.name: rows(column.name) for column in schema.ids},
        "numbers": list(schema.numbers),
        "lists": {column.name: rows(column.name) for column in schema.lists},
        "labels": list(schema.labels),
        "unknown": 0,
        "padding": PADDING,
    }


def _difference(
    networks: Sequence[FeedbackNetwork], schema: Schema, encoding: Encoding, runtime: Any, file: Path
) -> float:
    """Return by how much the file's probabilities differ from the networks', on rows drawn at random."""
    given, batch = _drawn(schema, encoding)
    with torch.no_grad():
        expected = torch.cat([each.probabilities(batch) for each in networks], dim=1).numpy()
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(zip(_inputs(schema), given, strict=True)))
    return float(np.abs(found - expected).max())


def _drawn(schema: Schema, encoding: Encoding) -> tuple[list[np.ndarray], FeedbackBatch]:
    """Return rows as the file and as a network take them, with unknown ids and missing numbers."""
    draw = np.random.default_rng(0)
    ids = [draw.integers(-1, column.size + 1, _CHECKED) for column in schema.ids]
    raw, scaled = [], []
    for name in schema.numbers:
        scale, values = encoding.scales[name], draw.normal(size=_CHECKED)
        missing = draw.random(_CHECKED) < 0.1
        raw.append(np.where(missing, np.nan, scale.mean + scale.spread * values))
        scaled.append(np.where(missing, 0.0, values))
    padded, bags = [], []
    for column in schema.lists:
        lengths = draw.integers(0, 4, _CHECKED)
        members = draw.integers(0, column.size + 1, lengths.sum())
        padded.append(_padded(members, lengths))
        bags.append((_cut(members, column.size), torch.from_numpy(np.cumsum(lengths) - lengths)))
    known = [_cut(each, column.size) for each, column in zip(ids, schema.ids, strict=True)]
    batch = FeedbackBatch(
        torch.stack(known, dim=1) if known else torch.empty(_CHECKED, 0, dtype=torch.int64),
        torch.from_numpy(np.array(scaled, dtype=np.float32).reshape(-1, _CHECKED).T),
        tuple(bags),
        torch.zeros(_CHECKED, len(schema.labels)),
    )
    return [*ids, *raw, *padded], batch


def _padded(
    values: Int[np.ndarray, " values"], lengths: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, "rows longest"]:
    """Return lists one below another, filled up with -1."""
    padded: Int[np.ndarray, "rows longest"] = np.full((len(lengths), lengths.max(initial=0)), PADDING)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = values
    return padded


def _cut(rows: Int[np.ndarray, " values"], size: int) -> Int[Tensor, " values"]:
    """Return rows of a vocabulary, 0 for those beyond it."""
    return torch.from_numpy(np.where((rows >= 0) & (rows < size), rows, 0))


def _check(schema: Schema, encoding: Encoding) -> None:
    """Refuse vocabularies that are another model's."""
    for column in (*schema.ids, *schema.lists):
        known = len(encoding.vocabularies[column.name]) + 1
        if known != column.size:
            raise CounterpointError(
                f"The column {column.name!r} has {known} rows in the vocabulary and {column.size} in the "
                "model; name the store that the model was trained on."
            )


def _may_be_replaced(folder: Path) -> bool:
    """Return whether a folder is an export or empty."""
    return (folder / "model.onnx").is_file() or (folder.is_dir() and not any(folder.iterdir()))


def _runtime() -> Any:
    """Return ONNX Runtime, if the exporter's packages are there as well."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise CounterpointError("Exporting needs more packages: pip install 'counterpoint[onnx]'.") from None
    return onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says of packages that are not there and of its own renaming."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
