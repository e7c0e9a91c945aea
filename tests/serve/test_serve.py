"""rmpe serve: what the page shows, and what its server refuses. Each test talks to a real server on 127.0.0.1."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest
from onnx_estimators import write_estimator
from paths import TESTS

pytest.importorskip("starlette", reason="rmpe serve needs starlette and uvicorn, of the extra [serve]")
pytest.importorskip("uvicorn", reason="rmpe serve needs starlette and uvicorn, of the extra [serve]")

from rmpe_legacy.runs.commands import Options
from rmpe_legacy.serve.app import App
from rmpe_legacy.serve.server import HOST, listen, make_server
from rmpe_legacy.serve.service import Limits, Service, View, by_name, load_service
from rmpe_legacy.synthetic.world import draw_picture

WAIT = 300.0  # seconds; far more than anything here takes


class Client:
    """A server in a thread of this process, and requests to it."""

    def __init__(self, server, listener: socket.socket):
        self.server, self.port = server, listener.getsockname()[1]
        self.thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        self.thread.start()

    def ask(self, method: str, path: str, body=None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of an answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=WAIT)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def refused(self, body, query: str = "", path: str = "/poses.json", **headers: str) -> tuple[int, str]:
        status, _, text = self.ask("POST", f"{path}?{query}", body, **headers)
        return status, text

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(WAIT)
        assert not self.thread.is_alive()


@contextmanager
def running(service) -> Iterator[Client]:
    with listen(0) as listener:
        client = Client(make_server(service), listener)
        try:
            yield client
        finally:
            client.stop()


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "drawn.png"
    cv2.imwrite(str(path), draw_picture(7, 3).image[..., ::-1])
    return path


@pytest.fixture(scope="module")
def estimator(tmp_path_factory) -> Path:
    return write_estimator(tmp_path_factory.mktemp("onnx") / "net.onnx", 17)


@pytest.fixture(scope="module")
def service(estimator) -> Service:
    """The package's detector; its pose network, and one in ONNX."""
    both = load_service((), (), Options(Path(), threads=1), Limits(upload=1_000_000, pixels=200_000, seconds=WAIT))
    onnx = load_service((), ([estimator],), Options(Path(), threads=1), Limits())
    return Service(both.detectors, both.poses | onnx.poses, both.batch, both.limits)


@pytest.fixture(scope="module")
def client(service) -> Iterator[Client]:
    with running(service) as client:
        yield client


@pytest.fixture(scope="module")
def demo(photo, tmp_path_factory) -> Path:
    """What rmpe demo writes for the photo."""
    output = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "rmpe_legacy", "demo", str(photo), "--output", str(output), "--report",
               str(output / "report.html"), "--threads", "1", "-q"]  # as the service: the last bits depend on it
    subprocess.run(command, check=True)
    return output


