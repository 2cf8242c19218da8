"""The model card as an HTML page, which loads nothing and runs no script."""

from functools import cache
from typing import Any

import jinja2

from buckler.serving.model_card import ModelCard

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

STYLE = """
:root { --fg: #1b1f24; --muted: #545d68; --bg: #fff; --panel: #f3f5f7; --rule: #d3d9df; --pass: #17652c;
  --fail: #a4161a; --fill: #0b5fa5; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --fg: #e7eaee; --muted: #a9b2bc; --bg: #14171b; --panel: #1e2329;
  --rule: #3b434c; --pass: #6fd08a; --fail: #ff9d97; --fill: #6cb6f5; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--fg);
  background: var(--bg); margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
p, ul { max-width: 46rem; margin: .5rem 0; } li { overflow-wrap: anywhere; }
.interval { white-space: nowrap; } .note, .interval { color: var(--muted); font-size: .875rem; }
code { font: .875em ui-monospace, "DejaVu Sans Mono", Menlo, monospace; overflow-wrap: anywhere; }
.verdict { border-left: 4px solid currentColor; background: var(--panel); padding: .5rem .75rem; font-weight: 600; }
.passed { color: var(--pass); } .failed { color: var(--fail); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem; font-size: .9375rem; }
dt { color: var(--muted); } dd { margin: 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; width: 100%; }
caption { text-align: left; color: var(--muted); padding-bottom: .35rem; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid var(--rule); }
meter { display: block; width: 7rem; height: .6rem; }
summary { cursor: pointer; margin: .75rem 0; }
@media (max-width: 40rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .4rem; } }
"""

