"""The pytest plugin, in projects of its own: with pytest-asyncio, with anyio, and with neither."""

import subprocess
import sys

import pytest

import resilience.testing
from resilience.testing._virtual_time import WRONG_LOOP

LOOP = "resilience.testing._virtual_loop.VirtualTimeLoop"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    return pytester


def outcomes(project: pytest.Pytester, *arguments: str) -> tuple[dict[str, int], str]:
    done = project.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:randomly", *arguments)
    return done.parseoutcomes(), done.stdout.str()


# --- virtual_time -----------------------------------------------------------------------------------------

ASYNC_TESTS = """
    import asyncio
    import pytest
    from resilience import retry, deadline
    from resilience import _clock
    {imports}

    {marker}
    async def test_time(virtual_time):
        assert virtual_time.now == 0
        await asyncio.sleep(3600)
        assert virtual_time.now == 3600 == asyncio.get_running_loop().time() == _clock.monotonic()
        virtual_time.advance(60)
        assert virtual_time.now == 3660
        seen = []
        task = asyncio.create_task(asyncio.sleep(1, seen))
        await virtual_time.settle()
        assert not task.done()
        await task
        assert virtual_time.now == 3661

    {marker}
    async def test_with_an_async_fixture(resource, virtual_time):
        loop, event = resource
        assert asyncio.get_running_loop() is loop
        async with asyncio.timeout(60):
            await event.wait()
        assert virtual_time.now == 30

    {marker}
    async def test_stuck(virtual_time):
        await asyncio.Event().wait()

    class TestInAClass:
        {marker}
        async def test_time(self, virtual_time):
            await asyncio.sleep(3600)
            assert virtual_time.now == 3600
"""

FIXTURE = """
    {decorator}
    async def resource():
        event = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(30, event.set)
        yield loop, event
        await asyncio.sleep(3600)
"""


def test_with_pytest_asyncio(project: pytest.Pytester) -> None:
    pytest.importorskip("pytest_asyncio", minversion="1.4")
    project.makeconftest("""
        from resilience.testing import VirtualTimeLoop

        def pytest_asyncio_loop_factories(config, item):
            return {"virtual": VirtualTimeLoop}
    """)
    project.makepyfile(
        ASYNC_TESTS.format(imports="import pytest_asyncio", marker="@pytest.mark.asyncio")
        + FIXTURE.format(decorator="@pytest_asyncio.fixture")
    )
    found, text = outcomes(project)
    assert found == {"passed": 3, "failed": 1}, text
    assert "StuckError: every task waits" in text
    assert "test_with_pytest_asyncio.py:31 in test_stuck: await asyncio.Event().wait()" in text


def test_with_pytest_asyncio_in_auto_mode_for_some_tests_only(project: pytest.Pytester) -> None:
    pytest.importorskip("pytest_asyncio", minversion="1.4")
    project.makeconftest("""
        import asyncio
        from resilience.testing import VirtualTimeLoop

        def pytest_asyncio_loop_factories(config, item):
            if "virtual_time" in item.fixturenames:
                return {"virtual": VirtualTimeLoop}
            return {"real": asyncio.new_event_loop}
    """)
    project.makepyfile("""
        import asyncio
        from resilience.testing import VirtualTimeLoop

        async def test_virtual(virtual_time):
            await asyncio.sleep(3600)
            assert isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

        async def test_real():
            assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    """)
    found, text = outcomes(project, "--asyncio-mode=auto")
    assert found == {"passed": 2}, text


