"""A stand-in for the Hugging Face Hub: the part of its HTTP API that pushing and loading a ticket asks for."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

constants = pytest.importorskip("huggingface_hub.constants")
TOKEN = "hf_of_nobody"  # the only one that may write
GATED = "someone/gated"


class Request(NamedTuple):
    method: str
    path: str
    token: str | None


class Hub:
    """Its repositories, {OWNER/NAME: {commit: {path: content}}}, oldest commit first, and the requests it has got."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.requests: list[Request] = []
        self.uploads: dict[str, bytes] = {}
        self.url = ""

    def commit(self, name: str, changes: dict[str, bytes]) -> str:
        commits = self.repositories.setdefault(name, {})
        files = {**([*commits.values()] or [{}])[-1], **changes}
        oid = hashlib.sha1(repr((name, len(commits))).encode()).hexdigest()
        commits[oid] = files
        return oid

    def newest(self, name: str) -> dict[str, bytes]:
        return [*self.repositories[name].values()][-1]


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def serve(self) -> None:
        authorization = self.headers.get("Authorization")
        token = authorization.removeprefix("Bearer ") if authorization else None
        self.hub.requests.append(Request(self.command, self.path, token))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command in ("POST", "PUT") and token != TOKEN and not self.path.startswith("/uploads/"):
            return self.answer(401, {"error": "Invalid username or password."})
        for pattern, reply in ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {self.path}"):
                return reply(self, body, *found.groups())
        return self.answer(501, {"error": f"the stand-in has no {self.command} {self.path}"})

    do_GET = do_HEAD = do_POST = do_PUT = serve  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass

    # ---- what it does ----------------------------------------------------------------------------------------------

    def model(self, body: bytes, name: str) -> None:
        if name not in self.hub.repositories:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        return self.answer(200, {"id": name, "private": name in self.hub.private, "siblings": [], "tags": []})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        self.hub.repositories[name] = {}
        self.hub.private |= {name} if asked.get("private") or asked.get("visibility") == "private" else set()
        return self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def preupload(self, body: bytes, name: str) -> None:
        modes = {True: "lfs", False: "regular"}
        files = [{"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                 for f in json.loads(body)["files"]]  # fmt: skip
        self.answer(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [{**o, "actions": {"upload": {"href": f"{self.hub.url}/uploads/{o['oid']}"}}}
                   for o in json.loads(body)["objects"]]  # fmt: skip
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.uploads[oid] = body
        self.answer(200, {})

    def take(self, body: bytes, name: str) -> None:
        changes = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.hub.uploads[value["oid"]]
        oid = self.hub.commit(name, changes)
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if name == GATED:
            return self.refuse(403, "GatedRepo", f"Access to model {name} is restricted")
        commits = self.hub.repositories.get(name)
        if not commits:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        oid = [*commits][-1] if revision == "main" else revision
        if oid not in commits:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if path not in commits[oid]:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        content = commits[oid][path]
        return self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=oid)

    def valid(self, body: bytes) -> None:
        self.answer(200, {"errors": [], "warnings": []})


ROUTES: dict[str, Any] = {
    r"GET /api/models/([^/]+/[^/?]+)": Handler.model,
    r"POST /api/repos/create": Handler.create,
    r"POST /api/validate-yaml": Handler.valid,
    r"POST /api/models/([^/]+/[^/]+)/preupload/main": Handler.preupload,
    r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": Handler.batch,
    r"PUT /uploads/(\w+)": Handler.upload,
    r"POST /api/models/([^/]+/[^/]+)/commit/main": Handler.take,
    r"(?:HEAD|GET) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)": Handler.resolve,
}


@contextlib.contextmanager
def standing_in(cache: Path) -> Iterator[Hub]:
    """huggingface_hub talks to the stand-in alone, without a token, and keeps its files in `cache`."""
    stand_in = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": stand_in}))
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    values = {
        "ENDPOINT": stand_in.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": stand_in.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_OFFLINE": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        yield stand_in
    server.shutdown()
    server.server_close()
