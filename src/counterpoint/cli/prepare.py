"""``counterpoint prepare``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show


def prepare(
    data: Annotated[Path, typer.Argument(help="The raw files: their folder, or one file.")],
    out: Annotated[Path | None, typer.Option(help="The store's folder. Default: one in the cache.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Whose tokenizer: minilm, a hub name or a folder.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Whose data settings.")] = "mtrec",
    settings: options.Settings = None,
    format: options.Format = None,  # noqa: A002
    on_bad_row: options.OnBadRow = "stop",
) -> None:
    """Read raw logs once into a store that training maps into memory.

    `counterpoint formats` lists what is understood: published data sets as they are, and your own logs as
    CSV, JSON lines or Parquet. Three rows of a newsroom's own:

    \b
    articles.csv
      article,title,category,entities
      a1,City council votes on new tram line,politics,
      a2,Ada Holm wins the mountain stage,sports,"[{""SurfaceForms"": [""Ada Holm""], ""Type"": ""P""}]"
      a3,Five soups for cold evenings,food,

    \b
    impressions.csv
      impression,reader,time,history,candidates,clicked
      1,r1,2026-03-01T08:15:00,a1,a2 a3,a2
      2,r2,2026-03-02T12:30:00,,a1 a3,a3
      3,r1,2026-03-03T07:55:00,a1 a2,a3 a1,a1

    Articles may also have subtitle, abstract, body, subcategory, sentiment (negative, neutral, positive, or a
    number from -1 to 1) and published (ISO 8601); impressions history_read_time (seconds) and history_scroll
    (percent), as long as the history. In JSON lines and Parquet, lists are lists.

    For a recipe of the behaviors workload, a log of behaviours, with test.csv (user,item) beside it if the
    split is given:

    \b
    interactions.csv
      user,item,behavior,time
      u1,i7,click,2026-03-01T08:15:00
      u1,i7,buy,2026-03-01T08:20:00

    For a recipe of the feedback workload, a table of views, with test.csv beside it if the split is given,
    whose recipe says what the columns are and what makes a label:

    \b
    views.csv
      user,item,author,length,tags,played,liked
      u1,v7,a3,31.5,music;dance,40.2,1

    \b
    [columns]
    ids = ["user", "item", "author"]
    numbers = ["length"]
    lists = ["tags"]
    [labels]
    long_view = "played > quantile(played, 0.75)"
    complete = "played >= length"
    like = "liked == 1"

    For a recipe of the sentences workload, the course's files as they are (separated by tabs, whatever
    their names say), or your own, whose columns the recipe names:

    \b
    ids-sst-train.csv, quora-train.csv, sts-train.csv, each with -dev and -test-student beside it

    Example: counterpoint prepare MINDsmall --out stores/mind
    Example: counterpoint prepare UserBehavior.csv --recipe metabalance --out stores/shopping
    Example: counterpoint prepare KuaiRand-Pure/data --recipe gradcraft --out stores/kuairand
    Example: counterpoint prepare minbert/data --recipe minbert-final --on-bad-row skip
    """
    from counterpoint import api

    chosen = [*(settings or []), *([] if encoder is None else [f"encoder.name={encoder}"])]
    with show.progress() as progress:
        store = api.prepare(
            data,
            format=format,
            recipe=recipe,
            settings=chosen,
            out=out,
            on_bad_row=on_bad_row,
            progress=progress,
        )
    splits = {f"split {name}": count for name, count in store.manifest["splits"].items()}
    for name, count in {**store.counts, **splits}.items():
        print(f"{count:>12,}  {name}")
    show.set_aside(store)
    show.say(f"splits: {store.manifest['split rule']}")
    show.say(f"prepared store: {store.path}")
