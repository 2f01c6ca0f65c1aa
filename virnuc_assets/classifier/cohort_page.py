"""Writes a cohort: one page that needs no other file, and its table as parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from virnuc_assets.classifier.cohort import FEWEST_SAMPLES, MOST_Z, Cohort
from virnuc_assets.classifier.report_page import STYLE
from virnuc_assets.classifier.words import as_bases, as_count, as_share
from virnuc_assets.mini.bundled import note_on
from virnuc_assets.store.atomic import atomic_path

TABLE, PAGE = "cohort.parquet", "cohort.html"
_MOST_ROWS = 2000
_MOST_UNREAD = 20
_NAMES: Mapping[str, str] = {
    "records": "number of records",
    "viral_share": "viral share",
    "not_callable_share": "share without a call",
    "unique_share": "unique share",
    "median_score": "median score",
}

_PAGE_TEMPLATE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cohort: viral calls</title>
<style>"""
    + STYLE
    + """
main { max-width: 80rem; }
.model + .model { margin-top: .5rem; }
th, td { padding-right: .7rem; }
td.id { min-width: 11rem; }
td.about { font-size: .8rem; color: var(--soft); }
.narrow { display: none; }
@media (max-width: 62rem) { .wide { display: none; } .narrow { display: block; } }
td.out { color: var(--virus); font-weight: 600; }
tr.out td { background: #fff7f2; }
</style>
</head>
<body>
<main>
<h1>Cohort</h1>
{% for model in models %}
<div class="model">model: <strong>{{ model.name }}</strong>, {{ model.n|count }}
{{ "sample" if model.n == 1 else "samples" }}{% if model.note %}: {{ model.note }}{% endif %}</div>
{% endfor %}
<div class="figures">
<div><b>{{ totals.samples|count }}</b><span>samples with results</span></div>
<div><b>{{ totals.records|count }}</b><span>records, {{ totals.bases|bases }}</span></div>
<div class="virus"><b>{{ totals.viral_records|count }}</b>
<span>viral records, {{ totals.viral_records|share(totals.called_records) }} of those
called</span></div>
<div><b>{{ outliers|length }}</b><span>samples that stand out</span></div>
</div>

{% if unread %}
<section>
<h2>Not read</h2>
{% for sentence in unread %}
<p>{{ sentence }}</p>
{% endfor %}
{% if n_unread > unread|length %}
<p>So are {{ n_unread - unread|length }} more.</p>
{% endif %}
</section>
{% endif %}

<section>
<h2>Where the samples lie</h2>
<p>Each dot is a sample, the dotted line their median. Orange dots stand out: their modified
z-score, 0.6745 (x − median) / MAD, is beyond ±{{ most_z }} (Iglewicz and Hoaglin 1993), and they
differ from the median by more than two percentage points, 0.02 in the score, or a factor of two in
the number of records. Samples are compared with those of the same model and chunk length, where
there are at least {{ fewest }}. To stand out is no fault: it is where to look first.</p>
{% if figure %}<img alt="The samples' key figures, one dot a sample" src="{{ figure }}">
{% else %}<p>No sample has results yet.</p>{% endif %}
</section>

<section>
<h2>Samples that stand out</h2>
{% if outliers %}
<div class="scroll"><table><thead><tr><th>sample</th><th>in</th></tr></thead><tbody>
{% for row in outliers[:most_rows] %}
<tr><td class="id"><a href="{{ row.href }}">{{ row.sample }}</a></td><td>{{ row.names }}</td></tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p>None.</p>
{% endif %}
</section>

<section>
<h2>All samples</h2>
<p class="narrow">A wider window shows bases, chunks, frames, model, precision and time too.</p>
{% if rows|length < totals.samples %}
<p>Listed are {{ rows|length|count }}, those that stand out first; all are in
<code>cohort.parquet</code>.</p>
{% endif %}
<div class="scroll"><table>
<thead><tr><th>sample</th><th class="n">records</th><th class="n wide">bases</th>
<th class="n wide">chunks</th><th class="n wide">frames</th><th class="n">viral records</th>
<th class="n">viral share</th>
<th class="n">without a call</th><th class="n">unique</th><th class="n">median score</th>
<th class="wide">model, chunks, precision</th><th class="n wide">finished, UTC</th></tr></thead>
<tbody>
{% macro cell(row, figure) %}
<td class="n{{ " out" if figure in row.out }}">{{ caller() }}</td>
{% endmacro %}
{% for row in rows %}
<tr{% if row.out %} class="out"{% endif %}><td class="id"><a href="{{ row.href }}">\
{{ row.sample }}</a></td>
{% call cell(row, "records") %}{{ row.records|count }}{% endcall %}
<td class="n wide">{{ row.bases|bases }}</td><td class="n wide">{{ row.chunks|count }}</td>
<td class="n wide">{{ row.frames|count }}</td><td class="n">{{ row.viral_records|count }}</td>
{% call cell(row, "viral_share") %}{{ row.viral_share|percent }}{% endcall %}
{% call cell(row, "not_callable_share") %}{{ row.not_callable_share|percent }}{% endcall %}
{% call cell(row, "unique_share") %}{{ row.unique_share|percent }}{% endcall %}
{% call cell(row, "median_score") %}\
{{ "–" if row.median_score is none else "%.3f"|format(row.median_score) }}{% endcall %}
<td class="about wide">{{ row.model }}, {{ row.chunk_length }} bp, {{ row.precision }}</td>
<td class="n wide">{{ row.finished.strftime("%Y-%m-%d %H:%M") }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>
</main>
</body>
</html>
"""
)


