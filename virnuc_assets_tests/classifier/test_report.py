from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from virnuc_assets.classifier.predict import classify
from virnuc_assets.classifier.report import EmbeddingRun, score_histogram, write_report
from virnuc_assets.console import print_calls
from virnuc_assets.errors import StoreError

SAMPLE = [
    ("<script>alert(1)</script>", 12, ["1F1", "1R3", "2F2", "9R1", "10F3", "12F1"]),
    ("closed$^{|&\"'", 1, []),
    ("price_$5_and_$_{6}", 3, ["1F1"]),
    ("read", 1, ["1F1", "1F2", "1F3", "1R1", "1R2", "1R3"]),
]
VOID = {"meta", "img"}
SEED = 2


class Page(HTMLParser):
    """Collects text, tags and links, and holds every tag to its closing one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)


@pytest.fixture
def results(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> Callable[..., Path]:
    def make(
        sample: Any = SAMPLE, model: str = "untrained", set_aside: tuple[int, ...] = ()
    ) -> Path:
        dna, protein = make_rows(sum(len(opened) for _, _, opened in sample))
        rows = replace(dna, set_aside=np.array(set_aside, np.int64)), protein
        provenance = {"model": model, "index_digest": "toy-index"}
        # With this seed some records are viral and some are not.
        classify(make_index(sample), *rows, make_head(seed=SEED), tmp_path / "results", provenance)
        return tmp_path / "results"

    return make


def report(results: Path, tmp_path: Path, *runs: EmbeddingRun) -> Page:
    summary = write_report(results, tmp_path / "report", "A & B <lab>", runs)
    assert summary.size == summary.path.stat().st_size
    return Page(summary.path.read_text(encoding="utf-8"))


def test_the_page_is_one_file_and_shows_ids_as_text(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    page = report(results(), tmp_path)
    assert "script" not in page.tags
    assert page.tags.count("img") == 3
    assert "A & B <lab>" in page.text
    assert "closed$^{|&\"'" in page.text
    for link in page.links:
        kind, _, data = link.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data)


def test_the_page_lists_every_viral_record_and_its_numbers(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    folder = results()
    page = report(folder, tmp_path)
    records = pl.read_parquet(folder / "records.parquet")
    viral = records.filter(pl.col("is_virus"))
    assert 0 < len(viral) < 3
    for row in viral.iter_rows(named=True):
        chunk, frame = re.fullmatch(r".*_chunk_(\d+)([FR]\d)", row["best_frame"]).groups()
        assert (
            f"{row['id']} {row['score']:.4f} {row['length']:,} bp {row['n_viral_chunks']} / "
            f"{row['n_called_chunks']} / {row['n_chunks']} {row['best_score']:.4f} {chunk}, {frame}"
        ) in page.text
    bases = f"{viral['length'].sum():,} bp of the sample's 8,500 bp"
    assert f" {len(viral)} of the 3 records that have a call are viral " in page.text
    assert bases in page.text
    assert " 4 records, 8,500 bp " in page.text
    assert "records without an open frame 1 25.0 % 500 bp every frame of every" in page.text
    assert "index digest toy-index" in page.text


def test_records_are_ranked_by_score_and_not_by_their_best_frame(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    folder = results()
    path = folder / "records.parquet"
    records = pl.read_parquet(path).filter(pl.col("status") == "called").with_columns(is_virus=True)
    ranked = {"low": (0.6, 0.99), "high": (0.9, 0.91), "middle": (0.7, 0.95)}
    for column, place in (("score", 0), ("best_score", 1)):
        values = pl.Series(column, [pair[place] for pair in ranked.values()])
        records = records.with_columns(values)
    chunks = records["best_frame"].str.extract(r"(_chunk_.*)$")
    frames = pl.Series("best_frame", ranked.keys()) + chunks
    records.with_columns(pl.Series("id", ranked.keys()), frames).write_parquet(path)
    text = report(folder, tmp_path).text
    assert text.index("high 0.9000") < text.index("middle 0.7000") < text.index("low 0.6000")


RUN = EmbeddingRun(
    encoder="esm2",
    started="2026-11-22 10:00 UTC",
    seconds=3723.0,
    sequences=12_345,
    tokens=2_000_000,
    tokens_per_second=54_321.6,
    packing_efficiency=0.987,
    busy_share=0.934,
    n_devices=2,
    peak_memory_bytes=23_400_000_000,
)


def test_the_page_says_how_long_it_took_and_on_what(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    folder = results()
    text = report(folder, tmp_path, RUN).text
    assert "last run that embedded not recorded 2026-11-22 10:00 UTC" in text
    assert "embedded in it not recorded 12,345 sequences, 2,000,000 tokens" in text
    assert "took not recorded 1 h 2 min on 2 devices, start included" in text
    assert "throughput not recorded 54,322 tokens/s" in text
    assert "packing efficiency not recorded 98.7 %" in text
    assert "GPU busy not recorded 93.4 % peak GPU memory not recorded 23.4 GB" in text
    on_cpu = replace(RUN, busy_share=None, peak_memory_bytes=None, n_devices=1)
    text = report(folder, tmp_path, on_cpu).text
    assert "1 device, start included" in text
    assert "GPU" not in text
    assert "took not recorded not recorded packing" not in report(folder, tmp_path).text


def test_the_page_of_a_large_sample_is_no_larger(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    folder = results()
    before = write_report(folder, tmp_path / "small", "x").size
    times = 5_000
    for name, key in (("records", "ordinal"), ("chunks", "record"), ("frames", "record")):
        path = folder / f"{name}.parquet"
        table = pl.read_parquet(path)
        shift = pl.Series("shift", np.repeat(np.arange(times), len(table)))
        many = pl.concat([table] * times).with_columns(pl.col(key) + len(SAMPLE) * shift)
        if name == "records":
            many = many.with_columns(id=pl.col("id") + shift.cast(pl.String))
            many = many.with_columns(
                best_frame=pl.col("best_frame").str.replace("_chunk", pl.lit("0_chunk"))
            )
        many.write_parquet(path)
    after = write_report(folder, tmp_path / "large", "x").size
    assert pl.read_parquet(folder / "records.parquet").height == 4 * times
    assert after < 500_000
    assert after < 3 * before


def test_the_page_names_the_model_and_says_what_the_bundled_one_is(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    page = report(results(model="lab <head> 3"), tmp_path)
    assert "model: lab <head> 3 " in page.text
    assert "bundled" not in page.text
    page = report(results(model="virnuc-mini-1"), tmp_path)
    assert "model: virnuc-mini-1 : a small bundled model, not VirNucPro's; see docs/" in page.text


def test_what_was_set_aside_is_told(results: Callable[..., Path], tmp_path: Path) -> None:
    # Of the four records one loses its only frame and another one of six.
    folder = results(
        set_aside=(nucleotide_row("price_$5_and_$_{6}_chunk_1F1"), nucleotide_row("read_chunk_1R3"))
    )
    page = report(folder, tmp_path)
    assert "records not embedded 1 25.0 % 1,500 bp no stop-free frame could be" in page.text
    assert "records without an open frame 1 25.0 % 500 bp" in page.text
    assert " 11 frames scored" in page.text
    assert "stop-free frames 2 15.4 % their nucleotides or protein could not be" in page.text
    assert "price_$5_and_$_{6} 1,500 bp 3 not_embedded" in page.text
    assert score_histogram(folder).startswith(b"\x89PNG")


def test_the_command_line_tells_it_too(results: Callable[..., Path], capsys: Any) -> None:
    folder = results(set_aside=(nucleotide_row("price_$5_and_$_{6}_chunk_1F1"),))
    print_calls(folder, "sample")
    said = capsys.readouterr()
    assert " of 4 records viral, 1 without an open frame, 1 not embedded\n" in said.out
    assert re.search(r"price_\$5_and_\$_\{6\} +1500 +not embedded +0 of 0", said.out)
    assert "sample: 1 frames have no score, because" in said.err
    print_calls(results(), "sample")
    said = capsys.readouterr()
    assert "not embedded" not in said.out
    assert said.err == ""


def nucleotide_row(name: str) -> int:
    """The nucleotide row that the toy index gives the frame called `name`."""
    names = [f"{record}_chunk_{frame}" for record, _, opened in SAMPLE for frame in opened]
    return 7 * names.index(name) % len(names)


def test_a_sample_without_any_open_frame_has_a_page(
    results: Callable[..., Path], tmp_path: Path
) -> None:
    folder = results([("a", 1, []), ("b", 1, [])])
    page = report(folder, tmp_path)
    assert "No record was called viral." in page.text
    assert "there are no scores" in page.text
    assert "No record is longer than one chunk." in page.text
    assert score_histogram(folder).startswith(b"\x89PNG")


def test_the_same_results_give_the_same_page(results: Callable[..., Path], tmp_path: Path) -> None:
    folder = results()
    first = write_report(folder, tmp_path / "a", "x")
    second = write_report(folder, tmp_path / "b", "x")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.model == "untrained"


def test_incomplete_results_are_named(results: Callable[..., Path], tmp_path: Path) -> None:
    folder = results()
    (folder / "results.json").unlink()
    for read in (lambda: write_report(folder, tmp_path, "x"), lambda: score_histogram(folder)):
        with pytest.raises(StoreError, match=r"results\.json: no such file"):
            read()
