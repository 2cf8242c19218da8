"""The kinds of panels that the dashboards are made of, each with the few choices that differ from panel to panel."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, statetimeline
from grafana_foundation_sdk.builders import timeseries as lines_builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

# A variable, not a uid: the dashboards also work in a Grafana whose Prometheus has another.
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATIO, SECONDS, PER_SECOND, COUNT = "percentunit", "s", "reqps", "short"
GREEN, ORANGE, RED = "green", "orange", "red"

Steps = Sequence[tuple[str, float | None]]  # colour, from which value on; the first from None
Builder = TypeVar(
    "Builder", stat.Panel, lines_builder.Panel, bargauge.Panel, heatmap.Panel, statetimeline.Panel
)  # they share their methods, but no class
Panel = stat.Panel | lines_builder.Panel | bargauge.Panel | heatmap.Panel | statetimeline.Panel


@dataclass(frozen=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


def value(
    title: str, says: str, expr: str, unit: str, *, steps: Steps = (), legend: str = "", span: int = 4, words: str = ""
) -> stat.Panel:
    """Return the last value in large figures; ``words`` (``0=fails;1=passes``) stand for numbers."""
    panel = stat.Panel().graph_mode(BigValueGraphMode.NONE).height(4).reduce_options(_last()).mappings(_mappings(words))
    return _filled(panel, title, says, [(expr, legend)], unit, steps, span)


def lines(
    title: str, says: str, queries: Sequence[tuple[str, str]], unit: str, *, steps: Steps = (), span: int = 12
) -> lines_builder.Panel:
    """Return curves over time; ``steps`` draw where an alert fires."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = lines_builder.Panel().height(8).legend(legend.show_legend(True)).fill_opacity(8)
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if unit in (RATIO, COUNT, PER_SECOND, SECONDS):
        panel.axis_soft_min(0)
    if steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return _filled(panel, title, says, queries, unit, steps, span)


def stacked(title: str, says: str, queries: Sequence[tuple[str, str]], unit: str, *, span: int = 12) -> Panel:
    """Return curves on top of each other: parts of a whole."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL)
    return lines(title, says, queries, unit, span=span).stacking(stacking).fill_opacity(30)


def bars(
    title: str, says: str, expr: str, legend: str, unit: str, *, steps: Steps = (), span: int = 8
) -> bargauge.Panel:
    """Return one bar a series, with its last value."""
    return _filled(
        bargauge.Panel().height(8).min(0).reduce_options(_last()), title, says, [(expr, legend)], unit, steps, span
    )


def states(
    title: str, says: str, queries: Sequence[tuple[str, str]], words: str, steps: Steps, *, span: int = 12
) -> statetimeline.Panel:
    """Return one strip a series, coloured by its value over time."""
    panel = statetimeline.Panel().height(8).mappings(_mappings(words)).show_value(VisibilityMode.NEVER)
    return _filled(panel, title, says, queries, COUNT, steps, span)


def heat(title: str, says: str, buckets: str, *, span: int = 12) -> heatmap.Panel:
    """Return a histogram over time."""
    panel = heatmap.Panel().height(8).mode(TooltipDisplayMode.SINGLE).y_axis(_left())
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64))
    panel = _filled(panel, title, says, [], COUNT, (), span)
    return panel.with_target(_query(0, buckets, "{{le}}").format(PromQueryFormat.HEATMAP))


def board(uid: str, title: str, says: str, rows: Sequence[Row]) -> models.Dashboard:
    """Return a dashboard whose panels are numbered as they stand; the other dashboards are one click away."""
    made = dashboard.Dashboard(f"Buckler: {title}").uid(uid).description(says).tags(["buckler"]).readonly()
    made.time("now-6h", "now").refresh("30s").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    others = dashboard.DashboardLink("Buckler").type(models.DashboardLinkType.DASHBOARDS).tags(["buckler"])
    made.link(others.keep_time(True).include_vars(True))
    number = 0
    for row in rows:
        number += 1
        made.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made.with_panel(panel.id(number))
    return made.build()


def _filled(
    panel: Builder,
    title: str,
    says: str,
    queries: Sequence[tuple[str, str]],
    unit: str,
    steps: Steps,
    span: int,
) -> Builder:
    panel.title(title).description(says).datasource(DATASOURCE).unit(unit).span(span)
    colours = [models.Threshold(value=at, color=color) for color, at in steps or ((GREEN, None),)]
    panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(colours))
    for number, (expr, legend) in enumerate(queries):
        panel.with_target(_query(number, expr, legend, now=isinstance(panel, stat.Panel | bargauge.Panel)))
    return panel


def _query(number: int, expr: str, legend: str, *, now: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ascii_uppercase[number])
    # Where the last value is shown, what is gone must not be: another model's, an attack's of last week.
    query = query.instant() if now else query.range()
    return query.datasource(DATASOURCE).editor_mode(QueryEditorMode.CODE)


def _mappings(words: str) -> list[models.ValueMapping]:
    pairs = [pair.split("=") for pair in words.split(";") if pair]
    if not pairs:
        return []
    shown = {number: models.ValueMappingResult(text=text, index=i) for i, (number, text) in enumerate(pairs)}
    return [models.ValueMap(options=shown)]


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _left() -> heatmap.YAxisConfig:
    return heatmap.YAxisConfig().axis_placement(AxisPlacement.LEFT)
