"""The look of the robustness page: a Jinja template in a module, so that DVC's dependencies follow imports to it.

Nothing is fetched and nothing runs: styles and pictures are inside, there is no script. SVG, not backgrounds, carries
what must not be lost in print.
"""

from typing import Final

STYLE: Final = """
:root { --fg: #1b1f24; --muted: #545d68; --bg: #ffffff; --panel: #f3f5f7; --rule: #d3d9df; --accent: #0b5fa5;
  --pass: #17652c; --fail: #a4161a; --heat: #0b5fa5;
  --c0: #0072b2; --c1: #c24a00; --c2: #00795a; --c3: #a8427f; --c4: #8a6200; --c5: #5b4fbf; --c6: #3f6f8f;
  --c7: #6f7300; }
@media screen and (prefers-color-scheme: dark) {
  :root { --fg: #e7eaee; --muted: #a9b2bc; --bg: #14171b; --panel: #1e2329; --rule: #3b434c; --accent: #6cb6f5;
    --pass: #6fd08a; --fail: #ff9d97; --heat: #4f97d8;
    --c0: #56b4e9; --c1: #ff9a52; --c2: #3fcf9f; --c3: #f0a3cc; --c4: #e8c14a; --c5: #b3a8ff; --c6: #a8c5d8;
    --c7: #d2d65c; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--fg);
  background: var(--bg); margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .75rem; text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid
  var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p, ul, dl { margin: .5rem 0; max-width: 44rem; }
.lead { font-size: 1.125rem; }
.kicker, figcaption, caption, .note { color: var(--muted); font-size: .875rem; }
.kicker { margin: 0 0 .25rem; }
code { font: .875em ui-monospace, "DejaVu Sans Mono", Menlo, monospace; overflow-wrap: anywhere; }
.verdict { border-left: 4px solid currentColor; background: var(--panel); padding: .5rem .75rem; max-width: none; }
.passed { color: var(--pass); } .failed { color: var(--fail); }
.verdict, .state { font-weight: 600; } .state { white-space: nowrap; }
dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem; font-size: .9375rem; }
dt { color: var(--muted); } dd { margin: 0; }
dl.words { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr); gap: .25rem 1.25rem;
  font-size: .9375rem; max-width: 52rem; }
dl.words dt { color: var(--fg); font-weight: 600; }
.scroll { overflow-x: auto; margin: .75rem 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .35rem; }
th, td { text-align: left; vertical-align: baseline;
  padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--rule); }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--rule); font-weight: 600; }
tbody th { font-weight: 600; }
th .note { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
.wide { width: 100%; }
.interval { color: var(--muted); white-space: nowrap; }
.big { font-size: 1.125rem; font-weight: 600; }
.big .interval { font-size: .875rem; font-weight: 400; }
.group th { padding-top: 1rem; border-bottom: 2px solid var(--rule); }
.confusions { display: flex; flex-wrap: wrap; gap: 0 2.5rem; }
.confusion td, .confusion thead th + th { text-align: center; padding: .35rem .5rem; min-width: 3.25rem; }
.confusion td { background: color-mix(in srgb, var(--heat) calc(var(--share) * 45%), transparent);
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.confusion td.right { font-weight: 700; }
figure { margin: .75rem 0; }
.chart { max-width: 36rem; }
.chart > svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--muted); }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke: var(--ink); stroke-width: 1.75; stroke-linejoin: round; }
.whisker { stroke: var(--ink); stroke-width: 1; opacity: .6; }
.mark { fill: var(--ink); stroke: var(--bg); stroke-width: .75; }
.c0 { --ink: var(--c0); } .c1 { --ink: var(--c1); } .c2 { --ink: var(--c2); } .c3 { --ink: var(--c3); }
.c4 { --ink: var(--c4); } .c5 { --ink: var(--c5); } .c6 { --ink: var(--c6); } .c7 { --ink: var(--c7); }
.worst { --ink: var(--fg); } .worst .line { stroke-width: 3.5; } .worst .whisker { stroke-width: 2; opacity: 1; }
.control { --ink: var(--muted); } .control .line { stroke-dasharray: 2 3; }
.level { stroke: var(--muted); stroke-width: 1.25; stroke-dasharray: 7 4; } .level.chance { stroke-dasharray: 1.5 3.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; padding: 0; margin: .25rem 0;
  font-size: .875rem; }
.legend svg { display: inline-block; width: 28px; height: 12px; vertical-align: middle; margin-right: .3rem; }
.bar { display: block; width: 100%; min-width: 4.5rem; height: 10px; margin-top: 3px; overflow: visible; }
.track { fill: var(--panel); stroke: var(--rule); stroke-width: 1; } .fill { fill: var(--ink, var(--accent)); }
.bar .whisker { stroke: var(--fg); stroke-width: 1.5; opacity: 1; }
.success { --ink: var(--c1); }
.triptychs { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; }
.triptychs figure { margin: 0; width: 26.5rem; max-width: 100%; }
.triptychs .row { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 4px; }
.triptychs img { display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated; }
.triptychs .row span { color: var(--muted); font-size: .75rem; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--rule); padding-top: .75rem; }
@media (max-width: 40rem) {
  h1 { font-size: 1.4rem; }
  dl.facts, dl.words { grid-template-columns: minmax(0, 1fr); gap: 0; } dl dd { margin-bottom: .4rem; }
  th, td { padding-right: .5rem; }
}
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { font-size: 10.5pt; max-width: none; padding: 0; }
  h2, h3, caption, .group { break-after: avoid; }
  figure, tr, .confusion, .verdict { break-inside: avoid; }
  .scroll { overflow: visible; }
  .cells { font-size: 7.5pt; } .cells th, .cells td { padding-right: 4pt; }
  .chart { max-width: 13cm; }
}
"""