@dataclass(frozen=True)
class CohortFiles:
    """What was written."""

    page: Path
    table: Path


def write_cohort(cohort: Cohort, output_dir: Path, report_href: str) -> CohortFiles:
    """Write `cohort.html` and `cohort.parquet`.

    Args:
        cohort: what `read_cohort` gave.
        output_dir: made if need be.
        report_href: link to a sample's report from the page, with `{}` for the sample's name.

    Raises:
        StoreError: the files cannot be written.
    """
    page = _page(cohort, report_href)
    with atomic_path(output_dir / TABLE) as temporary:
        cohort.table.write_parquet(temporary)
    with atomic_path(output_dir / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return CohortFiles(output_dir / PAGE, output_dir / TABLE)


def markdown_table(cohort: Cohort, rows: int) -> str:
    """The first `rows` samples, those that stand out first, as a Markdown table."""
    header = ("sample", "records", "viral", "without a call", "median score", "stands out in")
    lines = [header, ("---", "---:", "---:", "---:", "---:", "---")]
    for row in _outliers_first(cohort.table).head(rows).to_dicts():
        score = row["median_score"]
        lines.append(
            (
                row["sample"],
                as_count(row["records"]),
                _percent(row["viral_share"]),
                _percent(row["not_callable_share"]),
                "–" if score is None else f"{score:.3f}",
                _named(row["stands_out"]),
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _page(cohort: Cohort, report_href: str) -> str:
    from jinja2 import Environment

    from virnuc_assets.classifier.cohort_figures import strips_svg

    table = cohort.table
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "count": as_count,
        "bases": as_bases,
        "share": as_share,
        "percent": _percent,
    }
    totals = table.select("records", "bases", "called_records", "viral_records").sum()
    return environment.from_string(_PAGE_TEMPLATE).render(
        models=[
            {"name": name, "n": n, "note": note_on(name)}
            for name, n in table["model"].value_counts().sort("count", "model").iter_rows()
        ],
        totals={"samples": len(table), **totals.row(0, named=True)},
        outliers=_rows(cohort.outliers, report_href),
        most_rows=_MOST_ROWS,
        unread=cohort.unread[:_MOST_UNREAD],
        n_unread=len(cohort.unread),
        figure=strips_svg(table) if len(table) else None,
        rows=_rows(_outliers_first(table).head(_MOST_ROWS), report_href),
        most_z=MOST_Z,
        fewest=FEWEST_SAMPLES,
    )


def _outliers_first(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(pl.col("stands_out").is_null(), "sample")


def _rows(table: pl.DataFrame, report_href: str) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "href": report_href.format(row["sample"]),
            "out": _figures(row["stands_out"]),
            "names": _named(row["stands_out"]),
        }
        for row in table.to_dicts()
    ]


def _figures(stands_out: str | None) -> list[str]:
    return [] if stands_out is None else stands_out.split(", ")


def _named(stands_out: str | None) -> str:
    return ", ".join(_NAMES[figure] for figure in _figures(stands_out))


def _percent(share: float | None) -> str:
    return "–" if share is None else as_share(share, 1)
