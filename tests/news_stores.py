"""Raw folders to prepared stores, with the settings of a recipe's ``data`` named one by one."""

from pathlib import Path

from counterpoint.encoders.tokens import Tokenizer
from counterpoint.news.data.layout import find
from counterpoint.news.data.prepare import prepare
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import Data
from counterpoint.progress import Progress, silent
from counterpoint.workload import Preparation


def prepared_store(
    folder: Path,
    place: Path,
    tokenizer: Tokenizer,
    *,
    format_name: str | None = None,
    on_bad_row: str = "stop",
    progress: Progress = silent,
    needs_text: bool = True,
    **shape: object,
) -> Store:
    preparation = Preparation(on_bad_row=on_bad_row, progress=progress)
    source = find(folder, format_name)
    return prepare(
        source, place, tokenizer, Data().model_copy(update=shape), preparation, needs_text=needs_text
    )
