"""A stand-in for the metadata server: where functions in Google Cloud have their credentials from."""

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = "project-of-the-metadata"
UNIVERSE = "universe.test"
"""Not Google's own, where google-auth would ask iamcredentials.googleapis.com for the account's regions."""
EMAIL = "ingest@project.iam.gserviceaccount.com"

_SERVICE_ACCOUNT = "/computeMetadata/v1/instance/service-accounts"


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """Serve it while the context lasts; gives the environment of who shall find it.

    Tokens are `token-1`, `token-2`, and so on.
    """
    tokens = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/")
            if path in {f"{_SERVICE_ACCOUNT}/default/token", f"{_SERVICE_ACCOUNT}/{EMAIL}/token"}:
                token = {"access_token": f"token-{next(tokens)}", "expires_in": 3600, "token_type": "Bearer"}
                self.answer("application/json", json.dumps(token))
            elif path.startswith(_SERVICE_ACCOUNT):
                account = {"email": EMAIL, "aliases": ["default"], "scopes": ["cloud-platform"]}
                self.answer("application/json", json.dumps(account))
            elif path == "/computeMetadata/v1/project/project-id":
                self.answer("text/plain", PROJECT)
            elif path == "/computeMetadata/v1/universe/universe-domain":
                self.answer("text/plain", UNIVERSE)
            elif not path:
                self.answer("text/plain", "computeMetadata/")
            else:
                self.send_error(404)

        def answer(self, content_type: str, text: str) -> None:
            self.send_response(200)
            self.send_header("metadata-flavor", "Google")
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"127.0.0.1:{server.server_port}"
    try:
        yield {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address, "GCE_METADATA_DETECT_RETRIES": "1"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
