"""Networks as other libraries of attacks want them."""

from art.estimators.classification import TensorFlowV2Classifier

from buckler.models.backend import keras, tf


class Compiled:
    """A network as one compiled function for any number of pictures, its weights constants.

    The libraries run Keras layer by layer and, with each gradient, compute those of all weights.
    """

    def __init__(self, network):
        weights = [
            [variable.numpy() for variable in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables)
        ]
        self.input_shape, self.classes = network.input_shape[1:], network.output_shape[-1]
        self._run = tf.function(
            lambda pixels: network.stateless_call(*weights, pixels, training=False)[0],
            input_signature=[tf.TensorSpec((None, *self.input_shape), tf.float32)],
        )

    def __call__(self, pixels, training=False):
        return self._run(pixels)


def art_classifier(compiled):
    """Return a compiled network as the Adversarial Robustness Toolbox wants it."""
    return TensorFlowV2Classifier(
        model=compiled,
        nb_classes=compiled.classes,
        input_shape=compiled.input_shape,
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        clip_values=(0.0, 1.0),
    )
