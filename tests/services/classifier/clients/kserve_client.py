"""Asks a service as programs with KServe's SDK do; arguments and result as of ``triton_client``."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

MODEL = "skin-lesion"


def tensor(values: np.ndarray, kind: str, name: str = "images", *, binary: bool = True) -> InferInput:
    made = InferInput(name, list(values.shape), kind)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


async def main(url: str, picture: bytes, levels: np.ndarray) -> dict:
    """Return the answers to each request by name."""
    shares = levels / np.float32(255)
    text = base64.b64encode(picture).decode()
    listed = InferInput("files", [1], "BYTES", [text])
    files = np.array([picture], np.object_)
    requests = {
        "FP32": ([tensor(shares, "FP32")], {}),
        "FP32 in JSON": ([tensor(shares, "FP32", binary=False)], {}),
        "FP16": ([tensor(shares.astype(np.float16), "FP16")], {}),
        "UINT8 in JSON": ([tensor(levels, "UINT8", binary=False)], {}),
        "files": ([listed], {}),
        "files as bytes": ([tensor(files, "BYTES", "files")], {}),
        "outputs as bytes": ([listed], {"parameters": {"binary_data_output": True}}),
        "one output": ([listed], {"request_outputs": [RequestedOutput(each) for each in ("label", "probabilities")]}),
    }
    found = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, MODEL)
        for name, (inputs, more) in requests.items():
            request = InferRequest(MODEL, inputs, request_id=name, **more)
            response = await client.infer(url, request, model_name=MODEL, timeout=60)
            assert response.id == name
            outputs = {output.name: output for output in response.outputs}
            found[name] = {
                "outputs": list(outputs),
                "label": outputs["label"].data,
                "probabilities": outputs["probabilities"].as_numpy().tolist(),
            }
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), np.load(sys.argv[3])))))
