"""A plain FastAPI endpoint for a Keras network, as in FastAPI's documentation: ``uvicorn ...:app``."""

import io
import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image

from buckler.models import checkpoint
from buckler.models.backend import keras

MODEL = Path(os.environ["BUCKLER_BENCH_MODEL"])

app = FastAPI()
info, network = checkpoint.load_info(MODEL), checkpoint.load_network(MODEL)


@app.post("/predict")
def predict(image: UploadFile) -> dict[str, float]:
    """Return the probability of each label."""
    picture = Image.open(io.BytesIO(image.file.read())).convert("RGB").resize((info.shape[1], info.shape[0]))
    logits = network(np.asarray(picture, np.float32)[None] / 255, training=False)
    shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    return {label: float(share) for label, share in zip(info.labels, shares, strict=True)}
