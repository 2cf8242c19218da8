"""What the description of a Keras network may name: an allow-list, checked before Keras builds anything.

Keras's safe mode refuses pickled functions, and nothing else: it still resolves every name in the description to an
object of Keras, some of which read files or run programs (``TFSMLayer``, ``get_file``, vocabularies), and it trusts
``registered_name`` before the name of the class. Here every object must be on a list, by module and class.

Source: https://keras.io/api/models/model_saving_apis/model_saving_and_loading (``safe_mode``); CVE-2025-1550,
CVE-2025-8747, CVE-2025-9905 and CVE-2025-9906 for what came past it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from buckler.errors import ModelError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS = {("keras.src.models.functional", "Functional"), ("keras", "Functional"), ("keras", "Sequential")}
LAYERS = _words(
    """
    InputLayer Dense Activation Conv1D Conv2D DepthwiseConv2D SeparableConv2D Conv2DTranspose MaxPooling1D
    MaxPooling2D GlobalAveragePooling1D AveragePooling2D
    GlobalAveragePooling2D GlobalMaxPooling2D BatchNormalization LayerNormalization
    GroupNormalization UnitNormalization Rescaling Normalization Resizing CenterCrop ZeroPadding2D Cropping2D
    UpSampling2D Flatten Reshape Permute Add Subtract Multiply Average Maximum Minimum Concatenate Identity ReLU
    LeakyReLU PReLU ELU Softmax Dropout SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout
    ActivityRegularization RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast
    RandomBrightness
    """
)
# Arithmetic on Keras tensors, as in ``inputs / 127.5 - 1``.
OPERATIONS = _words("Add Subtract Multiply TrueDivide Divide Negative GetItem Stack Concatenate")
INITIALISERS = _words(
    """
    Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling GlorotNormal GlorotUniform
    HeNormal HeUniform LecunNormal LecunUniform Orthogonal OrthogonalInitializer Identity
    """
)
REGULARISERS = frozenset({"L1", "L2", "L1L2", "OrthogonalRegularizer"})
CONSTRAINTS = frozenset({"MaxNorm", "NonNeg", "UnitNorm", "MinMaxNorm"})
ACTIVATIONS = _words(
    """
    linear relu relu6 elu selu gelu silu swish sigmoid hard_sigmoid hard_silu hard_swish tanh softplus softsign
    mish leaky_relu celu exponential softmax log_softmax
    """
)
# Values that Keras writes as objects.
_VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"})
_CLASSES = {
    "keras.layers": LAYERS,
    "keras.src.ops.numpy": OPERATIONS,
    "keras.initializers": INITIALISERS,
    "keras.regularizers": REGULARISERS,
    "keras.constraints": CONSTRAINTS,
    "keras": frozenset({"DTypePolicy"}),
}
# By the end of a setting's name: what a name as plain text may be.
_NAMES: dict[str, Callable[[str], bool]] = {
    "activation": ACTIVATIONS.__contains__,
    "initializer": lambda name: _plain(name) in {each.lower() for each in INITIALISERS},
    "regularizer": lambda name: _plain(name) in {each.lower() for each in REGULARISERS},
    "constraint": lambda name: _plain(name) in {each.lower() for each in CONSTRAINTS},
}
# Not needed to build a network that is not trained on; Keras would make optimisers, losses and metrics of them.
_DROPPED = ("compile_config", "build_config")
FLOAT32 = "float32"
_MIXED = ("mixed_float16", "mixed_bfloat16")
MAX_OBJECTS = 20_000


@dataclass(slots=True)
class Description:
    """The description of a network without what is not needed to build it.

    Attributes:
        config: For Keras.
        mixed: Whether some layer computed in 16 bits with weights of 32; ``config`` says float32 instead.
    """

    config: dict[str, Any]
    mixed: bool = False


def checked(config: Any, file: object, own: Collection[str] = ()) -> Description:
    """Return the description ``config``, from ``config.json`` of ``file``, if all that it names is on the list.

    Args:
        config: Parsed JSON.
        file: Named in errors.
        own: Registered names of the product's own layers, such as ``buckler>MirrorPadding``.

    Raises:
        ModelError: It names something else.
    """
    found = config.get("class_name") if isinstance(config, dict) else config
    if not isinstance(config, dict) or f"{config.get('module')}.{found}" not in {".".join(pair) for pair in MODELS}:
        raise ModelError(
            f"{file}: expected a Functional or Sequential network as Keras 3 saves it, got {_short(found)}; rebuild a "
            "subclassed model as a functional one, and save it again with Keras 3"
        )
    check = _Check(file, frozenset(own))
    try:
        return Description(check.clean(config), check.mixed)
    except RecursionError as error:
        raise ModelError(f"{file}: expected a description of ordinary depth, got one of endless depth") from error


@dataclass(slots=True)
class _Check:
    file: object
    own: frozenset[str]
    mixed: bool = False
    _objects: int = field(default=0)

    def clean(self, value: Any, key: str = "", layer: str = "the network") -> Any:
        """Return ``value`` without what is dropped."""
        if isinstance(value, list):
            return [self.clean(each, key, layer) for each in value]
        if isinstance(value, str):
            return self._text(value, key, layer)
        if not isinstance(value, dict):
            return value
        if "class_name" in value:
            return self._object(value, layer)
        return self._items(value, layer)

    def _items(self, value: Mapping[str, Any], layer: str) -> dict[str, Any]:
        return {key: self.clean(each, key, layer) for key, each in value.items() if key not in _DROPPED}

    def _text(self, value: str, key: str, layer: str) -> str:
        for end, allowed in _NAMES.items():
            if key.endswith(end) and not allowed(value):
                raise self._refusal(layer, f"{key} {_short(value)}")
        return self._policy(value, layer) if key == "dtype" else value

    def _policy(self, name: str, layer: str) -> str:
        if name in _MIXED:
            self.mixed = True
            return FLOAT32
        if name != FLOAT32:
            raise ModelError(
                f"{self.file}: {layer}: expected float32 inputs, weights and layers, got {_short(name)}; build the "
                "network again with float32 (its input are pixels in 0..1), copy its weights and save it"
            )
        return name

    def _object(self, value: Mapping[str, Any], layer: str) -> dict[str, Any]:
        self._objects += 1
        if self._objects > MAX_OBJECTS:
            raise ModelError(f"{self.file}: expected a network of at most {MAX_OBJECTS} objects, got more")
        name, module, registered = names = tuple(value.get(key) for key in ("class_name", "module", "registered_name"))
        if not all(each is None or isinstance(each, str) for each in names):
            raise self._refusal(layer, f"{_short(names)}")
        config = value.get("config")
        if name in _VALUES:
            return self._value(value, layer)
        if isinstance(config, dict) and isinstance(config.get("name"), str) and module != "keras":
            layer = f"layer {_short(config['name'])}"
        if name == "function":
            if (
                module != "builtins"
                or not isinstance(config, str)
                or config not in ACTIVATIONS
                or registered not in (None, "function", config)
            ):
                raise self._refusal(layer, f"the function {_short(module)}.{_short(config)}")
        elif not self._is_listed(module, name, registered) or not isinstance(config, dict):
            raise self._refusal(layer, f"{_short(module)}.{_short(name)} ({_short(registered)})")
        if name == "DTypePolicy" and isinstance(config, dict):
            policy = {**config, "name": self._policy(str(config.get("name")), layer)}
            return {**self._items(value, layer), "config": policy}
        return self._items(value, layer)

    def _value(self, value: Mapping[str, Any], layer: str) -> dict[str, Any]:
        """Return a tensor, number or slice, of which only the numbers count."""
        config = value.get("config")
        dtype = config.get("dtype", FLOAT32) if isinstance(config, dict) else config
        if dtype not in ("float32", "float16", "bfloat16", "int32", "int64", "bool"):
            raise self._refusal(layer, f"a value of type {_short(dtype)}")
        return dict(value)

    def _is_listed(self, module: Any, name: Any, registered: Any) -> bool:
        if registered in self.own:
            return bool(registered.partition(">")[2] == name)
        listed = (module, name) in MODELS or name in _CLASSES.get(module, ())
        return listed and registered in (None, name)

    def _refusal(self, layer: str, found: str) -> ModelError:
        return ModelError(
            f"{self.file}: {layer}: expected only layers, activations, initialisers, regularisers and constraints of "
            f"the list in docs/how-to/own-network.md, got {found}, which could run code or is not supported; replace "
            "it by layers of the list"
        )


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
