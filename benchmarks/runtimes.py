"""Compares the engines that could serve one network: speed, and difference of their answers from Keras in float32.

Reads   a model directory (``--model``) with classifier.keras, pictures (``--images``, class-per-folder; else drawn)
Writes  docs/results/runtimes.json

Every engine computes logits and the detector's features, one picture at a time. The engines take turns in one process,
one round each. On a busy machine, compare the processor time, not the speed. Needs the extra `bench`, which installs
the engines that the service does not use.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pictures
from benchmarks import results as documents
from benchmarks.serving import environment
from benchmarks.tables import markdown
from buckler.compute.machine import crafting_precision
from buckler.errors import BucklerError
from buckler.modality.base import Images
from buckler.modality.picture.modality import MODALITY as PICTURE
from buckler.models import checkpoint, export, runtime
from buckler.models.backend import keras, tf
from buckler.models.classifier import Classifier
from buckler.models.features import add_features
from buckler.models.forward import Logits, probabilities
from buckler.models.networks.tiny import TINY
from pipelines.stage import stage

COMMAND = "python -m benchmarks.runtimes --model DIR --images DIR"
OPSET, SEED = 17, 7
QUICK_SIZE = 32
PACKAGES = ("onnxruntime", "tf2onnx", "ai_edge_litert")  # of the extra `bench`

Ask = Callable[[Images], Logits]  # (1, size, size, 3) to (1, classes); also computes the features


@dataclass(frozen=True, slots=True)
class RuntimeResult:
    """One engine, one picture at a time.

    Attributes:
        images_per_second: Speed in the median round.
        low, high: Speed in the slowest and the fastest round.
        cpu_ms: Processor time of all threads for one picture.
        label_agreement: Share of pictures with the label of Keras in float32.
        probability_gap: Mean distance (total variation) from the probabilities of Keras in float32.
    """

    engine: str
    images_per_second: float
    low: float
    high: float
    cpu_ms: float
    label_agreement: float
    probability_gap: float


def check_packages() -> None:
    """Raise ``BucklerError`` if a package of the extra `bench` is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise BucklerError(
            f"benchmarks.runtimes needs the extra `bench` ({', '.join(missing)} not installed): "
            "run `.venv/bin/uv pip install --python .venv/bin/python --editable '.[bench]'`"
        )


def run(network: Any, folder: str, out: Path, *, rounds: int = 4, count: int = 16) -> None:
    """Measure ``rounds`` of ``count`` pictures, write the results and print the table."""
    size = network.input_shape[1]
    pixels, _, _ = pictures.sample(folder, (rounds + 2) * count, size=size, seed=SEED)
    calibration, shown = pixels[: 2 * count], pixels[2 * count :]
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="buckler-bench-") as scratch:
        asked = dict(engines(network, calibration, Path(scratch)))
        results = measure(asked, shown, rounds)
    settings = {"image_size": size, "rounds": rounds, "pictures": count, **environment(load_before)}
    tables = {"engines": table(results)}
    documents.new("runtimes", COMMAND, tables, seeds=[SEED], settings=settings).write(out)
    print(markdown(tables["engines"]))


def table(results: Sequence[RuntimeResult]) -> documents.Table:
    """Return a row for each engine."""
    columns = (
        documents.Column("engine", "engine"),
        documents.Column("images_per_second", "images/s", ".1f", "slowest to fastest round"),
        documents.Column("cpu_ms", "processor ms an image", ".0f"),
        documents.Column("label_agreement", "same label as Keras float32", ".1%"),
        documents.Column("probability_gap", "probability gap", ".4f"),
    )
    rows = ({**asdict(r), "images_per_second": documents.Estimate(r.images_per_second, r.low, r.high)} for r in results)
    keys = [column.key for column in columns]
    return documents.Table(columns, tuple({key: row[key] for key in keys} for row in rows))