TEMPLATE: Final = """
{%- macro rate(r) -%}
  {% if r is none %}not known{% else %}{{ r.value | percent }} <span class="interval">({{ r | interval }})</span>
  {%- endif %}
{%- endmacro -%}

{%- macro swatch(line) -%}
<svg viewBox="0 0 28 12" aria-hidden="true"><g class="{{ line.style }}"><path class="line" d="M1,6H27"/>
  <path class="mark" transform="translate(14 6)" d="{{ line.shape }}"/></g></svg>
{%- endmacro -%}

{%- macro chart(c, label, every_mark=true) %}
<figure class="chart">
<svg viewBox="0 0 {{ size.WIDTH }} {{ size.HEIGHT }}" role="img" aria-label="{{ label }}">
  {% for y, text in c.y_ticks %}
  <path class="grid" d="M{{ size.LEFT }},{{ y }}H{{ size.RIGHT }}"/>
  <text x="{{ size.LEFT - 5 }}" y="{{ y + 4 }}" text-anchor="end">{{ text }}</text>
  {% endfor %}
  {% for x, text in c.x_ticks %}
  <text x="{{ x | round(1) }}" y="{{ size.BOTTOM + 17 }}" text-anchor="middle">{{ text }}</text>
  {% endfor %}
  <text x="{{ (size.LEFT + size.RIGHT) / 2 }}" y="{{ size.HEIGHT - 6 }}" text-anchor="middle">{{ c.x_label }}</text>
  {% for level in c.levels %}
  <path class="level {{ level.style }}" d="M{{ size.LEFT }},{{ level.y | round(1) }}H{{ size.RIGHT }}"/>
  <text x="{{ size.RIGHT + 5 }}" y="{{ level.text | round(1) }}">{{ level.name }}
    <tspan x="{{ size.RIGHT + 5 }}" dy="13">{{ level.value }}</tspan></text>
  {% endfor %}
  {% for line in c.lines %}
  <g class="{{ line.style }}">
    <polyline class="line" points="{{ line.path }}"/>
    {% for mark in (line.marks if every_mark else line.marks[-1:]) %}
    {% if mark.low != mark.high %}
    <path class="whisker" d="M{{ mark.x | round(1) }},{{ mark.low | round(1) }}V{{ mark.high | round(1) }}"/>
    {% endif %}
    <path class="mark" transform="translate({{ mark.x | round(1) }} {{ mark.y | round(1) }})" d="{{ line.shape }}">
      <title>{{ mark.words }}</title></path>
    {% endfor %}
  </g>
  {% endfor %}
</svg>
<ul class="legend">{% for line in c.lines %}<li>{{ swatch(line) }}{{ line.name }}</li>{% endfor %}</ul>
<figcaption>{{ caller() }}</figcaption>
</figure>
{%- endmacro -%}

{%- macro bar(value, low=none, high=none, style="") -%}
<svg class="bar {{ style }}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
  <path class="track" vector-effect="non-scaling-stroke" d="M0,0H100V10H0z"/>
  <path class="fill" d="M0,1H{{ (100 * value) | round(2) }}V9H0z"/>
  {% if low is not none %}
  <path class="whisker" vector-effect="non-scaling-stroke" d="M{{ (100 * low) | round(2) }},5H{{ (100 * high) |
  round(2) }}
    M{{ (100 * low) | round(2) }},2V8M{{ (100 * high) | round(2) }},2V8"/>
  {% endif %}
</svg>
{%- endmacro -%}

{%- macro confusion(matrix, title) %}
<div class="scroll" role="region" aria-label="{{ title }}" tabindex="0">
<table class="confusion">
  <caption>{{ title }}</caption>
  <thead><tr><th scope="col">true, down; answer, across</th>
    {% for label in d.labels %}<th scope="col">{{ label }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for row in matrix %}{% set own = loop.index0 %}
  <tr><th scope="row">{{ d.labels[own] }}</th>
    {% for count in row %}<td{% if loop.index0 == own %} class="right"{% endif %}
      style="--share: {{ (count / ([row | sum, 1] | max)) | round(3) }}">{{ count }}</td>{% endfor %}</tr>
  {% endfor %}
  </tbody>
</table>
</div>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta name="robots" content="noindex"/>
<title>Robustness of {{ d.labels | join(", ") }}, {{ d.model.digest[:19] }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<header>
<p class="kicker">Buckler, robustness report</p>
<h1>{{ d.clean_accuracy.value | percent }} right without attack, {{ worst[0].robust_accuracy.value | percent }} under
  attack at {{ worst[0].epsilon_255 }}/255</h1>
<p class="lead">The classifier was asked about {{ d.data.images }} test pictures, first as they are, then changed by an
  attacker. {% for w in worst %}{% if loop.first %}When no colour value of a pixel may move by more than
  {{ w.epsilon_255 }} of its 255 steps, it stays right on {{ w.robust_accuracy.value | percent }} of the pictures
  whatever
  attack of this report is used{% else %}{{ "; " if not loop.last else "; and " }}at {{ w.epsilon_255 }}/255 on
  {{ w.robust_accuracy.value | percent }}{% endif %}{% endfor %}.
  {% if worst[0].malignant_to_benign_rate %}At {{ worst[0].epsilon_255 }}/255,
  {{ worst[0].malignant_to_benign_rate.value | percent }} of the malignant pictures are called benign under some attack.
  {% endif %}</p>
{% set failed = d.checks | rejectattr("passed") | list %}
<p class="verdict {{ "failed" if failed else "passed" }}">
  {% if failed %}✘ {{ failed | length }} of {{ d.checks | length }} checks of this evaluation failed:
  {{ failed | map(attribute="name") | join(", ") }}. Do not rely on the numbers below before this is explained.
  {% else %}✔ All {{ d.checks | length }} checks of this evaluation passed.{% endif %}</p>

<div class="scroll" role="region" aria-label="Worst case by radius" tabindex="0">
<table>
  <caption>Worst case over all attacks, by radius; 95% intervals in brackets</caption>
  <thead><tr><th scope="col">radius</th><th scope="col">robust accuracy</th>
    {% for title in clinical.values() %}<th scope="col">{{ title }}</th>{% endfor %}</tr></thead>
  <tbody>
  <tr><th scope="row">no attack</th><td><span class="big">{{ rate(d.clean_accuracy) }}</span></td>
    {% for _ in clinical %}<td>–</td>{% endfor %}</tr>
  {% for w in worst %}
  <tr><th scope="row">{{ w.epsilon_255 }}/255</th><td><span class="big">{{ rate(w.robust_accuracy) }}</span></td>
    {% for field in clinical %}<td>{{ rate(w[field]) }}</td>{% endfor %}</tr>
  {% endfor %}
  </tbody>
</table>
</div>

<dl class="facts">
  <dt>Model</dt><dd><code>{{ d.model.digest }}</code></dd>
  <dt>Data</dt><dd><code>{{ d.data.version }}</code>, {{ d.data.images }} test pictures attacked</dd>
  <dt>Labels</dt><dd>{{ d.labels | join(", ") }}{% if malignant %}; malignant: {{ malignant | join(", ") }}{% endif
  %}</dd>
  <dt>Attacks</dt><dd>{{ attacks | join(", ") }}</dd>
  <dt>Precision</dt><dd>crafted in {{ cells | map(attribute="crafted_in") | unique | join(", ") }}, scored in
    {{ cells | map(attribute="scored_in") | unique | join(", ") }}</dd>
</dl>
</header>

<main>
<section>
<h2>Accuracy against epsilon</h2>
{% for norm, c in charts %}
{% call chart(c, "Line chart: robust accuracy by radius in " ~ norm ~ ", a line an attack. Without attack " ~
  d.clean_accuracy.value | percent ~ ", chance " ~ chance | percent ~ ". The numbers are in the table All results.") %}
{% if norm == "linf" %}Largest change of a colour value. The bold line is the worst case: a picture counts only if no
  attack
flips it at that radius or a smaller one.{% else %}Euclidean length of the whole change, for attacks that are bounded by
it; not part of the worst case.{% endif %} Radii stand at equal distances; bars are 95% intervals, moved apart a
  little to
be seen. The numbers are in the table of all results.
{% endcall %}
{% endfor %}
</section>

<section>
<h2>Attack by attack</h2>
<div class="scroll" role="region" aria-label="Results by attack" tabindex="0">
<table class="wide">
  <caption>Strongest first at each radius. Robust accuracy is over all pictures, attack success over those right when
    clean.{% if survivors %} A line "after all lines above it" attacked only what these had left; its numbers count
    theirs
    too.{% endif %}</caption>
  <thead><tr><th scope="col">attack</th><th scope="col">robust accuracy</th>
    <th scope="col">attack success rate</th></tr></thead>
  {% for (norm, radius), cells in groups %}
  <tbody>
  <tr class="group"><th scope="rowgroup" colspan="3">{{ radius }}/255{% if norm != "linf" %}, {{ norm }}{% endif
  %}</th></tr>
  {% for cell in cells %}
  <tr><th scope="row">{{ cell.name }}{% if cell.knowledge %}<br/><span class="note">{{
  knowledge_words[cell.knowledge][0] }}
      </span>{% endif %}{% if cell.only_survivors %}<br/><span class="note">after all lines above it in the suite</span>
      {% endif %}</th>
    <td>{{ rate(cell.robust_accuracy) }}
      {{ bar(cell.robust_accuracy.value, cell.robust_accuracy.low, cell.robust_accuracy.high) }}</td>
    <td>{{ cell.attack_success_rate | percent }}{{ bar(cell.attack_success_rate, style="success") }}</td></tr>
  {% endfor %}
  </tbody>
  {% endfor %}
</table>
</div>
<h3>What each attack does</h3>
<dl class="words">{% for name in attacks %}<dt>{{ name }}</dt><dd>{{ name | attack_words }}</dd>{% endfor %}</dl>
{% if knowledge %}<h3>What the attacker knows</h3>
<dl class="words">{% for term, meaning in knowledge %}<dt>{{ term }}</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>{%
  endif %}
</section>

{% if convergence %}
<section>
<h2>Success against iterations</h2>
{% call chart(convergence, "Line chart: share of pictures flipped after each gradient step of PGD, a line a radius. " ~
  verdicts | join(" "), every_mark=false) %}
{{ curves[0].attack | upper }} on {{ curves[0].pictures }} pictures that are right when clean, in
the crafting precision and before rounding to 8 bits: not to be compared with the tables to the point. A curve that
  still
rises at its end would mean that more steps flip more pictures.
{% endcall %}
<ul>{% for verdict in verdicts %}<li>{{ verdict }}</li>{% endfor %}</ul>
</section>
{% endif %}

<section>
<h2>Which answers change</h2>
<p>Number of pictures by true label (rows) and answer (columns); bold is right. The attack shown is the one that leaves
  least.</p>
<div class="confusions">
{{ confusion(d.clean_confusion, "Without attack") }}
{{ confusion(strongest.confusion, "Under " ~ strongest.name ~ " at " ~ strongest.epsilon_255 ~ "/255" ~
  (", " ~ strongest.norm if strongest.norm != "linf" else "")) }}
</div>
</section>

{% if subgroups %}
<section>
<h2>Groups of pictures</h2>
<div class="scroll" role="region" aria-label="Results by group" tabindex="0">
<table>
  <caption>Clean accuracy and, by radius, worst-case robust accuracy and, where the group has malignant pictures,
    sensitivity: the share of these still called malignant. Small groups have wide intervals.</caption>
  <thead><tr><th scope="col">group</th><th scope="col" class="number">pictures</th><th scope="col">clean accuracy</th>
    {% for w in worst %}<th scope="col">{{ w.epsilon_255 }}/255</th>{% endfor %}</tr></thead>
  {% for column, groups in subgroups | groupby("column") %}
  <tbody>
  <tr class="group"><th scope="rowgroup" colspan="{{ 3 + worst | length }}">{{ column }}</th></tr>
  {% for group in groups %}
  <tr><th scope="row">{{ group.group }}</th><td class="number">{{ group.pictures }}</td>
    <td>{{ rate(group.clean_accuracy) }}</td>
    {% for w in group.worst_case %}<td>{{ rate(w.robust_accuracy) }}{% if w.sensitivity %}<br/><span
    class="note">sensitivity
      </span>{{ rate(w.sensitivity) }}{% endif %}</td>{% endfor %}</tr>
  {% endfor %}
  </tbody>
  {% endfor %}
</table>
</div>
</section>
{% endif %}

{% if triptychs %}
<section>
<h2>What the attacker sends</h2>
<p>Each row: the picture as it is, the perturbation ten times as strong around grey, and the attacked picture, with the
  model's answers.</p>
{% for t in triptychs %}
<h3>{{ t.attack }} at {{ t.epsilon_255 }}/255{% if t.norm != "linf" %}, {{ t.norm }}{% endif %}</h3>
<div class="triptychs">
{% for e in t.examples %}
<figure>
  <div class="row">
  <div><img src="{{ e.clean | png }}" alt="Picture of {{ e.truth }} as it is"/><span>answer: {{ e.before }}</span></div>
  <div><img src="{{ e.amplified | png }}" alt="Perturbation by {{ t.attack }}, ten times as
  strong"/><span>perturbation × 10
    </span></div>
  <div><img src="{{ e.adversarial | png }}" alt="The same picture attacked by {{ t.attack }}"/><span>answer: {{
  e.after }}
    </span></div>
  </div>
  <figcaption>Truth: {{ e.truth }}. {{ e.words }}</figcaption>
</figure>
{% endfor %}
</div>
{% endfor %}
</section>
{% endif %}

<section>
<h2>Is the evaluation itself to be believed?</h2>
<p>A weak attack makes a model look strong. Each check asks whether the numbers above could be an illusion; one that
  fails
  keeps the model from being promoted.</p>
<div class="scroll" role="region" aria-label="Checks" tabindex="0">
<table class="wide">
  <caption>Checks of the evaluation</caption>
  <thead><tr><th scope="col">check</th><th scope="col">result</th><th scope="col">what was seen</th></tr></thead>
  {% for why, some in checks %}
  <tbody>
  {% if why %}<tr class="group"><td colspan="3" class="note">{{ why }}</td></tr>{% endif %}
  {% for check in some %}
  <tr><th scope="row">{{ check.name | replace("_", " ") }}</th>
    <td class="state {{ "passed" if check.passed else "failed" }}">{{ "✔ passed" if check.passed else "✘ failed" }}</td>
    <td>{{ check.detail }}</td></tr>
  {% endfor %}
  </tbody>
  {% endfor %}
</table>
</div>
</section>

<section>
<h2>All results</h2>
<div class="scroll" role="region" aria-label="All results" tabindex="0">
<table class="cells">
  <caption>Every attack at every radius, with what is needed to repeat it. Radii are in 1/255 of the norm; the rate in
  the
    last column is the share of malignant pictures given no malignant label.</caption>
  <thead><tr><th scope="col">attack</th><th scope="col">norm</th><th scope="col">radius</th><th scope="col">steps</th>
    <th scope="col">restarts</th><th scope="col">seed</th><th scope="col">crafted in</th><th scope="col">scored in</th>
    <th scope="col">robust accuracy</th><th scope="col">attack success</th><th scope="col">malignant to
    benign</th></tr></thead>
  <tbody>
  {% for cell in cells %}
  <tr><th scope="row">{{ cell.name }}</th><td>{{ cell.norm }}</td><td>{{ cell.epsilon_255 }}/255</td>
    <td>{% if cell.knowledge in ("score", "label") %}{{ cell.queries }} queries{% else %}{{ cell.steps }}{% endif
    %}</td>
    <td>{{ cell.restarts }}</td><td>{{ cell.seed }}</td><td>{{ cell.crafted_in }}</td><td>{{ cell.scored_in }}</td>
    <td>{{ rate(cell.robust_accuracy) }}</td><td>{{ cell.attack_success_rate | percent }}</td>
    <td>{% if cell.malignant_to_benign_rate is none %}–{% else %}{{ cell.malignant_to_benign_rate | percent }}{% endif
    %}</td>
  </tr>
  {% endfor %}
  </tbody>
</table>
</div>
</section>

<section>
<h2>How to read this page</h2>
<dl class="words">
  <dt>Robust accuracy</dt><dd>The share of all test pictures that the model gets right both without attack and under
  it. A
    picture that is wrong to begin with is not robust.</dd>
  <dt>Radius, epsilon</dt><dd>How much the attacker may change. At 4/255 in linf, no colour value of any pixel moves
  by more
    than 4 of its 255 steps, which an eye hardly sees. In l2 it bounds the length of the whole change. Attacked
    pictures are
    rounded to 8 bits before they count: each could be sent as a PNG.</dd>
  <dt>Worst case</dt><dd>A picture counts as right only if no attack in linf flips it at that radius or a smaller one.
  An
    attacker picks what works, so this, and not a single attack, is the number to judge by.</dd>
  <dt>Attack success rate</dt><dd>The share flipped among the pictures that are right without attack.</dd>
  <dt>Interval</dt><dd>The 95% Wilson interval: how far the number may be off because only these pictures, and not all
  of
    their kind, were tried. It says nothing about attacks that were not tried.</dd>
  <dt>Chance</dt><dd>What a model gets right that always gives the most frequent label,
    {{ chance | percent }} here.</dd>
</dl>
<h3>What this page does not claim</h3>
<ul>
  <li>It is no proof. A stronger attack may flip more: robust accuracy found by attacks is an upper bound.</li>
  <li>It is about small changes of pixel values within the stated radii: not about rotation, light, other cameras,
  stickers,
    or training data that someone has tampered with.</li>
  <li>It is about the test pictures of this version of the data; other patients, clinics and devices may differ.</li>
  <li>It is no clinical evaluation, and no decision: whether the model may serve is said by the signed verdict
    (<code>reports/gate.json</code>).</li>
</ul>
<p>The protocol is in <code>docs/evaluation-protocol.md</code>; the numbers of this page are those of
  <code>reports/robustness.json</code>.</p>
</section>
</main>
</body>
</html>
"""
