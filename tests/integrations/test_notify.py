"""Alerts sent to a real server, real commands and real files; and what must never be printed."""

import base64
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.cli import main
from mmhealth.errors import NotifyError
from mmhealth.health import Alert, Monitor
from mmhealth.health.policy import parse_policy
from mmhealth.integrations.notify import Backoff, File, Notifier, load_targets
from mmhealth.integrations.notify.backoff import parse_retry_after
from mmhealth.integrations.notify.redact import Redactor, safe_url
from mmhealth.integrations.notify.targets import Options

QUICK = Backoff(first=0.01, longest=0.05)


@dataclass
class Webhook:
    """A server that answers as it is told, 200 when nothing is left to tell."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    open_door: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    told = Webhook()
    told.open_door.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert told.open_door.wait(60)
            told.times.append(time.monotonic())
            told.paths.append(self.path)
            told.headers.append(dict(self.headers))
            told.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, headers = told.answers.pop(0) if told.answers else (200, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield told
    told.open_door.set()
    server.shutdown()
    thread.join()
    server.server_close()


Load = Callable[..., Notifier]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """A notifier of the targets in a text; closed after the test."""
    made = []

    def build(text: str, **more: Any) -> Notifier:
        path = tmp_path / "notify.toml"
        path.write_text(f"version = 1\n{text}")
        made.append(Notifier(load_targets(path), run="r1", **({"backoff": QUICK} | more)))
        return made[-1]

    yield build
    for notifier in made:
        notifier.close(0)


def an_alert(step: int = 7, **changes: Any) -> Alert:
    told: dict[str, Any] = {
        "rule": "ess",
        "metric": "ess_signal",
        "severity": "critical",
        "state": "firing",
        "pending_step": 5,
        "step": step,
        "resolved_step": None,
        "attempt": 0,
        "value": 0.01,
        "worst": float("nan"),
        "threshold": 0.2,
        "rows": 64,
        "partial": False,
        "meaning": "Few <make> the update & all.",
        "failure_mode": "estimator collapse",
        "fix": "Do something.",
    }
    return Alert(**(told | changes))


def counted(notifier: Notifier) -> list[tuple[int, int, int]]:
    return [(c.delivered, c.failed, c.dropped) for c in notifier.counts()]


def test_a_webhook_that_fails_twice_gets_the_alert_once(webhook: Webhook, load: Load) -> None:
    webhook.answers = [(503, {}), (503, {})]
    notifier = load(f"[targets.w]\nkind = 'webhook'\nurl = '{webhook.url}/hook'\n")
    notifier.send(an_alert())
    notifier.close()
    assert counted(notifier) == [(1, 0, 0)]
    first, second, third = webhook.bodies
    assert first == second == third
    assert (first["version"], first["kind"], first["run"]) == (1, "alert", "r1")
    assert first["alert"] == an_alert().as_dict() | {"worst": None}
    assert first["text"].startswith("[mmhealth] r1: critical firing: ess: ess_signal = 0.01")
    assert webhook.headers[0]["Content-Type"] == "application/json"


def test_slack_gets_text_as_slack_wants_it(webhook: Webhook, load: Load) -> None:
    notifier = load(f"[targets.s]\nkind = 'slack'\nurl = '{webhook.url}'\n")
    notifier.send(an_alert())
    notifier.close()
    [body] = webhook.bodies
    assert set(body) == {"text"}
    assert body["text"].endswith("Few &lt;make&gt; the update &amp; all. Fix: Do something.")


@pytest.mark.parametrize("status", [429, 500])
def test_a_receiver_that_asks_to_wait_is_given_the_time(
    webhook: Webhook, load: Load, status: int
) -> None:
    webhook.answers = [(status, {"Retry-After": "3600"})]
    notifier = load(f"[targets.w]\nkind = 'webhook'\nurl = '{webhook.url}'\n")
    notifier.send(an_alert())
    notifier.close()
    assert counted(notifier) == [(0, 1, 0)], "an hour is more than give_up_after"
    assert len(webhook.bodies) == 1
    webhook.answers = [(status, {"Retry-After": "1"})]
    notifier = load(f"[targets.w]\nkind = 'webhook'\nurl = '{webhook.url}'\n")
    notifier.send(an_alert())
    notifier.close()
    assert counted(notifier) == [(1, 0, 0)]
    assert webhook.times[-1] - webhook.times[-2] >= 1.0


def test_retry_after_is_seconds_or_a_date() -> None:
    assert [parse_retry_after(text) for text in ("7", " 7 ", None, "soon", "-1")] == [7, 7, 0, 0, 0]
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    assert 0 < parse_retry_after(in_a_minute) <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_pauses_double_up_to_the_longest_and_vary() -> None:
    drawn = [
        [pause for pause, _ in zip(Backoff(1.0, 5.0).pauses(), range(5), strict=False)]
        for _ in range(50)
    ]
    for pauses in drawn:
        for pause, limit in zip(pauses, (1, 2, 4, 5, 5), strict=True):
            assert limit / 2 <= pause <= limit
    assert len({pauses[0] for pauses in drawn}) > 40


def test_what_a_receiver_refuses_is_not_sent_again_and_is_said_once(
    webhook: Webhook, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.answers = [(404, {}), (404, {})]
    notifier = load(f"[targets.w]\nkind = 'webhook'\nurl = '{webhook.url}/hook'\n")
    for step in (1, 2):
        notifier.send(an_alert(step))
    notifier.close()
    assert len(webhook.bodies) == 2
    assert counted(notifier) == [(0, 2, 0)]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"w (webhook {webhook.url}/hook): HTTP 404 Not Found" in record.getMessage()


def test_redirects_are_not_followed(webhook: Webhook, load: Load) -> None:
    webhook.answers = [(302, {"Location": f"{webhook.url}/elsewhere"})]
    notifier = load(f"[targets.w]\nkind = 'webhook'\nurl = '{webhook.url}/hook'\n")
    notifier.send(an_alert())
    notifier.close()
    assert webhook.paths == ["/hook"]
    assert "redirects are not followed" in notifier.counts()[0].last_error


def test_a_receiver_that_is_not_there_is_given_up(load: Load, unused_port: int) -> None:
    notifier = load(
        f"[targets.w]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{unused_port}'\n"
        "give_up_after = 0.2\n"
    )
    notifier.send(an_alert())
    notifier.close()
    assert counted(notifier) == [(0, 1, 0)]
    assert "refused" in notifier.counts()[0].last_error
    assert notifier.counts()[0].last_error.endswith("given up after 0.2 s")


def test_a_slow_target_keeps_nobody_waiting(webhook: Webhook, load: Load, tmp_path: Path) -> None:
    webhook.open_door.clear()
    notifier = load(
        f"[targets.w]\nkind = 'webhook'\nurl = '{webhook.url}'\ntimeout = 60\n"
        f"[targets.f]\nkind = 'file'\npath = '{tmp_path / 'told'}'\n",
        queue_size=10,
    )
    for step in range(30):
        notifier.send(an_alert(step))
    while sum(counted(notifier)[1]) < 30:
        time.sleep(0.01)
    notifier.close(0.2)
    (_, failed, dropped), quick = counted(notifier)
    assert dropped >= 19
    assert failed + dropped == 30
    assert "still not delivered at the end" in notifier.counts()[0].last_error
    assert quick[0] + quick[2] == 30
    assert quick[0] == len((tmp_path / "told").read_text().splitlines()) >= 10
    notifier.send(an_alert(99))
    assert counted(notifier)[0] == (0, failed, dropped + 1), "after the end nothing is taken"


def test_a_run_whose_path_is_not_utf8_loses_no_alert(tmp_path: Path) -> None:
    run = os.fsdecode(b"run-\xe9")
    with Notifier([File(Options("f"), tmp_path / "told")], run=run) as notifier:
        notifier.send(an_alert())
    assert counted(notifier) == [(1, 0, 0)]
    assert json.loads((tmp_path / "told").read_text(encoding="ascii"))["run"] == run


def test_each_change_of_state_is_told_once(load: Load, tmp_path: Path) -> None:
    rules = parse_policy("version = 1\n[rules.low]\nmetric = 'reward'\nbelow = 0.2\n", "test")
    run, told = tmp_path / "run", tmp_path / "told"
    notifier = load(f"[targets.f]\nkind = 'file'\npath = '{told}'\n")
    with Recorder(run) as rec:
        monitor = Monitor(rec, rules, on_alert=notifier.send)
        for step, reward in enumerate([0.0, 0.0, 1.0, None, 0.0]):
            rec.log_step(step, {"reward": [0.0, reward]})
            monitor.poll()
        rec.amend(0, 1, "reward", 1.0, arrived_step=5)
        rec.log_step(5, {"reward": [0.0, 0.0]})
        monitor.poll()
        again = Monitor(rec, rules, on_alert=notifier.send)
        again.poll()
    notifier.close()
    lines = [json.loads(line)["alert"] for line in told.read_text().splitlines()]
    assert [(line["state"], line["step"]) for line in lines] == [
        ("firing", 0),
        ("resolved", 0),
        ("firing", 3),
        ("superseded", 0),
        ("resolved", 1),
    ]


def test_severities_below_the_targets_are_not_told(load: Load, tmp_path: Path) -> None:
    notifier = load(
        f"[targets.all]\nkind = 'file'\nseverity = 'info'\npath = '{tmp_path / 'all'}'\n"
        f"[targets.grave]\nkind = 'file'\nseverity = 'critical'\npath = '{tmp_path / 'grave'}'\n"
    )
    for step, severity in enumerate(("info", "warning", "critical")):
        notifier.send(an_alert(step, severity=severity))
    notifier.close()
    assert counted(notifier) == [(3, 0, 0), (1, 0, 0)]


def test_a_command_gets_json_on_its_standard_input(load: Load, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    notifier = load(
        f"[targets.good]\nkind = 'command'\ncommand = ['sh', '-c', 'cat > \"$1\"', '-', '{copy}']\n"
        "[targets.bad]\nkind = 'command'\ncommand = ['sh', '-c', 'echo no line >&2; exit 3']\n"
        "[targets.none]\nkind = 'command'\ncommand = ['no-such-command']\n"
        "[targets.slow]\nkind = 'command'\ncommand = ['sh', '-c', 'sleep 600']\ntimeout = 0.1\n"
    )
    notifier.send(an_alert())
    notifier.close()
    assert json.loads(copy.read_text())["alert"]["rule"] == "ess"
    assert [c.last_error for c in notifier.counts()] == [
        "",
        "exit code 3: no line",
        "cannot be run: No such file or directory",
        "killed after 0.1 s",
    ]


def test_a_file_that_cannot_be_written_is_counted(load: Load, tmp_path: Path) -> None:
    notifier = load(f"[targets.f]\nkind = 'file'\npath = '{tmp_path}'\n")
    notifier.send(an_alert())
    notifier.close()
    assert counted(notifier) == [(0, 1, 0)]
    assert notifier.counts()[0].last_error == "cannot be written: Is a directory"


SECRETS = (
    "s3cretUser",
    "p4ss/word",
    "T0kenInThePath",
    "keyInTheQuery",
    "headerValue1",
    "fromEnv22",
)


def test_no_secret_is_ever_said(
    webhook: Webhook,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unused_port: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MMHEALTH_TEST_SECRET", "fromEnv22")
    path = "/hooks/T0kenInThePath?key=keyInTheQuery"
    tables = "".join(
        f"[targets.{name}]\nkind = 'webhook'\ngive_up_after = 0.1\n"
        f"url = 'http://s3cretUser:p4ss%2Fword@127.0.0.1:{port}{path}'\n"
        "headers = { X-Key = 'headerValue1', Authorization = 'Bearer ${MMHEALTH_TEST_SECRET}' }\n"
        for name, port in (("there", webhook.port), ("gone", unused_port))
    )
    echo = "echo ${MMHEALTH_TEST_SECRET} >&2; exit 1"
    tables += f"[targets.c]\nkind = 'command'\ncommand = ['sh', '-c', '{echo}']\n"
    notifier = load(tables)
    webhook.answers = [(400, {}), (200, {})]
    notifier.send(an_alert())
    notifier.close()
    assert counted(notifier) == [(0, 1, 0)] * 3
    assert webhook.headers[0]["Authorization"] == "Bearer fromEnv22"
    said = " ".join([caplog.text, *map(repr, notifier.counts())])
    assert f"http://***@127.0.0.1:{webhook.port}/hooks/***?***" in said
    lanes = [lane.target for lane in notifier._lanes]
    for secret in SECRETS:
        assert secret not in said
        assert secret not in repr(lanes)


def test_user_and_password_of_a_url_are_sent_as_basic_authentication(
    webhook: Webhook, load: Load
) -> None:
    url = f"http://s3cretUser:p4ss%2Fword@127.0.0.1:{webhook.port}/"
    notifier = load(f"[targets.w]\nkind = 'webhook'\nurl = '{url}'\n")
    notifier.send(an_alert())
    notifier.close()
    sent = webhook.headers[0]["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == b"s3cretUser:p4ss/word"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T02/B03/aX9", "https://hooks.slack.com/services/***/***/***"),
        ("https://h/api/v2/send-alert", "https://h/api/v2/send-alert"),
        ("http://u:p@[::1]:80/x?k=v#f", "http://***@[::1]:80/x?***"),
        ("http://h/" + "a" * 16, "http://h/***"),
        ("http://h:port/x", "***"),
    ],
)  # fmt: skip
def test_of_a_url_only_host_and_plain_words_are_shown(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    assert Redactor()(f"at <{url}>: no") == f"at <{shown}>: no"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = 1", r"no \[targets\.NAME\] table"),
        ("[targets.a]\nkind = 'file'\npath = 'p'", "version = 1 is needed"),
        ("version = 1\ntarget = 1", "unknown key 'target'; known: version, targets"),
        ("version = ", "not valid TOML"),
        ("version = 1\n[targets]\na = 1", r"\[targets\.a\] must be a table"),
        ("version = 1\n[targets.a]\nkind = 'mail'", r"\[targets\.a\]: kind must be one of webhook"),
        ("version = 1\n[targets.a]\nurl = 'http://h'", "kind is needed"),
        ("version = 1\n[targets.a]\nkind = 'file'\nurl = 'x'", "url is not known for a file"),
        ("version = 1\n[targets.a]\nkind = 'slack'\nurl = 'file:///etc/x'", "url must be an addr"),
        ("version = 1\n[targets.a]\nkind = 'slack'\nurl = 'https://h/a b'", "without spaces"),
        ("version = 1\n[targets.a]\nkind = 'command'\ncommand = 'ls'", "command must be a list"),
        ("version = 1\n[targets.a]\nkind = 'file'\npath = '${NOT_SET_4}'", "NOT_SET_4 is not set"),
        ("version = 1\n[targets.a]\nkind = 'file'\npath = 'p'\ntimeout = 0", "timeout must be a n"),
        ("version = 1\n[targets.a]\nkind = 'file'\npath = 'p'\nseverity = 1", "severity must be"),
        (
            "version = 1\n[targets.a]\nkind = 'webhook'\nurl = 'http://h'\nheaders = {A = 'x\\ny'}",
            "'A' is no valid header",
        ),
    ],
)
def test_mistakes_in_the_configuration_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(text.replace("'x\\ny'", '"x\\ny"'))
    with pytest.raises(NotifyError, match=says) as error:
        load_targets(path)
    assert str(error.value).startswith(str(path))


def test_the_command_says_which_targets_were_reached(
    webhook: Webhook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "notify.toml"
    good = f"version = 1\n[targets.good]\nkind = 'webhook'\nurl = '{webhook.url}'\n"
    config.write_text(good)
    with pytest.raises(SystemExit) as end:
        main(["notify", "test", str(config)])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"good (webhook {webhook.url}): arrived\n"
    assert webhook.bodies[0]["kind"] == "test"
    assert webhook.bodies[0]["alert"] is None
    bad = f"[targets.bad]\nkind = 'command'\ncommand = ['{sys.executable}', '-c', 'exit(4)']\n"
    config.write_text(good + bad)
    with pytest.raises(SystemExit) as end:
        main(["notify", "test", str(config)])
    assert end.value.code == 1
    assert capsys.readouterr().out.splitlines()[1].endswith("did not arrive: exit code 4")
    config.write_text("version = 2")
    with pytest.raises(SystemExit) as end:
        main(["notify", "test", str(config)])
    assert end.value.code == 2
