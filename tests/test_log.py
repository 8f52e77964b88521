"""`setup_logging`: silent until asked, one line per event, and nobody else's log is touched."""

import gc
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import loguru
import pytest
from loguru import logger

from resilience import CacheEntry, _events, _log, cached, retry, setup_logging
from tests.support.virtual_time import advance

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _silent_again() -> Iterator[None]:
    yield
    if _log._unsubscribe is not None:
        _log._unsubscribe()
    if _log._sink is not None:
        _log._remove(_log._sink)
    _log._sink = _log._unsubscribe = None


class Lines:
    """What was written to the standard error stream since the last look."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def read(self) -> list[str]:
        out, err = self._capsys.readouterr()
        assert out == ""
        return err.splitlines()

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read()]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return Lines(capsys)


@pytest.fixture
def fresh_loguru(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A logger as a fresh process has it: with one sink, number 0."""
    fresh: Any = type(logger)(type(logger._core)(), *logger._options)
    fresh.add(lambda message: sys.stderr.write(f"sink 0 {message}"), format="{message}")
    monkeypatch.setattr(loguru, "logger", fresh)
    return fresh


def run_python(code: str, **environment: str) -> tuple[str, str]:
    """Run a program in a fresh process, where loguru still has its default sink."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(ROOT), **environment},
    )
    return done.stdout, done.stderr


# --- Silent until asked ---


def test_nothing_is_written_and_loguru_is_not_loaded_before_setup_logging() -> None:
    out, err = run_python(
        "import asyncio, sys\n"
        "from resilience import retry\n"
        "@retry(attempts=2, wait=0)\n"
        "async def fail(): raise KeyError\n"
        "try: asyncio.run(fail())\n"
        "except KeyError: pass\n"
        "print('loguru' in sys.modules)\n"
    )
    assert (out, err) == ("False\n", "")


async def test_each_event_is_one_readable_line(lines: Lines) -> None:
    setup_logging()

    @retry(attempts=2, wait=0.25)
    async def fetch() -> None:
        raise KeyError("secret text")

    with pytest.raises(KeyError):
        await fetch()
    first, last = lines.read()
    stamp = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| "
    assert re.match(stamp + r"WARNING  \| retry\.scheduled test_each.*fetch attempt=1 delay=0\.25", first)
    assert re.match(stamp + r"ERROR    \| retry\.gave_up test_each.*fetch reason=exhausted", last)
    assert "secret" not in first + last


def test_values_are_shown_plainly(lines: Lines) -> None:
    setup_logging()
    _events.emit("circuit_breaker.closed", "api {x} <red>", rate=1 / 3, size=10**20, none=None, ok=True)
    assert lines.read()[0].endswith(
        "circuit_breaker.closed api {x} <red> rate=0.333333 size=100000000000000000000 none=None ok=True"
    )


def test_a_name_cannot_forge_a_line(lines: Lines) -> None:
    setup_logging()
    _events.emit("retry.scheduled", "a\nERROR b", reason="x\r\ny\x1b[31m")
    (line,) = lines.read()
    assert line.endswith(r"retry.scheduled 'a\nERROR b' reason='x\r\ny\x1b[31m'")


# --- JSON ---


def test_json_is_one_flat_object_on_each_line(lines: Lines) -> None:
    setup_logging(json=True)
    _events.emit("retry.scheduled", 'a\n"ü', attempt=1, delay=0.4, error="KeyError", until=None)
    (line,) = lines.objects()
    moment = datetime.fromisoformat(line.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert list(line.items()) == [
        ("level", "WARNING"),
        ("event", "retry.scheduled"),
        ("policy", "retry"),
        ("name", 'a\n"ü'),
        ("attempt", 1),
        ("delay", 0.4),
        ("error", "KeyError"),
        ("until", None),
    ]


def test_json_stays_json_whatever_an_event_carries(lines: Lines) -> None:
    setup_logging(json=True)
    attributes = {
        "level": "forged",
        "time": 0,
        "event": "forged",
        "nan": float("nan"),
        "infinite": float("inf"),
        "error": ValueError("secret"),
        "kind": ValueError,
        "data": {"password": "secret"},
        "items": ["secret"],
    }
    _events.emit("retry.scheduled", "api", **attributes)
    (line,) = lines.objects()
    assert (line["level"], line["event"], line["name"]) == ("WARNING", "retry.scheduled", "api")
    assert (line["nan"], line["infinite"]) == ("nan", "inf")
    assert (line["error"], line["kind"], line["data"], line["items"]) == (
        "ValueError",
        "ValueError",
        "dict",
        "list",
    )
    assert line["time"].endswith("+00:00")


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set here")
def test_json_has_the_time_in_utc_wherever_it_is_written(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_logging(json=True)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        _events.emit("retry.scheduled", "api")
    time.tzset()
    (line,) = lines.objects()
    assert line["time"].endswith("+00:00")


# --- Levels ---

LEVELS = {
    "DEBUG": [
        "rate_limit.waited", "circuit_breaker.late", "cache.hit", "cache.miss", "cache.stale",
        "cache.coalesced", "cache.evicted", "bulkhead.queued", "hedge.started", "hedge.won",
        "call.succeeded", "call.failed", "call.abandoned",
    ],
    "INFO": ["retry.succeeded", "circuit_breaker.half_opened", "circuit_breaker.closed", "something.new"],
    "WARNING": [
        "retry.scheduled", "rate_limit.rejected", "circuit_breaker.rejected", "bulkhead.rejected",
        "fallback.used", "timeout.expired", "cache.refresh_failed", "cache.store_failed",
        "metrics.overflowed", "adaptive_throttle.rejected",
    ],
    "ERROR": ["circuit_breaker.opened", "retry.gave_up"],
}  # fmt: skip


@pytest.mark.parametrize(("level", "kind"), [(level, kind) for level in LEVELS for kind in LEVELS[level]])
def test_the_level_of_each_event(lines: Lines, level: str, kind: str) -> None:
    setup_logging("DEBUG", json=True)
    _events.emit(kind, "api")
    assert [(line["event"], line["level"]) for line in lines.objects()] == [(kind, level)]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("TRACE", 4),
        ("DEBUG", 4),
        ("INFO", 3),
        ("WARNING", 2),
        ("ERROR", 1),
        ("CRITICAL", 0),
        (0, 4),
        (20, 3),
        (21, 2),
        (50, 0),
    ],
)
def test_only_the_level_asked_for_and_above_is_written(lines: Lines, level: Any, expected: int) -> None:
    setup_logging(level)
    for kinds in LEVELS.values():
        _events.emit(kinds[0], "api")
    assert len(lines.read()) == expected


@pytest.mark.parametrize(
    ("level", "error"),
    [
        ("LOUD", ValueError),
        ("", ValueError),
        (-1, ValueError),
        (True, TypeError),
        (None, TypeError),
        (1.5, TypeError),
    ],
)
def test_a_wrong_level_is_named_and_changes_nothing(
    lines: Lines, level: Any, error: type[Exception]
) -> None:
    setup_logging()
    match = re.escape(
        f"level must be a level of loguru, by name or as a number of 0 or more, got {level!r}"
    )
    with pytest.raises(error, match=match):
        setup_logging(level)
    with pytest.raises(TypeError, match="json must be True or False, got 1"):
        setup_logging(json=1)  # type: ignore[arg-type]
    _events.emit("retry.scheduled", "api")
    assert len(lines.read()) == 1


# --- Again, and beside others ---


def test_calling_it_again_replaces_and_never_doubles(lines: Lines) -> None:
    setup_logging("DEBUG")
    setup_logging("DEBUG")
    setup_logging("WARNING", json=True)
    before = len(_events.listeners)
    setup_logging("WARNING", json=True)
    assert len(_events.listeners) == before
    _events.emit("retry.scheduled", "api")
    _events.emit("cache.hit", "api")
    assert [line["event"] for line in lines.objects()] == ["retry.scheduled"]


def test_the_standard_error_stream_of_the_moment_is_used(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_logging()
    other = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", other)
        _events.emit("retry.scheduled", "one")
        patch.setattr(sys, "stderr", None)
        _events.emit("retry.scheduled", "two")
        assert not _log._StandardError().isatty()
    _events.emit("retry.scheduled", "three")
    assert "one" in other.getvalue()
    assert ["three" in line for line in lines.read()] == [True]


def test_what_is_written_is_there_at_once(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    setup_logging()
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", io.TextIOWrapper(written))
        _events.emit("retry.scheduled", "api")
        assert b"retry.scheduled" in written.getvalue()


def test_the_applications_own_sinks_stay_and_get_the_events_too(lines: Lines) -> None:
    seen: list[Any] = []
    own = logger.add(lambda message: seen.append(message.record), level="DEBUG", format="{message}")
    try:
        setup_logging()
        setup_logging()
        _events.emit("retry.scheduled", "api", attempt=1)
        logger.info("of the application")
    finally:
        logger.remove(own)
    assert [record["message"] for record in seen] == ["retry.scheduled api attempt=1", "of the application"]
    assert seen[0]["extra"]["resilience"] == {
        "event": "retry.scheduled",
        "policy": "retry",
        "name": "api",
        "attempt": 1,
    }
    assert sum("retry.scheduled" in line for line in lines.read()) == 1


def test_the_application_may_remove_all_sinks(lines: Lines) -> None:
    out, err = run_python(
        "from loguru import logger\n"
        "from resilience import setup_logging, _events\n"
        "setup_logging()\n"
        "logger.remove()\n"
        "_events.emit('retry.scheduled', 'one')\n"
        "setup_logging()\n"
        "_events.emit('retry.scheduled', 'two')\n"
        "logger.info('not written, as its sink was removed')\n"
    )
    assert out == ""
    assert [line.split(" | ")[-1] for line in err.splitlines()] == ["retry.scheduled two"]


def test_the_default_sink_is_replaced_and_the_records_of_others_stay_as_they_were() -> None:
    code = (
        "import sys\n"
        "from loguru import logger\n"
        "from resilience import setup_logging, _events\n"
        "if 'setup' in sys.argv: setup_logging('ERROR', json=True)\n"
        "logger.debug('a debug line')\n"
        "logger.bind(resilience=3).info('another')\n"
        "_events.emit('retry.scheduled', 'x')\n"
        "setup_logging(json='again' in sys.argv) if 'again' in sys.argv else None\n"
        "logger.warning('last')\n"
    )
    plain = run_python(code)[1]
    for extra in ("'setup'", "'setup', 'again'"):
        with_log = run_python(f"import sys; sys.argv += [{extra}]\n" + code)[1]
        strip = [line.split(" | ", 1)[1].replace(":6", ":5") for line in with_log.splitlines()]
        assert [re.sub(r":\d+ -", " -", line) for line in strip] == [
            re.sub(r":\d+ -", " -", line.split(" | ", 1)[1]) for line in plain.splitlines()
        ]
    assert len(plain.splitlines()) == 3


def test_without_a_default_sink_of_loguru_sink_0_is_the_applications() -> None:
    _, err = run_python(
        "import sys\n"
        "from loguru import logger\n"
        "logger.add(sys.stderr, format='own {message}')\n"
        "from resilience import setup_logging, _events\n"
        "setup_logging()\n"
        "logger.info('hello')\n"
        "_events.emit('retry.scheduled', 'x')\n",
        LOGURU_AUTOINIT="0",
    )
    lines = err.splitlines()
    assert lines[0] == "own hello"
    assert sorted(line.split(" | ")[-1] for line in lines[1:]) == [
        "own retry.scheduled x",
        "retry.scheduled x",
    ]


@pytest.mark.parametrize("told", [None, "1", "yes"])
def test_sink_0_that_loguru_made_is_replaced(
    lines: Lines, fresh_loguru: Any, monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    monkeypatch.delenv("LOGURU_AUTOINIT", raising=False)
    if told is not None:
        monkeypatch.setenv("LOGURU_AUTOINIT", told)
    setup_logging()
    fresh_loguru.info("of others")
    _events.emit("retry.scheduled", "api")
    others, ours = lines.read()
    assert re.match(r"....-..-.. ..:..:..\.... \| INFO     \| .* - of others$", others)
    assert ours.endswith("| retry.scheduled api")


@pytest.mark.parametrize("told", ["0", "false", "no", "n", "nok", "off", "False", "OFF"])
def test_sink_0_of_the_application_stays_where_loguru_was_told_to_make_none(
    lines: Lines, fresh_loguru: Any, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv("LOGURU_AUTOINIT", told)
    setup_logging()
    fresh_loguru.info("of others")
    _events.emit("retry.scheduled", "api")
    others, *ours = lines.read()
    assert others == "sink 0 of others"
    assert sorted(line.split(" | ")[-1] for line in ours) == [
        "retry.scheduled api",
        "sink 0 retry.scheduled api",
    ]


def test_the_level_counts_for_what_else_the_library_has_to_say(lines: Lines, fresh_loguru: Any) -> None:
    def broken(event: _events.Event) -> None:
        raise ValueError

    for level, expected in (("ERROR", 1), ("CRITICAL", 0)):
        setup_logging(level)
        stop = _events.subscribe(broken)
        _events.emit("cache.hit", "api")
        stop()
        assert len(lines.read()) == expected


def test_when_the_application_removed_the_default_sink_nothing_of_others_is_written() -> None:
    _, err = run_python(
        "from loguru import logger\n"
        "logger.remove()\n"
        "from resilience import setup_logging, _events\n"
        "setup_logging()\n"
        "logger.error('not written')\n"
        "_events.emit('retry.scheduled', 'x')\n"
    )
    assert [line.split(" | ")[-1] for line in err.splitlines()] == ["retry.scheduled x"]


# --- Storms ---


@pytest.mark.parametrize("kind", sorted(_log._STORMY))
async def test_b19_rejections_of_one_name_are_written_once_a_second(lines: Lines, kind: str) -> None:
    setup_logging(json=True)
    for _ in range(1000):
        _events.emit(kind, "api")
    _events.emit(kind, "other")
    assert [(line["name"], line.get("left_out")) for line in lines.objects()] == [
        ("api", None),
        ("other", None),
    ]
    advance(0.999)
    _events.emit(kind, "api")
    assert lines.read() == []
    advance(0.001)
    _events.emit(kind, "api")
    _events.emit(kind, "api")
    _events.emit(kind, "other")
    assert [(line["name"], line.get("left_out")) for line in lines.objects()] == [
        ("api", 1000),
        ("other", None),
    ]
    advance(50)
    _events.emit(kind, "api")
    assert [line["left_out"] for line in lines.objects()] == [1]


async def test_t72_other_events_are_all_written_and_storms_are_told_apart(lines: Lines) -> None:
    setup_logging()
    for _ in range(5):
        _events.emit("retry.scheduled", "api")
        _events.emit("rate_limit.rejected", "api")
        _events.emit("circuit_breaker.rejected", "api")
    assert len(lines.read()) == 7


async def test_b19_a_store_that_is_down_floods_no_log(lines: Lines) -> None:
    class Down:
        async def get(self, key: str) -> CacheEntry | None:
            raise ConnectionError("secret")

        async def set(self, key: str, entry: CacheEntry) -> None:
            raise ConnectionError("secret")

        delete = clear = get

    @cached(store=Down())  # type: ignore[arg-type]
    async def load(key: int) -> int:
        return key

    setup_logging(json=True)
    assert [await load(key) for key in range(100)] == list(range(100))
    (line,) = lines.objects()
    assert (line["level"], line["event"], line["error"]) == (
        "WARNING",
        "cache.store_failed",
        "ConnectionError",
    )


async def test_b19_names_that_never_end_need_no_memory(lines: Lines) -> None:
    setup_logging("ERROR")
    log = _log._Log(30)
    for number in range(3 * _log._MOST_NAMES):
        _events.emit("rate_limit.rejected", f"name {number}")
        log(_events.Event("rate_limit.rejected", "rate_limit", f"name {number}", 0.0, {}))
    assert len(log._storms._written) == _log._MOST_NAMES


async def test_b19_of_too_many_names_those_written_longest_ago_are_forgotten(lines: Lines) -> None:
    setup_logging()
    for number in range(_log._MOST_NAMES + 1):
        _events.emit("rate_limit.rejected", str(number))
    lines.read()
    for number in (_log._MOST_NAMES, 1, 0):
        _events.emit("rate_limit.rejected", str(number))
    assert [line.split()[-1] for line in lines.read()] == ["0"]


def test_a_clock_that_starts_again_does_not_silence_the_log(lines: Lines) -> None:
    setup_logging()
    log = _log._Log(0)
    for at in (1e6, 5.0, 5.5):
        log(_events.Event("rate_limit.rejected", "rate_limit", "api", at, {}))
    assert len(lines.read()) == 2


@pytest.mark.real_time
def test_threads_write_whole_lines_once(lines: Lines) -> None:
    setup_logging(json=True)

    def work(name: str) -> None:
        for _ in range(200):
            _events.emit("retry.scheduled", name)
            _events.emit("rate_limit.rejected", "all")

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    written = [line["event"] for line in lines.objects()]
    assert written.count("retry.scheduled") == 800
    assert written.count("rate_limit.rejected") <= 60


def test_an_event_during_a_garbage_collection_does_not_hang(lines: Lines) -> None:
    setup_logging()
    log = _log._Log(0)
    event = _events.Event("rate_limit.rejected", "rate_limit", "api", 0.0, {})

    class Sends:
        def __del__(self) -> None:
            log(event)

    with log._storms._lock:
        cycle: list[Any] = [Sends()]
        cycle.append(cycle)
        del cycle
        gc.collect()
    assert len(lines.read()) == 1
