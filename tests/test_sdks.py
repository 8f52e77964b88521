"""Software written for httpx runs on the client unchanged: SDKs, and what people test clients with."""

from typing import Any

import httpx
import httpx2
import pytest

import resilience_httpx.httpx2
from resilience import retry
from resilience_httpx import ResilientClient

MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "o"}]}


async def test_openai_runs_on_the_twin() -> None:
    openai = pytest.importorskip("openai")
    replies = iter([httpx2.Response(503), httpx2.Response(200, json=MODELS)])
    transport = httpx2.MockTransport(lambda request: next(replies))
    client = resilience_httpx.httpx2.ResilientClient(transport=transport, retry=retry(wait=0))
    options = {"api_key": "k", "base_url": "https://h/v1", "http_client": client, "max_retries": 0}
    async with openai.AsyncOpenAI(**options) as sdk:
        assert [model.id async for model in sdk.models.list()] == ["m"]


async def test_notion_runs_on_it() -> None:
    notion_client = pytest.importorskip("notion_client")
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503 if len(seen) == 1 else 200, json={"object": "list", "results": []})

    sdk_client: Any = ResilientClient(transport=httpx.MockTransport(answer), retry=retry(wait=0))
    sdk = notion_client.AsyncClient(client=sdk_client, auth="token")
    assert await sdk.users.list() == {"object": "list", "results": []}
    assert [request.headers["Authorization"] for request in seen] == ["Bearer token"] * 2


async def test_respx_mocks_it() -> None:
    respx = pytest.importorskip("respx")
    with respx.mock() as mock:
        mock.get("https://h/x").mock(side_effect=[httpx.Response(503), httpx.Response(200, text="ok")])
        async with ResilientClient(retry=retry(wait=0)) as calls:
            assert (await calls.get("https://h/x")).text == "ok"
        assert mock.calls.call_count == 2


async def test_pytest_httpx_mocks_it(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("pytest_httpx")
    mock = request.getfixturevalue("httpx_mock")
    mock.add_response(status_code=503)
    mock.add_response(text="ok")
    async with ResilientClient(retry=retry(wait=0)) as calls:
        assert (await calls.get("https://h/x")).text == "ok"
    assert len(mock.get_requests()) == 2
