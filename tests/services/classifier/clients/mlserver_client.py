"""Asks a service with MLServer's codecs and command; arguments and result as ``triton_client``."""

import json
import sys
import tempfile
from pathlib import Path
from urllib import request

import numpy as np
from mlserver.cli.main import root
from mlserver.codecs import Base64Codec, NumpyCodec, NumpyRequestCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

MODEL = "skin-lesion"


def posted(url: str, content: InferenceRequest) -> InferenceResponse:
    """Return the response to a request as MLServer writes it, with all its null members."""
    head = {"content-type": "application/json"}
    sent = request.Request(f"{url}/v2/models/{MODEL}/infer", content.model_dump_json().encode(), head)
    with request.urlopen(sent, timeout=60) as response:
        return InferenceResponse.model_validate_json(response.read())


def answers(response: InferenceResponse) -> dict:
    outputs = {output.name: output for output in response.outputs}
    return {
        "outputs": list(outputs),
        "label": StringCodec.decode_output(outputs["label"]),
        "decision": StringCodec.decode_output(outputs["decision"]),
        "probabilities": NumpyCodec.decode_output(outputs["probabilities"]).tolist(),
    }


def from_command(url: str, content: InferenceRequest, *options: str) -> dict:
    """Return the answer that ``mlserver infer`` writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        sent, received = Path(folder) / "requests.jsonl", Path(folder) / "responses.jsonl"
        sent.write_text(content.model_dump_json() + "\n")
        paths = ("--input-data-path", str(sent), "--output-data-path", str(received))
        address = ("--url", url.removeprefix("http://"), "--model-name", MODEL)
        root(["infer", *address, *paths, *options], standalone_mode=False)
        return answers(InferenceResponse.model_validate_json(received.read_text()))


def main(url: str, picture: bytes, levels: np.ndarray) -> dict:
    """Return the answers to each request by name."""
    shares = levels / np.float32(255)
    base64 = InferenceRequest(inputs=[Base64Codec.encode_input("files", [picture])])
    pixels = NumpyRequestCodec.encode_request(shares)
    pixels.inputs[0].name = "images"
    return {
        "numpy request": answers(posted(url, pixels)),
        "UINT8": answers(posted(url, InferenceRequest(inputs=[NumpyCodec.encode_input("images", levels)]))),
        "base64": answers(posted(url, base64)),
        "base64, not a list of lists": answers(
            posted(url, InferenceRequest(inputs=[Base64Codec.encode_input("files", [picture], use_bytes=False)]))
        ),
        "command": from_command(url, pixels),
        "command with bytes": from_command(url, pixels, "--binary-data"),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), np.load(sys.argv[3]))))
