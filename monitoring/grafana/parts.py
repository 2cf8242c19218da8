"""Kinds of panels of the dashboards, each with the few options that differ between panels."""

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

# A variable, not a uid: the dashboards work with any Prometheus data source.
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATIO, SECONDS, PER_SECOND, COUNT = "percentunit", "s", "reqps", "short"
GREEN, ORANGE, RED = "green", "orange", "red"

Steps = Sequence[tuple[str, float | None]]  # colour, and the value from which it applies; None for the first
Builder = TypeVar(
    "Builder", stat.Panel, lines_builder.Panel, bargauge.Panel, heatmap.Panel, statetimeline.Panel
)  # same methods, but no common class
Panel = stat.Panel | lines_builder.Panel | bargauge.Panel | heatmap.Panel | statetimeline.Panel


@dataclass(frozen=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


def value(
    title: str,
    description: str,
    expr: str,
    unit: str,
    *,
    steps: Steps = (),
    legend: str = "",
    span: int = 4,
    words: str = "",
) -> stat.Panel:
    """Return the last value in large figures; ``words`` (``0=fails;1=passes``) replace numbers."""
    panel = stat.Panel().graph_mode(BigValueGraphMode.NONE).height(4).reduce_options(_last()).mappings(_mappings(words))
    return _filled(panel, title, description, [(expr, legend)], unit, steps, span)


def lines(
    title: str, description: str, queries: Sequence[tuple[str, str]], unit: str, *, steps: Steps = (), span: int = 12
) -> lines_builder.Panel:
    """Return curves over time; ``steps`` draw the thresholds of alerts."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = lines_builder.Panel().height(8).legend(legend.show_legend(True)).fill_opacity(8)
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if unit in (RATIO, COUNT, PER_SECOND, SECONDS):
        panel.axis_soft_min(0)
    if steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return _filled(panel, title, description, queries, unit, steps, span)


def stacked(title: str, description: str, queries: Sequence[tuple[str, str]], unit: str, *, span: int = 12) -> Panel:
    """Return curves on top of each other: parts of a whole."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL)
    return lines(title, description, queries, unit, span=span).stacking(stacking).fill_opacity(30)


def bars(
    title: str, description: str, expr: str, legend: str, unit: str, *, steps: Steps = (), span: int = 8
) -> bargauge.Panel:
    """Return one bar for each series, with its last value."""
    return _filled(
        bargauge.Panel().height(8).min(0).reduce_options(_last()),
        title,
        description,
        [(expr, legend)],
        unit,
        steps,
        span,
    )


def states(
    title: str, description: str, queries: Sequence[tuple[str, str]], words: str, steps: Steps, *, span: int = 12
) -> statetimeline.Panel:
    """Return one strip for each series, coloured by its value over time."""
    panel = statetimeline.Panel().height(8).mappings(_mappings(words)).show_value(VisibilityMode.NEVER)
    return _filled(panel, title, description, queries, COUNT, steps, span)


def heat(title: str, description: str, buckets: str, *, span: int = 12) -> heatmap.Panel:
    """Return a histogram over time."""
    panel = heatmap.Panel().height(8).mode(TooltipDisplayMode.SINGLE).y_axis(_left())
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64))
    panel = _filled(panel, title, description, [], COUNT, (), span)
    return panel.with_target(_query(0, buckets, "{{le}}").format(PromQueryFormat.HEATMAP))


def board(uid: str, title: str, description: str, rows: Sequence[Row]) -> models.Dashboard:
    """Return a dashboard with panels numbered in order and links to the other dashboards."""
    made = dashboard.Dashboard(f"Buckler: {title}").uid(uid).description(description).tags(["buckler"]).readonly()
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
    description: str,
    queries: Sequence[tuple[str, str]],
    unit: str,
    steps: Steps,
    span: int,
) -> Builder:
    panel.title(title).description(description).datasource(DATASOURCE).unit(unit).span(span)
    colours = [models.Threshold(value=at, color=color) for color, at in steps or ((GREEN, None),)]
    panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(colours))
    for number, (expr, legend) in enumerate(queries):
        panel.with_target(_query(number, expr, legend, now=isinstance(panel, stat.Panel | bargauge.Panel)))
    return panel


def _query(number: int, expr: str, legend: str, *, now: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ascii_uppercase[number])
    # A panel of the last value must not show series that have ended, such as another model's.
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
