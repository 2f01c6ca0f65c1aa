"""The report's page, a Jinja template. It is rendered with autoescape on: ids are shown as text.

Pages of other kinds share its style and the banner that names the model.
"""

STYLE = """
:root { --ink: #1e293b; --soft: #64748b; --line: #e2e8f0; --virus: #c2410c; --other: #2563a8; }
* { box-sizing: border-box; }
body { margin: 0; background: #f8fafc; color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .25rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.4rem; margin-top: 1.25rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 46rem; }
.model { border-radius: 10px; padding: .9rem 1.4rem; background: #eef4fb;
  border: 1px solid #c7dbf0; overflow-wrap: anywhere; }
.model strong { font-size: 1.05rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin-top: 1.25rem; }
.figures div { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: .8rem 1rem; }
.figures b { display: block; font-size: 1.6rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.figures .virus b { color: var(--virus); }
.figures span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.n { text-align: right; white-space: nowrap; }
th.n { white-space: normal; }
.bar { background: linear-gradient(90deg, #fbd9c6 var(--share), transparent var(--share))
  no-repeat 0 .35rem / 100% 1.5em; min-width: 6.5rem; }
.lead { font-size: 1.1rem; color: var(--ink); margin: 1.1rem 0 0; max-width: none; }
.lead b { color: var(--virus); }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--soft); }
.id { overflow-wrap: anywhere; min-width: 9rem; }
code { font: .82rem/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
img { display: block; width: 100%; height: auto; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

MODEL_BANNER = """<div class="model">model: <strong>{{ model }}</strong>
{%- if note %}: {{ note }}{% endif %}</div>
"""
"""Takes `model`, the label, and `note`, what its reader must know or nothing."""

PAGE_TEMPLATE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: viral calls</title>
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
{% set no_call = uncalled.no_open_frame.n + uncalled.not_embedded.n %}
{% set n_called = counts.n_records - no_call %}
<p class="lead"><b>{{ counts.n_viral_records|count }}</b> of the {{ n_called|count }} records that
have a call are <b>viral</b> ({{ counts.n_viral_records|share(n_called) }}): \
{{ counts.n_viral_bases|bases }} of the sample's {{ counts.n_bases|bases }}.</p>
<div class="figures">
<div><b>{{ counts.n_records|count }}</b><span>records, {{ counts.n_bases|bases }}</span></div>
<div class="virus"><b>{{ counts.n_viral_records|count }}</b><span>viral records</span></div>
<div><b>{{ "–" if median_score is none else "%.3f"|format(median_score) }}</b>
<span>median score of the records</span></div>
<div><b>{{ no_call|count }}</b>
<span>records without a call, {{ no_call|share(counts.n_records) }} of all</span></div>
<div><b>{{ counts.n_called_chunks|count }}</b><span>of {{ counts.n_chunks|count }} chunks called,
{{ counts.n_viral_chunks|count }} viral</span></div>
<div><b>{{ (counts.n_frames - counts.n_unscored_frames)|count }}</b><span>frames scored</span></div>
</div>

<section>
<h2>Viral records</h2>
<p>A record is viral when at least half of its called chunks are; a chunk is viral when the highest
P(virus) of its frames is at least the highest P(other). The score weighs all called chunks of a
record, whatever its length, and ranks records; it is not the probability that one is a virus.
{% if top|length < counts.n_viral_records %}
Listed are the {{ top|length }} of {{ counts.n_viral_records|count }} with the highest scores; all
are in <code>records.parquet</code>.
{% endif %}
</p>
{% if top %}
<div class="scroll"><table>
<thead><tr><th>record</th><th class="n">score</th><th class="n">length</th>
<th class="n">chunks: viral / called / all</th><th class="n">highest P(virus)</th>
<th>in chunk, frame</th></tr></thead>
<tbody>
{% for row in top %}
<tr><td class="id">{{ row.id }}</td>
<td class="n bar" style="--share: {{ "%.1f"|format(100 * row.score) }}%">\
{{ "%.4f"|format(row.score) }}</td><td class="n">{{ row.length|bases }}</td>
<td class="n">{{ row.n_viral_chunks|count }} / {{ row.n_called_chunks|count }} / \
{{ row.n_chunks|count }}</td>
<td class="n">{{ "%.4f"|format(row.best_score) }}</td>
{% set place = row.best_frame[row.id|length + 7:] %}
<td>{{ place[:-2] }}, {{ place[-2:] }}</td></tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p>No record was called viral.</p>
{% endif %}
</section>

<section>
<h2>Calls along records</h2>
{% if figures.viral or figures.longest %}
<p>Each strip is a record, cut into its chunks; orange chunks are viral, blue ones are not, grey
ones have no scored frame. Where a record has more than 300 chunks a cell is the mean of several. To
the right: length, and score of the record.</p>
{% if figures.viral %}
<h3>Viral records of several chunks, highest score first</h3>
<img alt="Scores of the chunks along viral records" src="{{ figures.viral }}">
{% endif %}
{% if figures.longest %}
<h3>{{ "The longest other records" if figures.viral else "The longest records" }}</h3>
<img alt="Scores of the chunks along the longest records" src="{{ figures.longest }}">
{% endif %}
{% else %}
<p>No record is longer than one chunk.</p>
{% endif %}
</section>

<section>
<h2>Scores and lengths of records</h2>
<p>Half of the records have {{ lengths.median|bases }} or more, the longest has
{{ lengths.longest|bases }}, and half of all bases lie in records of {{ lengths.n50|bases }} or more
(N50).</p>
<img alt="Histograms of the records' scores and lengths by call" src="{{ figures.records }}">
</section>

<section>
<h2>Scores by frame</h2>
{% if figures.scores %}
<p>P(virus) of every stop-free frame; F1 to F3 lie on the strand given, R1 to R3 on its reverse
complement. Frames above one half are labelled virus.</p>
<img alt="Histograms of P(virus), one for each frame" src="{{ figures.scores }}">
{% else %}
<p>No record has a frame that could be scored, so there are no scores.</p>
{% endif %}
</section>

<section>
<h2>What could not be called, and why</h2>
{% if no_call or uncalled.n_chunks_of_called or counts.n_unscored_frames %}
<div class="scroll"><table>
<thead><tr><th>what</th><th class="n">how many</th><th class="n">share</th><th class="n">bases</th>
<th>why</th></tr></thead>
<tbody>
{% macro reason(what, n, of, bases, why) %}
{% if n %}
<tr><td>{{ what }}</td><td class="n">{{ n|count }}</td><td class="n">{{ n|share(of) }}</td>
<td class="n">{{ "" if bases is none else bases|bases }}</td><td>{{ why }}</td></tr>
{% endif %}
{% endmacro %}
{{ reason("records without an open frame", uncalled.no_open_frame.n, counts.n_records,
uncalled.no_open_frame.bases, "every frame of every chunk has a stop codon") }}
{{ reason("records not embedded", uncalled.not_embedded.n, counts.n_records,
uncalled.not_embedded.bases, "no stop-free frame could be embedded; the run's log names them") }}
{{ reason("chunks of called records", uncalled.n_chunks_of_called, counts.n_chunks, none,
"no scored frame; they do not count in their record's call") }}
{{ reason("stop-free frames", counts.n_unscored_frames, counts.n_frames, none,
"their nucleotides or protein could not be embedded and were set aside") }}
</tbody></table></div>
<p>No call says neither virus nor other.</p>
{% else %}
<p>Every chunk of every record has a call.</p>
{% endif %}
{% if uncalled.listed %}
<details><summary>The {{ "" if uncalled.listed|length == no_call else "longest " }}records without
a call</summary>
<div class="scroll"><table>
<thead><tr><th>record</th><th class="n">length</th><th class="n">chunks</th><th>status</th></tr>
</thead>
<tbody>
{% for row in uncalled.listed %}
<tr><td class="id">{{ row.id }}</td><td class="n">{{ row.length|bases }}</td>
<td class="n">{{ row.n_chunks|count }}</td><td><code>{{ row.status }}</code></td></tr>
{% endfor %}
</tbody></table></div>
{% if uncalled.listed|length < no_call %}
<p>The others are in <code>records.parquet</code>, with their status.</p>
{% endif %}
</details>
{% endif %}
</section>

<section>
<h2>How it was computed</h2>
<div class="scroll"><table>
<thead><tr><th></th>{% for part in encoders %}<th>{{ part.title }}</th>{% endfor %}</tr></thead>
<tbody>
{% macro line(name) %}
<tr><th>{{ name }}</th>{% for part in encoders %}<td>{{ caller(part) }}</td>{% endfor %}</tr>
{% endmacro %}
{% macro of_run(name) %}
<tr><th>{{ name }}</th>{% for part in encoders %}<td>\
{{ caller(part.run) if part.run else "not recorded" }}</td>{% endfor %}</tr>
{% endmacro %}
{% call(part) line("model") %}{{ part.model }}{% endcall %}
{% call(part) line("precision") %}{{ part.dtype }}{% endcall %}
{% call(part) line("device") %}{{ part.device }}{% endcall %}
{% call(part) line("attention") %}{{ part.attention }}{% endcall %}
{% call(part) line("engine") %}{{ part.engine }}{% endcall %}
{% call(part) line("token budget") %}{{ part.token_budget }}{% endcall %}
{% call(part) line("unique sequences") %}{{ part.n_unique|count }},
{{ part.n_unique|share(counts.n_frames) }} of the frames{% endcall %}
{% call(run) of_run("last run that embedded") %}{{ run.started }}{% endcall %}
{% call(run) of_run("embedded in it") %}{{ run.sequences|count }} sequences, \
{{ run.tokens|count }} tokens{% endcall %}
{% call(run) of_run("took") %}{{ run.seconds|duration }} on {{ run.n_devices }}
{{ "device" if run.n_devices == 1 else "devices" }}, start included{% endcall %}
{% call(run) of_run("throughput") %}\
{{ "–" if run.tokens_per_second is none else "{:,.0f} tokens/s".format(run.tokens_per_second) }}
{% endcall %}
{% call(run) of_run("packing efficiency") %}\
{{ "–" if run.packing_efficiency is none else run.packing_efficiency|share(1) }}{% endcall %}
{% if on_gpu %}
{% call(run) of_run("GPU busy") %}\
{{ "not measured" if run.busy_share is none else run.busy_share|share(1) }}{% endcall %}
{% call(run) of_run("peak GPU memory") %}\
{{ run.peak_memory_bytes|size if run.peak_memory_bytes else "–" }}{% endcall %}
{% endif %}
</tbody></table></div>
</section>

<section>
<h2>Provenance</h2>
<p><code>virnuc explain {{ title }} RECORD</code> traces a single record's call through its chunks
and frames to these digests.</p>
<div class="scroll"><table><tbody>
{% for key, value in provenance.items() %}
<tr><th>{{ key.replace("_", " ") }}</th><td><code>{{ value }}</code></td></tr>
{% endfor %}
</tbody></table></div>
<h3>Files</h3>
<div class="scroll"><table>
<thead><tr><th>file</th><th class="n">size</th><th>SHA-256</th></tr></thead>
<tbody>
{% for name, file in files.items() %}
<tr><td>{{ name }}</td><td class="n">{{ file.bytes|size }}</td>
<td><code>{{ file.sha256 }}</code></td></tr>
{% endfor %}
</tbody></table></div>
</section>
</main>
</body>
</html>
"""
)
