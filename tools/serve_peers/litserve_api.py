"""LitServe over a copy or LiteRT: JSON lists on /predict; base64 in JSON with --base64."""

import base64
from typing import Any

import litserve
import numpy as np
from protocol import make_parser, make_work


class Api(litserve.LitAPI):  # type: ignore[misc]
    """One worker; requests are decoded and answers encoded in LitServe's own way."""

    def __init__(self, options: Any) -> None:
        super().__init__()
        self._options = options

    def setup(self, device: str) -> None:
        self._work = make_work(self._options.model)

    def decode_request(self, request):  # type: ignore[no-untyped-def] # it reads annotations
        if self._options.base64:
            return base64.b64decode(request["data"])
        return np.asarray(request["data"], self._options.input_type).tobytes()

    def predict(self, content: bytes) -> bytes:
        return self._work(memoryview(content))

    def encode_response(self, output: bytes) -> dict[str, Any]:
        if self._options.base64:
            return {"data": base64.b64encode(output).decode()}
        return {"data": np.frombuffer(output, self._options.output_type).tolist()}


def main() -> None:
    parser = make_parser()
    parser.add_argument("--base64", action="store_true")
    parser.add_argument("--input-type", default="uint8")
    parser.add_argument("--output-type", default="uint8")
    options = parser.parse_args()
    server = litserve.LitServer(Api(options), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":  # its workers import this file again
    main()
