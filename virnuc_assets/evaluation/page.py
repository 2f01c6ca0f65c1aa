"""The evaluation's page, a Jinja template. It is rendered with autoescape on."""

from virnuc_assets.classifier.report_page import MODEL_BANNER, STYLE

_MACROS = """
{%- macro number(value) %}{{ "{:,}".format(value) }}{% endmacro -%}
{%- macro score_cells(row) -%}
<td class="n">{{ number(row.n) }}</td><td class="n">{{ number(row.n_virus) }}</td>
<td class="n">{{ row.auroc|metric }}</td><td class="n">{{ row.auprc|metric }}</td>
<td class="n">{{ row.mcc|metric }}</td><td class="n">{{ row.recall_at_1_percent_fpr|metric }}</td>
<td class="n">{{ row.ece|metric }}</td>
{%- endmacro -%}
{%- macro call_cells(row) -%}
<td class="n">{{ row.call_recall|metric }}</td>
<td class="n">{{ row.call_false_positive_rate|metric }}</td>
<td class="n">{{ row.call_precision|metric }}</td><td class="n">{{ row.call_mcc|metric }}</td>
{%- endmacro -%}
"""

PAGE_TEMPLATE = (
    _MACROS
    + """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: evaluation</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
"""
    + MODEL_BANNER
    + """
<div class="figures">
<div><b>{{ headline.chunks.auroc|metric }}</b>
<span>AUROC of chunks of {{ chunk_length }} bases</span></div>
<div><b>{{ headline.records_3kb.auroc|metric }}</b>
<span>AUROC of records of 3 kb and more</span></div>
<div><b>{{ headline.frames.auroc|metric }}</b><span>AUROC of frames</span></div>
<div><b>{{ headline.frames.ece|metric }}</b><span>calibration error of frames</span></div>
<div><b>{{ number(counts.n_records) }}</b>
<span>records, {{ number(counts.n_virus_records) }} of them viral</span></div>
</div>

<section>
<h2>Over all</h2>
<p>Weight <code>items</code>: every item counts once. Weight <code>groups</code>: both classes weigh
the same, and in each class every group does. MCC is of P(virus) from one half on; the last four
columns are of the calls.</p>
<div class="scroll"><table>
<thead><tr><th>level</th><th>no call</th><th>weight</th><th class="n">n</th><th class="n">virus</th>
<th class="n">AUROC</th><th class="n">AUPRC</th><th class="n">MCC</th>
<th class="n">recall at 1 % FPR</th><th class="n">ECE</th><th class="n">recall</th>
<th class="n">FPR</th><th class="n">precision</th><th class="n">MCC of calls</th></tr></thead>
<tbody>
{% for row in overall -%}
<tr><td>{{ row.level }}</td><td>{{ row.no_call }}</td><td>{{ row.weight }}</td>
{{ score_cells(row) }}{{ call_cells(row) }}</tr>
{% endfor -%}
</tbody></table></div>
<p>A dash stands where a class has no item, so that nothing is defined.</p>
</section>

{% if figures.curves -%}
<section>
<h2>Curves</h2>
<p>Receiver operating characteristic and precision against recall. Both classes weigh the same, and
in each class every group does; dotted is what guessing gives. Records without a call are left out
of ours; another tool that makes calls without scores is a point.</p>
<img alt="ROC and precision-recall curves" src="{{ figures.curves }}">
</section>
{%- endif %}

{% if figures.reliability -%}
<section>
<h2>Calibration</h2>
<p>The share of viruses among items of like P(virus), in 15 bins; of a calibrated model the points
lie on the dotted line. Weighted as above.</p>
<img alt="Reliability diagrams" src="{{ figures.reliability }}">
</section>
{%- endif %}

<section>
<h2>By group</h2>
{% if groups -%}
<p>AUROC of a group's items against all items of the other class, and the share of the chunks and
records that are called virus.</p>
<div class="scroll"><table>
<thead><tr><th>class</th><th>group</th><th class="n">AUROC of frames</th>
<th class="n">of chunks</th><th class="n">of records</th><th class="n">of records ≥ 3 kb</th>
<th class="n">chunks called virus</th><th class="n">records called virus</th></tr></thead>
<tbody>
{% for row in groups -%}
{% set rate = "call_recall" if row.label == "virus" else "call_false_positive_rate" -%}
<tr><td>{{ row.label }}</td><td class="id">{{ row.group }}</td>
<td class="n">{{ row.frames.auroc|metric }}</td><td class="n">{{ row.chunks.auroc|metric }}</td>
<td class="n">{{ row.records.auroc|metric }}</td>
<td class="n">{{ row.records_3kb.auroc|metric }}</td>
<td class="n">{{ row.chunks[rate]|metric }}</td><td class="n">{{ row.records[rate]|metric }}</td>
</tr>
{% endfor -%}
</tbody></table></div>
{%- else -%}
<p>No class has more than one group.</p>
{%- endif %}
{% if figures.groups -%}
<p>P(virus) of the chunks of every group: the dot is the median, the thick line holds the middle
half, the thin line the middle nine tenths.</p>
<img alt="P(virus) of chunks by group" src="{{ figures.groups }}">
{%- endif %}
</section>

{% if tools -%}
<section>
<h2>Other tools</h2>
<p>All tools on the same records, weighted by groups. A record that a tool does not call counts as
other, with a score of 0.</p>
<div class="scroll"><table>
<thead><tr><th>level</th><th>tool</th><th class="n">without call</th><th class="n">n</th>
<th class="n">virus</th><th class="n">AUROC</th><th class="n">AUPRC</th><th class="n">MCC</th>
<th class="n">recall at 1 % FPR</th><th class="n">ECE</th><th class="n">recall</th>
<th class="n">FPR</th><th class="n">precision</th><th class="n">MCC of calls</th></tr></thead>
<tbody>
{% for row in tools -%}
<tr><td>{{ row.level }}</td><td class="id">{{ row.tool }}</td>
<td class="n">{{ number(row.n_no_call) }}</td>{{ score_cells(row) }}{{ call_cells(row) }}</tr>
{% endfor -%}
</tbody></table></div>
</section>
{%- endif %}

<section>
<h2>What was not measured</h2>
<p>{{ number(counts.n_no_open_frame) }} records have no stop-free frame and
{{ number(counts.n_not_embedded) }} could not be embedded: they have no call. In the rows
<code>left out</code> they are not there, in those <code>as other</code> they count as called
other, with a score of 0.</p>
<p>{{ number(counts.n_chunks_without_call) }} of {{ number(counts.n_chunks) }} chunks have no call,
and {{ number(counts.n_unscored_frames) }} stop-free frames no score. The mask left out
{{ number(counts.n_masked_chunks) }} more chunks, and {{ number(counts.n_masked_records) }} records
of which it left no called chunk.</p>
</section>

<section>
<h2>Provenance</h2>
<div class="scroll"><table><tbody>
<tr><th>virnuc_assets</th><td><code>{{ version }}</code></td></tr>
{% for key, value in provenance.items() -%}
<tr><th>{{ key }}</th><td><code>{{ value }}</code></td></tr>
{% endfor -%}
</tbody></table></div>
</section>
</main>
</body>
</html>
"""
)