class TestResult:
    def test_json_is_that_of_rmpe_demo(self, client, photo, demo):
        status, headers, text = client.ask("POST", "/poses.json?name=drawn.png", photo.read_bytes())
        assert (status, headers["content-type"]) == (200, "application/json")
        assert text == (demo / "poses.json").read_text()
        assert len(json.loads(text)["annotations"]) == 2

    def test_the_steps_are_those_of_the_report(self, client, photo, demo):
        status, _, text = client.ask("POST", "/view?name=drawn.png", photo.read_bytes())
        answer, report = json.loads(text), (demo / "report.html").read_text()
        assert status == 200
        assert "Persons after the NMS" in answer["section"]
        assert "After the STN" in answer["section"]
        assert answer["section"] in report
        assert answer["poses"] == (demo / "poses.json").read_text()
        assert answer["facts"]["Found"] == "2 detections in 1 image, merged into 2 persons"
        assert "trained on synthetic people" in answer["facts"]["Note"]

    def test_the_choices_are_used(self, client, photo):
        def info(**choice) -> dict:
            status, _, text = client.ask("POST", f"/poses.json?{urlencode(choice)}", photo.read_bytes())
            assert status == 200, text
            return json.loads(text)

        assert info()["info"]["published"] == "demo"
        assert info(published="torch7")["info"]["threshold"] == 0.09
        assert info(threshold="0.98")["annotations"] == []
        other = info(pose="net")
        assert other["info"]["published"] == "alphapose"
        assert len(other["categories"][0]["keypoints"]) == 17

    def test_the_page_offers_them(self, client):
        status, headers, text = client.ask("GET", "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert re.findall(r"<option[^>]*>(\w+)<", text) == ["demo_detector", "demo_pose", "net"]
        assert re.findall(r'data-published="(\w+)"', text) == ["demo", "alphapose"]
        assert re.findall(r'value="([\w-]+)" data-threshold', text) == ["demo", "demo-test", "torch7", "testres",
                                                                        "alphapose"]
        assert 'data-max-upload="1000000"' in text
        assert "trained on synthetic people" in text
        assert "<!-- " not in text
        for name in re.findall(r'(?:href|src)="([\w.]+)"', text):
            assert client.ask("GET", f"/{name}")[0] == 200

    def test_networks_of_one_name_are_numbered(self, service):
        (detector,) = service.detectors.values()
        assert list(by_name([detector, detector, detector])) == ["demo_detector", "demo_detector (2)",
                                                                  "demo_detector (3)"]

    def test_names_are_neither_paths_nor_tags(self, client, photo, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name, called in (("../../<b>x.png", "<b>x.png"), ("/etc/passwd", "passwd"), ("", "image"),
                             ("a\nb\x1b[31m", "a\\nb\\x1b[31m")):
            _, _, text = client.ask("POST", f"/view?{urlencode({'name': name})}", photo.read_bytes())
            answer = json.loads(text)
            assert json.loads(answer["poses"])["images"][0]["file_name"] == called
            assert "<b>" not in answer["section"]
        assert list(tmp_path.iterdir()) == []


class TestRefusals:
    def test_no_image(self, client):
        assert client.refused(b"hello", "name=a.png") == (
            400, "a.png: not a readable image; the file is truncated, damaged or of another kind")
        assert client.refused(b"") == (400, "image: the file is empty; an image is expected")

    def test_more_pixels_than_the_limit(self, client):
        data = cv2.imencode(".png", np.zeros((500, 500, 3), np.uint8))[1].tobytes()
        assert client.refused(data) == (413, "image: has 500 x 500 pixels, more than the 0.2 million that this page "
                                             "takes; scale it down, or use rmpe demo")
        assert client.refused((TESTS / "hostile" / "huge-and-plain.pbm").read_bytes())[0] == 413

    @pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
    def test_more_bytes_than_the_limit(self, client, chunked):
        body = (bytes(100_000) for _ in range(11)) if chunked else bytes(1_100_000)
        assert client.refused(body) == (413, "the image has more than 1 MB, the limit of this page; scale it down, or "
                                             "use rmpe demo")

    @pytest.mark.parametrize(("query", "sentence"), [
        ("detector=/etc/passwd", "there is no detector with this name; choose one of demo_detector"),
        ("pose=x", "there is no pose network with this name; choose one of demo_pose, net"),
        ("published=x", "published 'x' is not one of 'demo', 'demo-test', 'torch7', 'testres', 'alphapose'"),
        ("threshold=1", "threshold '1' is not a number of at least 0 and less than 1"),
        ("threshold=nan", "threshold 'nan' is not a number of at least 0 and less than 1"),
        ("threshold=x", "threshold 'x' is not a number of at least 0 and less than 1"),
    ])
    def test_what_is_not_offered(self, client, photo, query, sentence):
        assert client.refused(photo.read_bytes(), query) == (400, sentence)

    def test_a_published_program_for_other_joints(self, client, photo):
        status, text = client.refused(photo.read_bytes(), "pose=net&published=demo")
        assert status == 400
        assert "use --published alphapose" in text

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", " "])
    def test_another_host(self, client, photo, host):
        """The name of another site that was pointed at 127.0.0.1 (DNS rebinding)."""
        assert client.ask("GET", "/", Host=host)[0] == 400
        assert client.refused(photo.read_bytes(), Host=host)[0] == 400

    def test_this_host_by_its_other_name(self, client):
        assert client.ask("GET", "/", Host=f"localhost:{client.port}")[0] == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
    def test_pages_of_other_sites(self, client, photo, origin):
        assert client.refused(photo.read_bytes(), Origin=origin) == (
            403, "this request comes from a page of another site")

    def test_its_own_page(self, client, photo):
        origin = f"http://{HOST}:{client.port}"
        assert client.ask("POST", "/poses.json", photo.read_bytes(), Origin=origin)[0] == 200

    @pytest.mark.parametrize("path", ["/pyproject.toml", "/../pyproject.toml", "/%2e%2e/app.py", "/app.py",
                                      "//etc/passwd", "/etc/passwd", "/page.html", "/docs", "/openapi.json"])
    def test_files_of_this_computer(self, client, path):
        assert client.ask("GET", path)[0] == 404

    def test_other_methods(self, client):
        assert client.ask("GET", "/poses.json")[0] == 405
        assert client.ask("PUT", "/", b"x")[0] == 405

    @pytest.mark.parametrize("path", ["/", "/nothing", "/serve.js"])
    def test_every_answer_forbids_what_the_page_does_not_need(self, client, path):
        headers = client.ask("GET", path)[1]
        policy = headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


class SlowService:
    """A service that answers when it is allowed to."""

    def __init__(self, **limits):
        self.detectors, self.poses, self.note = {}, {}, ""
        self.limits = Limits(**limits)
        self.go = threading.Event()

    def find_people(self, data, name, choice) -> View:
        assert self.go.wait(WAIT)
        return View({}, "", b"{}")


class TestLoad:
    def test_too_many_requests(self):
        service = SlowService(requests=2, seconds=WAIT)
        with running(service) as client:
            answers: list[int] = []
            threads = [threading.Thread(target=lambda: answers.append(client.refused(b"x")[0])) for _ in range(2)]
            for thread in threads:
                thread.start()
            app = app_of(client)
            end = time.monotonic() + WAIT
            while app.under_way < 2 and time.monotonic() < end:
                time.sleep(0.01)
            assert client.refused(b"x") == (429, "2 images are being processed or waiting; try again when they are "
                                                 "done")
            service.go.set()
            for thread in threads:
                thread.join(WAIT)
            assert answers == [200, 200]
            assert client.refused(b"x") == (200, "{}")

    def test_a_result_that_takes_too_long(self):
        service = SlowService(seconds=0.2)
        with running(service) as client:
            status, text = client.refused(b"x", "name=a.png")
            assert (status, text[:41]) == (503, "a.png: no result within 0.2 s; choose a h")
            service.go.set()
            app_of(client).limits = Limits(seconds=WAIT)
            end = time.monotonic() + WAIT
            while (status := client.refused(b"x")[0]) != 200 and time.monotonic() < end:
                assert status == 503
            assert status == 200

    def test_an_upload_that_takes_too_long(self):
        with running(SlowService(seconds=0.2)) as client, socket.create_connection((HOST, client.port), WAIT) as raw:
            raw.sendall(f"POST /view HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n12345".encode())
            assert raw.recv(1000).startswith(b"HTTP/1.1 408 ")

    def test_an_upload_that_ends_early_leaves_no_trace(self, caplog):
        service = SlowService(requests=1, seconds=WAIT)
        service.go.set()
        with running(service) as client:
            with socket.create_connection((HOST, client.port), WAIT) as raw:
                raw.sendall(f"POST /view HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n12345".encode())
            end = time.monotonic() + WAIT
            while (status := client.refused(b"x")[0]) != 200 and time.monotonic() < end:
                assert status == 429
            assert status == 200
        assert caplog.text == ""


def app_of(client: Client) -> App:
    """The App behind a server."""
    (route,) = [route for route in client.server.config.app.routes if route.path == "/view"]
    return route.endpoint.__self__


class TestCommand:
    def test_runs_until_it_is_interrupted(self):
        command = [sys.executable, "-m", "rmpe_legacy", "serve", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}) as process:
            line = process.stdout.readline()
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+) is ready; press Ctrl-C to stop it\n", line)
            assert found, process.stderr.read()
            connection = http.client.HTTPConnection(HOST, int(found[1]), timeout=WAIT)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=WAIT)[1]
        assert (process.returncode, said) == (0, "rmpe: stopped\n")

    def test_listens_on_this_computer_alone(self):
        with listen(0) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"

    def test_a_port_that_is_taken(self, rmpe):
        with listen(0) as listener:
            port = listener.getsockname()[1]
            code, out, err = rmpe("serve", "--port", port)
        assert (code, out) == (1, "")
        assert err == (f"rmpe: port {port} cannot be used: Address already in use; give another one with --port, or 0 "
                       "for any that is free\n")

    @pytest.mark.parametrize("library", ["starlette", "uvicorn"])
    def test_a_missing_library_is_named(self, library, rmpe, monkeypatch):
        monkeypatch.setitem(sys.modules, library, None)
        code, out, err = rmpe("serve", "--port", "0")
        assert (code, out) == (1, "")
        assert err == f"rmpe: rmpe serve needs {library}; pip install 'rmpe-legacy[serve]'\n"

    def test_networks_are_read_before_it_serves(self, rmpe):
        code, out, err = rmpe("serve", "--port", "0", "--pose", "nothing.onnx")
        assert (code, out) == (1, "")
        assert err.startswith("rmpe: nothing.onnx: ")

    @pytest.mark.parametrize("port", ["-1", "65536", "x"])
    def test_ports_that_do_not_exist(self, rmpe, port):
        with pytest.raises(SystemExit) as stopped:
            rmpe("serve", f"--port={port}")
        assert stopped.value.code == 2
