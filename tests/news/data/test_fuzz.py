import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.errors import CounterpointError
from counterpoint.news.data.store import UNKNOWN, Store
from counterpoint.storage import rows
from news_stores import prepared_store
from samples import write_mind

SPICE = [
    b"\t",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff",
    b"\xc3",
    b'"',
    b"[",
    b"{}",
    b"-1",
    b"-0",
    b" ",
    b"N1",
    b"\xf0\x9f\x98\x80",
]
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["news.tsv", "behaviors.tsv"]),
        st.integers(0, 4000),
        st.integers(0, 40),
        st.one_of(st.sampled_from(SPICE), st.binary(max_size=6)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    mutations=MUTATIONS, block=st.sampled_from([64, 1000, 8 << 20]), policy=st.sampled_from(["stop", "skip"])
)
def test_any_damage_gives_a_store_or_one_sentence(mutations, block, policy, tokenizer):
    """Bytes cut out of and put into valid files, anywhere: no other error, and no inconsistent store."""
    whole, rows.BLOCK_BYTES = rows.BLOCK_BYTES, block
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = write_mind(Path(place) / "mind")
            for name, start, length, put in mutations:
                raw = (folder / name).read_bytes()
                (folder / name).write_bytes(raw[:start] + put + raw[start + length :])
            try:
                store = prepared_store(folder, Path(place) / "store", tokenizer, on_bad_row=policy)
            except CounterpointError as error:
                message = str(error)
            else:
                message = ""
                _check(store)
            if message:
                assert "\n" not in message
                assert [path.name for path in Path(place).iterdir()] == ["mind"]
    finally:
        rows.BLOCK_BYTES = whole


def _check(store: Store) -> None:
    every = [store.split(name) for name, size in store.manifest["splits"].items() if size]
    assert sum(map(len, every)) == store.counts["impressions"]
    for chosen in every:
        shown = store.impressions(chosen)
        assert shown.candidates.min() >= UNKNOWN
        assert shown.candidates.max() <= store.counts["articles"]
        history, _ = store.histories(shown.history, 50)
        assert (history > UNKNOWN).all()
        assert len(store.impression_ids(chosen)) == len(chosen)
    assert len(store.articles) == len(store.title_lengths()) == store.counts["articles"] + 1
