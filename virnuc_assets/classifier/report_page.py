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
<div class="figures">
<div><b>{{ "{:,}".format(counts.n_records) }}</b><span>records</span></div>
<div class="virus"><b>{{ "{:,}".format(counts.n_viral_records) }}</b>
<span>viral records</span></div>
<div><b>{{ "{:,}".format(uncalled.n_no_open_frame) }}</b>
<span>records without an open frame</span></div>
{% if uncalled.n_not_embedded -%}
<div><b>{{ "{:,}".format(uncalled.n_not_embedded) }}</b><span>records not embedded</span></div>
{% endif -%}
<div><b>{{ "{:,}".format(counts.n_called_chunks) }}</b>
<span>of {{ "{:,}".format(counts.n_chunks) }} chunks called,
{{ "{:,}".format(counts.n_viral_chunks) }} viral</span></div>
<div><b>{{ "{:,}".format(counts.n_frames - uncalled.n_unscored_frames) }}</b>
<span>frames scored</span></div>
</div>

<section>
<h2>Viral records</h2>
<p>A record is viral when at least half of its called chunks are; a chunk is viral when the highest
P(virus) of its frames is at least the highest P(other).
{%- if top|length < counts.n_viral_records %} Listed are the {{ top|length }} of
{{ "{:,}".format(counts.n_viral_records) }} with the highest scores; all are in
<code>records.parquet</code>.
{%- endif %}</p>
{% if top -%}
<div class="scroll"><table>
<thead><tr><th>record</th><th class="n">length</th><th class="n">viral / called / all chunks</th>
<th class="n">best P(virus)</th><th>best frame</th></tr></thead>
<tbody>
{% for row in top -%}
<tr><td class="id">{{ row.id }}</td><td class="n">{{ "{:,}".format(row.length) }}</td>
<td class="n">{{ row.n_viral_chunks }} / {{ row.n_called_chunks }} / {{ row.n_chunks }}</td>
<td class="n">{{ "%.4f"|format(row.best_score) }}</td><td class="id">{{ row.best_frame }}</td></tr>
{% endfor -%}
</tbody></table></div>
{%- else -%}
<p>No record was called viral.</p>
{%- endif %}
</section>

<section>
<h2>Calls along the longest records</h2>
{% if figures.contigs -%}
<p>Each strip is a record cut into its chunks, coloured by the highest P(virus) among a chunk's
frames; grey chunks have no scored frame.</p>
<img alt="Scores of the chunks along the longest records" src="{{ figures.contigs }}">
{%- else -%}
<p>No record is longer than one chunk.</p>
{%- endif %}
</section>

<section>
<h2>Scores by frame</h2>
{% if figures.scores -%}
<p>P(virus) of every stop-free frame; F1 to F3 lie on the strand given, R1 to R3 on its reverse
complement. Frames above one half are labelled virus.</p>
<img alt="Histograms of P(virus), one for each frame" src="{{ figures.scores }}">
{%- else -%}
<p>No record has a frame that could be scored, so there are no scores.</p>
{%- endif %}
</section>

<section>
<h2>Record lengths</h2>
<img alt="Histogram of record lengths by call" src="{{ figures.lengths }}">
</section>

<section>
<h2>What could not be called</h2>
<p>A frame with a stop codon is not scored. {{ "{:,}".format(uncalled.n_no_open_frame) }} records
have no stop-free frame in any chunk, so they have no call, which says neither virus nor other.
{{ "{:,}".format(uncalled.n_chunks_in_called) }} chunks of the called records have no scored frame
either and do not count in their record's call.</p>
{% if uncalled.n_unscored_frames -%}
<p>{{ "{:,}".format(uncalled.n_unscored_frames) }} stop-free frames have no score, because their
nucleotides or protein could not be embedded and were set aside; the run's log names them.
{{ "{:,}".format(uncalled.n_not_embedded) }} records have no other frame and so no call
(<code>not_embedded</code>).</p>
{%- endif %}
{% if uncalled.listed -%}
<div class="scroll"><table>
<thead><tr><th>record</th><th class="n">length</th><th class="n">chunks</th><th>status</th></tr>
</thead>
<tbody>
{% for row in uncalled.listed -%}
<tr><td class="id">{{ row.id }}</td><td class="n">{{ "{:,}".format(row.length) }}</td>
<td class="n">{{ row.n_chunks }}</td><td><code>{{ row.status }}</code></td></tr>
{% endfor -%}
</tbody></table></div>
{%- if uncalled.listed|length < uncalled.n_records %}
<p>These are the longest; the others are in <code>records.parquet</code>, with their status.</p>
{%- endif %}
{%- endif %}
</section>

<section>
<h2>Provenance</h2>
<div class="scroll"><table><tbody>
{% for key, value in provenance.items() -%}
<tr><th>{{ key }}</th><td><code>{{ value }}</code></td></tr>
{% endfor -%}
</tbody></table></div>
</section>

<section>
<h2>Files</h2>
<div class="scroll"><table>
<thead><tr><th>file</th><th class="n">bytes</th><th>SHA-256</th></tr></thead>
<tbody>
{% for name, file in files.items() -%}
<tr><td>{{ name }}</td><td class="n">{{ "{:,}".format(file.bytes) }}</td>
<td><code>{{ file.sha256 }}</code></td></tr>
{% endfor -%}
</tbody></table></div>
</section>
</main>
</body>
</html>
"""
)