def engines(network: Any, calibration: Images, scratch: Path) -> Iterator[tuple[str, Ask]]:
    """Yield each engine's name and its function, Keras in float32 first; files are written to ``scratch``."""
    for precision in dict.fromkeys(("float32", crafting_precision())):
        yield f"keras {precision}", Classifier(network, precision, batch_size=1).logits
    export.write(network, calibration, scratch)
    for native in runtime.native():
        yield f"openvino {native}", runtime.Runtime(scratch / runtime.FILES[native], native).logits
    yield from peers(network, calibration, scratch)


def peers(network: Any, calibration: Images, scratch: Path) -> Iterator[tuple[str, Ask]]:
    """Yield the engines of the extra `bench`, as ``engines``."""
    traced = _traced(network)
    yield "onnxruntime float32", _onnx(traced, scratch / "float32.onnx")
    yield "litert float32", _litert(traced, None)
    yield "litert int8", _litert(traced, calibration)


def measure(asked: dict[str, Ask], images: Images, rounds: int) -> list[RuntimeResult]:
    """Let the engines take turns at ``rounds`` parts of ``images``, after one uncounted picture each."""
    for ask in asked.values():
        ask(images[:1])
    parts = np.array_split(images, rounds)
    speeds: dict[str, list[float]] = {name: [] for name in asked}
    spent: dict[str, float] = dict.fromkeys(asked, 0.0)
    logits: dict[str, list[Logits]] = {name: [] for name in asked}
    for part in parts:
        for name, ask in asked.items():
            wall, processor = time.perf_counter(), time.process_time()
            logits[name] += [ask(picture[None]) for picture in part]
            spent[name] += time.process_time() - processor
            speeds[name].append(len(part) / (time.perf_counter() - wall))
    answers = {name: probabilities(np.concatenate(found)) for name, found in logits.items()}
    reference = next(iter(answers.values()))
    return [
        RuntimeResult(
            engine=name,
            images_per_second=round(statistics.median(speeds[name]), 2),
            low=round(min(speeds[name]), 2),
            high=round(max(speeds[name]), 2),
            cpu_ms=round(1000 * spent[name] / len(images), 1),
            label_agreement=float((answers[name].argmax(axis=1) == reference.argmax(axis=1)).mean()),
            probability_gap=float(np.abs(answers[name] - reference).sum(axis=1).mean() / 2),
        )
        for name in asked
    ]


def _traced(network: Any) -> Any:
    logits, features = add_features(network).outputs
    whole = keras.Model(network.input, {"logits": logits, "features": features})
    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name="images")]
    return tf.function(lambda images: whole(images, training=False), input_signature=signature)


def _onnx(traced: Any, file: Path) -> Ask:
    import onnxruntime
    import tf2onnx

    tf2onnx.convert.from_function(traced, traced.input_signature, opset=OPSET, output_path=str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    place = next(
        i for i, output in enumerate(session.get_outputs()) if output.shape[-1] < 100
    )  # the other output is the features
    return lambda images: np.asarray(session.run(names, {session.get_inputs()[0].name: images})[place])


def _litert(traced: Any, calibration: Images | None) -> Ask:
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture[None]] for picture in calibration)
    interpreter = Interpreter(model_content=converter.convert(), num_threads=len(os.sched_getaffinity(0)))
    runner = interpreter.get_signature_runner() if interpreter.get_signature_list() else None
    if runner is not None:
        return lambda images: np.asarray(runner(images=images)["logits"])
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    outputs = interpreter.get_output_details()
    place = next(output["index"] for output in outputs if output["shape"][-1] < 100)

    def ask(images: Images) -> Logits:
        interpreter.set_tensor(entry, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(place))

    return ask


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/classifier"), help="directory of the network")
    parser.add_argument("--images", default="", help="class-per-folder directory; default: drawn pictures")
    parser.add_argument("--pictures", type=int, default=16, help="pictures in a round")
    documents.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="tiny network, few pictures: shows that it works")
    given = parser.parse_args()
    check_packages()
    if given.quick:
        run(TINY.build(PICTURE.shape(QUICK_SIZE), 2, seed=SEED), "", given.out or documents.SCRATCH, rounds=2, count=4)
        return
    network = checkpoint.load_network(given.model)
    run(network, given.images, given.out or documents.DIRECTORY, count=given.pictures)


if __name__ == "__main__":
    stage(main)
