"""Networks of other people, and archives that they or attackers save."""

import json
import zipfile

from buckler.models.backend import keras

SIDE = 32


def residual(classes=2, side=SIDE, *, end="softmax", width=8):
    """Return a network as a tutorial would build it: batch normalisation, a residual connection, a model inside."""
    layers = keras.layers
    picture = keras.Input((side, side, 3))
    augment = [layers.RandomFlip("horizontal", name="flipped"), layers.RandomRotation(0.1, name="turned")]
    turned = keras.Sequential(augment, name="augmentation")(picture)
    scaled = layers.Rescaling(2.0, offset=-1.0)(turned)
    inner_picture = keras.Input((side, side, 3))
    values = inner_picture
    for number in (1, 2):
        values = layers.Conv2D(width * number, 3, padding="same", use_bias=False, name=f"conv{number}")(values)
        values = layers.BatchNormalization(name=f"normalised{number}")(values)
        values = layers.ReLU(name=f"active{number}")(values)
        side_way = values
        values = layers.Conv2D(width * number, 3, padding="same", activation="relu", name=f"side{number}")(values)
        values = layers.Add(name=f"sum{number}")([values, side_way])
        values = layers.MaxPooling2D(name=f"smaller{number}")(values)
    values = layers.Conv2D(width * 4, 3, padding="same", activation="relu", name="last")(values)
    base = keras.Model(inner_picture, values, name="base")
    pooled = layers.GlobalAveragePooling2D(name="pooled")(base(scaled))
    hidden = layers.Dropout(0.2)(layers.Dense(16, activation="relu", name="hidden")(pooled))
    return keras.Model(picture, layers.Dense(classes, activation=end, name="answer")(hidden), name="theirs")


def chain(*layers, side=SIDE, before=()):
    """Return a small network with ``layers`` after its convolution and pooling."""
    last = layers or (keras.layers.Dense(2),)
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            *before,
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            *last,
        ]
    )


def saved(network, path):
    """Save ``network`` as its author would; return ``path``."""
    network.save(path)
    return path


def rewritten(path, change=lambda config: None, *, members=(), without=()):
    """Change the description in the archive ``path``, and add ``members``, pairs of name and content."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if name not in without}
    if "config.json" in contents:
        config = json.loads(contents["config.json"])
        change(config)
        contents["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*contents.items(), *members]:
            archive.writestr(name, content)
    return path


def layer(config, name):
    """Return the description of the layer called ``name`` in ``config``."""
    return next(each for each in config["config"]["layers"] if each["config"]["name"] == name)