def test_with_anyio(project: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    project.makeconftest("""
        import pytest
        from resilience.testing import VirtualTimeLoop

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": VirtualTimeLoop}
    """)
    project.makepyfile(
        ASYNC_TESTS.format(imports="import anyio", marker="@pytest.mark.anyio")
        + FIXTURE.format(decorator="@pytest.fixture")
    )
    found, text = outcomes(project)
    assert found == {"passed": 3, "failed": 1}, text
    assert "StuckError: every task waits" in text
    assert "test_with_anyio.py:31 in test_stuck: await asyncio.Event().wait()" in text


def test_anyio_itself_takes_no_time(project: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    project.makepyfile("""
        import anyio
        import pytest
        from resilience.testing import VirtualTimeLoop

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": VirtualTimeLoop}

        async def test_sleep(virtual_time, anyio_backend):
            with anyio.move_on_after(60):
                await anyio.sleep(3600)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 30)
                group.start_soon(anyio.to_thread.run_sync, lambda: None)
            assert virtual_time.now == 90
    """)
    found, text = outcomes(project)
    assert found == {"passed": 1}, text


def test_with_no_plugin_for_async_tests(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nfilterwarnings = error\n")
    project.makepyfile(
        ASYNC_TESTS.format(imports="", marker="")
        + """
    @pytest.fixture
    def resource():
        return None, None

    @pytest.mark.parametrize("seconds", [1, 2])
    async def test_parametrized(virtual_time, seconds):
        await asyncio.sleep(seconds)
        assert virtual_time.now == seconds

    async def test_left(virtual_time):
        global task
        task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
    """
    )
    found, text = outcomes(
        project, "-p", "no:asyncio", "-p", "no:anyio", "--deselect", "::test_with_an_async_fixture"
    )
    assert found == {"passed": 4, "failed": 3}, text
    assert "StuckError: every task waits" in text
    assert "tasks left running:" in text


def test_in_plain_tests_time_goes_on_from_run_to_run(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio
        import pytest
        from resilience import CircuitState, circuit_breaker

        async def fail():
            raise ConnectionError

        def test_runs(virtual_time):
            breaker = circuit_breaker(failure_threshold=1, recovery_timeout=30)
            assert virtual_time.now == 0
            with pytest.raises(ConnectionError):
                virtual_time.run(breaker.call(fail))
            assert breaker.state is CircuitState.OPEN
            virtual_time.advance(20)
            assert breaker.state is CircuitState.OPEN
            assert virtual_time.run(asyncio.sleep(10, "slept")) == "slept"
            assert breaker.state is CircuitState.HALF_OPEN
            assert virtual_time.now == 30

        def test_the_next_begins_anew(virtual_time):
            assert virtual_time.now == 0

        def test_the_clock_is_given_back():
            import time
            from resilience import _clock
            assert _clock.monotonic is time.monotonic
    """)
    found, text = outcomes(project)
    assert found == {"passed": 3}, text


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_a_test_that_runs_in_a_real_loop_is_told(project: pytest.Pytester, plugin: str) -> None:
    pytest.importorskip({"asyncio": "pytest_asyncio", "anyio": "anyio"}[plugin])
    project.makepyfile(f"""
        import asyncio
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.{plugin}
        async def test_not_used(virtual_time):
            pass

        @pytest.mark.{plugin}
        async def test_used(virtual_time):
            virtual_time.now

        @pytest.mark.{plugin}
        async def test_settled(virtual_time):
            await virtual_time.settle()

        @pytest.mark.{plugin}
        async def test_skipped(virtual_time):
            pytest.skip("for a reason of its own")
    """)
    found, text = outcomes(project)
    assert found == {"failed": 3, "skipped": 1}, text
    assert text.count("virtual_time needs the test to run in a virtual loop") >= 3, text
    assert 'return {"virtual": VirtualTimeLoop}' in text
    assert 'return "asyncio", {"loop_factory": VirtualTimeLoop}' in text


@pytest.mark.parametrize(("plugin", "title"), [("asyncio", "pytest-asyncio 1.4"), ("anyio", "anyio")])
def test_the_advice_for_the_wrong_loop_is_complete(
    plugin: str, title: str, project: pytest.Pytester
) -> None:
    if plugin == "asyncio":
        pytest.importorskip("pytest_asyncio", minversion="1.4")
    _, _, advice = WRONG_LOOP.partition(f"  for {title}")
    code = advice.partition("\n")[2].partition("  for ")[0]
    project.makeconftest(code)
    project.makepyfile(f"""
        import asyncio
        import pytest

        @pytest.mark.{plugin}
        async def test_virtual(virtual_time):
            await asyncio.sleep(3600)

        @pytest.mark.{plugin}
        async def test_virtual_too():
            await asyncio.sleep(3600)
    """)
    found, text = outcomes(project)
    assert found == {"passed": 2}, text


def test_a_fixture_of_that_name_of_somebody_else_is_left_alone(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio
        import pytest

        @pytest.fixture
        def virtual_time():
            return "theirs"

        @pytest.mark.asyncio
        async def test_theirs(virtual_time):
            assert virtual_time == "theirs"
    """)
    found, text = outcomes(project)
    assert found == {"passed": 1}, text


def test_a_test_may_run_again(project: pytest.Pytester) -> None:
    project.makeconftest("""
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for _ in range(3):
                for report in runtestprotocol(item, nextitem=nextitem, log=False):
                    item.ihook.pytest_runtest_logreport(report=report)
            return True
    """)
    project.makepyfile("""
        import asyncio

        async def test_again(virtual_time):
            await asyncio.sleep(10)
            assert virtual_time.now == 10
    """)
    found, text = outcomes(project)
    assert found == {"passed": 3}, text


# --- The other fixtures -----------------------------------------------------------------------------------


def test_no_waits_and_events(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio
        import pytest
        from resilience import retry

        @retry(attempts=3, on=OSError, wait=[30, 60])
        async def fetch():
            raise OSError("down")

        def test_both(no_waits, resilience_events):
            with pytest.raises(OSError):
                asyncio.run(fetch())
            assert no_waits.waits == [30, 60]
            assert no_waits.total == 90
            resilience_events.assert_exactly("retry.scheduled", "retry.scheduled", "retry.gave_up")
            first, second, last = resilience_events.events
            assert second.at - first.at > 29
            assert last.at - second.at > 59

        def test_they_begin_anew(no_waits, resilience_events):
            assert no_waits.waits == []
            resilience_events.assert_exactly()

        def test_without_them_all_is_as_ever():
            from resilience import _clock, _events
            assert _clock.sleep is asyncio.sleep
            assert not _events.listeners
    """)
    found, text = outcomes(project)
    assert found == {"passed": 3}, text


def test_the_fixtures_are_listed_with_what_they_do(project: pytest.Pytester) -> None:
    done = project.runpytest_inprocess("--fixtures")
    done.stdout.fnmatch_lines(["virtual_time -- *plugin.py:*", "no_waits -- *", "resilience_events -- *"])
    ours = done.stdout.str().partition("resilience.testing.plugin")[2].partition("defined from")[0]
    assert "no docstring available" not in ours


# --- Registered -------------------------------------------------------------------------------------------


def test_the_installed_package_registers_the_plugin_once(project: pytest.Pytester) -> None:
    project.makepyfile("""
        def test_registered(request, virtual_time, no_waits, resilience_events):
            manager = request.config.pluginmanager
            ours = [name for name, plugin in manager.list_name_plugin()
                    if getattr(plugin, "__name__", "").startswith("resilience")]
            assert ours == ["resilience"]
    """)
    done = project.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=1)
    assert "warning" not in done.stdout.str()
    project.makepyfile("def test_not_there(virtual_time): pass")
    project.runpytest_subprocess("-p", "no:resilience").assert_outcomes(errors=1)


def test_the_tools_do_not_need_pytest() -> None:
    code = (
        "import sys, resilience\n"
        "assert not [name for name in sys.modules if name.startswith('resilience.testing')]\n"
        "import resilience.testing\n"
        "assert not {'pytest', '_pytest', 'unittest', 'httpx', 'loguru'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_are_sorted_complete_and_documented() -> None:
    names = resilience.testing.__all__
    assert names == sorted(names)
    public = {
        name
        for name, value in vars(resilience.testing).items()
        if not name.startswith("_") and type(value).__name__ != "module"
    }
    assert public == set(names)
    assert all(getattr(resilience.testing, name).__doc__ for name in names)
