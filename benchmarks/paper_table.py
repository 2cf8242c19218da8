"""Prints what was measured beside what the paper says.

Reads   reports/{evaluation,robustness}.json

Source: Selvakkumar, Pal & Jadidi, arXiv 2112.08862: 88 % clean, 11 % under FGSM, radius not stated.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from buckler.compute.machine import machine
from buckler.release import bundle
from buckler.state import documents
from pipelines.stage import stage

REPORTS = Path("reports")
PAPER_CLEAN, PAPER_FGSM = "88 %", "11 % (radius not stated)"


def run() -> None:
    """Print the table, the confusion matrices and where it was measured."""
    evaluation, robustness = (documents.read_json(REPORTS / f"{name}.json") for name in ("evaluation", "robustness"))
    print("\n".join(lines(evaluation, robustness)))


def lines(evaluation: dict[str, Any], robustness: dict[str, Any]) -> Iterator[str]:
    """Yield the page as Markdown."""
    pictures = robustness["data"]["images"]
    yield f"\n| accuracy on {pictures} test pictures | measured (95 % interval) | paper | seconds |"
    yield "|---|---|---|---|"
    yield f"| clean | {_share(evaluation['clean_accuracy'])} | {PAPER_CLEAN} | {evaluation['seconds']:.0f} |"
    for cell in robustness["cells"]:
        paper = PAPER_FGSM if cell["attack"] == "fgsm" else ""
        name = f"{cell['name']} {cell['epsilon_255']}/255, crafted in {cell['crafted_in']}"
        yield f"| {name} | {_share(cell['robust_accuracy'])} | {paper} | {cell['seconds']:.0f} |"
    for row in robustness["worst_case"]:
        yield f"| worst case up to {row['epsilon_255']}/255 | {_share(row['robust_accuracy'])} | | |"
        if row["sensitivity"]:
            yield f"| malignant sensitivity up to {row['epsilon_255']}/255 | {_share(row['sensitivity'])} | | |"
    yield ""
    yield "| clean, by class | precision | recall | F1 | pictures |"
    yield "|---|---|---|---|---|"
    for label, row in evaluation["classes"].items():
        numbers = " | ".join(f"{row[name]:.2f}" for name in ("precision", "recall", "f1"))
        yield f"| {label} | {numbers} | {row['support']} |"
    yield ""
    fgsm = next(cell for cell in robustness["cells"] if cell["attack"] == "fgsm")
    yield from _matrix("clean", robustness["labels"], robustness["clean_confusion"])
    yield from _matrix(f"FGSM {fgsm['epsilon_255']}/255", robustness["labels"], fgsm["confusion"])
    source = bundle.source_of(Path.cwd())
    changed = " with uncommitted changes" if source.dirty else ""
    yield f"machine: {machine()}; commit {(source.commit or 'none')[:12]}{changed}"


def _share(rate: dict[str, float]) -> str:
    return f"{rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"


def _matrix(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Iterator[str]:
    yield f"| {title}: true \\ predicted | {' | '.join(labels)} |"
    yield "|---" * (len(labels) + 1) + "|"
    for label, row in zip(labels, counts, strict=True):
        yield f"| {label} | {' | '.join(map(str, row))} |"
    yield ""


if __name__ == "__main__":
    stage(run)