TEMPLATE = """
{%- macro rate(r) -%}
{% if r is none %}<span class="note">not stated</span>{% else %}{{ r.value | percent }} <span class="interval">
({{ r.low | percent }} to {{ r.high | percent }})</span>{% endif %}
{%- endmacro -%}
{%- macro state(passed) -%}
<span class="{{ 'passed' if passed else 'failed' }}">{{ 'passed' if passed else 'failed' }}</span>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ card.model.name }} {{ card.model.version }}: model card</title>
<link rel="icon" href="data:,">
<style>{{ style | safe }}</style>
</head>
<body>
<p class="note">Model card</p>
<h1>{{ card.model.name }}, version {{ card.model.version }}</h1>
{% set valid = card.verdict.passed and not card.verdict.expired and card.standing.state == "holds" %}
<p class="verdict {{ 'passed' if valid else 'failed' }}">
{%- if valid %}Passed its gate; the verdict is valid until {{ card.standing.expires_at | moment }}.
{%- elif card.standing.state == "withdrawn" %}Withdrawn on {{ card.standing.moment | moment }}: it gives no answers.
{%- elif card.standing.state == "degraded" %}Degraded on {{ card.standing.moment | moment }}: all answers need review.
{%- elif card.verdict.passed %}Passed its gate, but the verdict expired on {{ card.standing.expires_at | moment }}.
{%- else %}Did not pass its gate.{% endif %}</p>
{% for text in card.standing.reasons %}<p class="failed">{{ text }}</p>{% endfor %}
{% for text in card.verdict.reasons %}<p class="failed">{{ text }}</p>{% endfor %}
{% for text in card.verdict.notes %}<p class="note">{{ text }}</p>{% endfor %}

<h2>Limits</h2>
<ul>{% for text in card.limits %}<li>{{ text }}</li>{% endfor %}</ul>

<h2>Without an attacker</h2>
<dl>
<dt>accuracy</dt><dd>{{ rate(card.clean.accuracy) }}</dd>
{% if card.model.malignant %}<dt>recall of {{ card.model.malignant | join(", ") }}</dt>
<dd>{{ rate(card.clean.malignant_recall) }}</dd>{% endif %}
<dt>calibration error</dt>
<dd>{{ "not stated" if card.clean.calibration_error is none else "%.3f" | format(card.clean.calibration_error) }}</dd>
</dl>

<h2>Under the worst attack</h2>
{% if card.worst_case %}
<div class="scroll"><table>
<caption>Robust accuracy: share of pictures that stay right under every attack at every radius up to this one.</caption>
<thead><tr><th>up to</th><th>robust accuracy</th><th></th><th>sensitivity</th><th>specificity</th></tr></thead>
<tbody>{% for row in card.worst_case %}
<tr><th>{{ row.epsilon_255 }}/255</th><td>{{ rate(row.robust_accuracy) }}</td>
<td><meter min="0" max="1" value="{{ row.robust_accuracy.value }}"
 aria-label="robust accuracy up to {{ row.epsilon_255 }}/255"></meter></td>
<td>{{ rate(row.sensitivity) }}</td><td>{{ rate(row.specificity) }}</td></tr>{% endfor %}
</tbody></table></div>
<details><summary>All {{ card.attacks | length }} attacks</summary>
<div class="scroll"><table>
<thead><tr><th>attack</th><th>radius</th><th>attacker's knowledge</th><th>robust accuracy</th><th>success</th></tr>
</thead>
<tbody>{% for row in card.attacks %}
<tr><th>{{ row.name }}</th><td>{{ "" if row.epsilon_255 is none else "%d/255" | format(row.epsilon_255) }}</td>
<td>{{ (row.knowledge or "not stated") | replace("_", " ") }}</td><td>{{ rate(row.robust_accuracy) }}</td>
<td>{{ "" if row.attack_success_rate is none else row.attack_success_rate | percent }}</td></tr>{% endfor %}
</tbody></table></div></details>
{% else %}<p>The verdict states no result under attack.</p>{% endif %}

{% if card.subgroups %}<h2>By group</h2>
<div class="scroll"><table>
<thead><tr><th>group</th><th>pictures</th><th>clean accuracy</th>
{% for row in card.subgroups[0].worst_case %}<th>up to {{ row.epsilon_255 }}/255</th>{% endfor %}</tr></thead>
<tbody>{% for row in card.subgroups %}
<tr><th>{{ row.column }}: {{ row.group }}</th><td>{{ row.pictures }}</td><td>{{ rate(row.clean_accuracy) }}</td>
{% for cell in row.worst_case %}<td>{{ rate(cell.robust_accuracy) }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>{% endif %}

{% if card.detector %}<h2>Detector of manipulated pictures</h2>
<p>Flags pictures with a score above {{ "%.3f" | format(card.detector.threshold) }}. The threshold was set to flag at
most {{ card.detector.max_fpr | percent }} of clean pictures. In the test it flagged
{{ rate(card.detector.clean_fpr) }} of them.</p>
{% if card.detector.attacks %}<details><summary>Against each attack</summary><div class="scroll"><table>
<thead><tr><th>attack</th><th>radius</th><th>attacker</th><th>area under ROC</th><th>flagged</th>
<th>wrong and not flagged</th></tr></thead>
<tbody>{% for row in card.detector.attacks %}
<tr><th>{{ row.attack }}</th><td>{{ "" if row.epsilon_255 is none else "%d/255" | format(row.epsilon_255) }}</td>
<td>{{ "knows the detector" if row.adaptive else "does not know the detector" }}
{{- ", stops at the decision boundary" if row.stops_at_boundary }}</td>
<td>{{ "" if row.auc is none else "%.2f" | format(row.auc) }}</td>
<td>{{ "" if row.flagged is none else rate(row.flagged) }}</td>
<td>{{ "" if row.wrong_and_unflagged is none else rate(row.wrong_and_unflagged) }}</td></tr>{% endfor %}
</tbody></table></div></details>{% endif %}{% endif %}

{% if card.checks %}<h2>Sanity checks of the evaluation</h2>
<p>{{ card.checks | selectattr("passed") | list | length }} of {{ card.checks | length }} passed.</p>
<details><summary>All checks</summary><div class="scroll"><table>
<tbody>{% for row in card.checks %}
<tr><th>{{ row.name | replace("_", " ") }}</th><td>{{ state(row.passed) }}</td><td>{{ row.detail }}</td></tr>
{% endfor %}</tbody></table></div></details>{% endif %}

{% if card.floors %}<h2>Policy of the gate</h2>
<dl>{% for name, value in card.floors.items() %}<dt><code>{{ name }}</code></dt><dd>
{%- if value is mapping %}{% for radius, floor in value.items() %}{{ radius }}/255: {{ floor }}
{{- "" if loop.last else ", " }}{% else %}none{% endfor %}{% else %}{{ value }}{% endif %}</dd>
{% endfor %}</dl>{% endif %}

<h2>Model</h2>
<dl>
<dt>labels</dt><dd>{{ card.model.labels | join(", ") }}</dd>
<dt>network</dt><dd>{{ card.model.architecture }}, input {{ card.model.image_size }} pixels a side, defence:
{{ card.model.defence }}</dd>
<dt>digest</dt><dd><code>{{ card.model.digest }}</code></dd>
<dt>verdict</dt><dd><code>{{ card.verdict.id }}</code>, issued {{ card.verdict.issued_at | moment }}</dd>
<dt>data</dt><dd><code>{{ card.data.version }}</code>{% if card.data.pictures_attacked is not none %},
{{ card.data.pictures_attacked }} pictures attacked{% endif %}</dd>
<dt>code</dt><dd>{% if card.verdict.commit %}<code>{{ card.verdict.commit }}</code>
{%- if card.verdict.uncommitted_changes %} with uncommitted changes{% endif %}{% else %}not stated{% endif %}</dd>
</dl>
<p class="note">Everything on this page comes from the signed verdict, the signed standing, or files that the verdict
names.</p>
</body>
</html>
"""


def page(card: ModelCard) -> str:
    """Return the card as an HTML document."""
    return _template().render(card=card, style=STYLE)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    filters: dict[str, Any] = {
        "percent": lambda share: f"{share:.1%}",
        "moment": lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC",
    }
    environment.filters.update(filters)
    return environment.from_string(TEMPLATE)
