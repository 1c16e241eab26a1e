# SPDX-License-Identifier: Apache-2.0
"""The live page in a real Chromium, read by roles and names as its user reads it."""

import contextlib
import math
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from msgspec.structs import replace
from playwright.async_api import Page, expect

from ollama_exporter.protocol.wire import parse_time
from ollama_exporter.residency.events import Loaded, Reason, Unloaded
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.browser import Chromium, Scheme, browsing, opened, violations
from tests.support.exporting import exporting, until
from tests.support.faultserver import entry, faultserver
from tests.support.fleets import fleet
from tests.support.page_server import serving
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.storytelling import MadeUp, listing, resident, unloaded
from tests.support.timelines import GivenTimeline

ODD: Final = (
    '<img src=x onerror="document.title=1">',
    "x" * 200 + ":latest",
    "hf.co/some-one/A.Very-Long_Name-GGUF:Q4_K_M",
    "模型:最新",
    "a\u202eb:latest",
    "${name}:$document",
    '`a`\' "b":latest',
)
SMALL: Final = Config(  # one model at a time, loaded at once
    host=Host(memory=7 * GIB, recovery=0.1, convergence=0.05),
    catalogue=default_catalogue().compressed(200.0),
)
LIVE: Final = re.compile("^Live$")
MINUTES: Final = re.compile(r"^\d:\d\d")  # how many is a matter of how busy the machine is
# Nothing on a page may be wider than it; only tables scroll in a frame of their own.
# Of what is pressed by a thumb, what is lower than 44 pixels.
TOO_SMALL: Final = (
    "[...document.querySelectorAll('button, fieldset label, summary')]"
    ".filter((each) => each.getBoundingClientRect().height < 44).map((each) => each.textContent)"
)
OVERFLOW: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browsing() as one:
        yield one


def crowded(models: int = 50, events: int = 1000) -> MadeUp:
    """Return a server with many models, odd names among them, after many events."""
    made = MadeUp()
    begun = made.timeline.now()
    names = [*ODD, *(f"model-{n}:latest" for n in range(models - len(ODD)))]
    states = [
        resident(name, begun - 60.0 * n, deadline=begun + 90.0 + n) for n, name in enumerate(names)
    ]
    made.published = listing(*states)
    made.history.on_change((), made.published, begun)
    for n in range(events):
        name, at = names[n % models], begun - 3000.0 + 2.9 * n
        by = names[(n + 1) % models]
        reason = Reason.EVICTED if n % 2 else Reason.EXPIRED
        gone = unloaded(name, since=at - 40.0, at=at, reason=reason, by=by if n % 2 else None)
        made.history.on_change((gone,), made.published, begun)
    return made


def text_of(page: Page, region: str) -> Any:
    return page.get_by_role("region", name=region, exact=True)


async def live(page: Page) -> None:
    await expect(page.locator("#link")).to_have_text(LIVE)


# -- with the real exporter ------------------------------------------------------------------------


def test_an_eviction_appears_with_its_reason_while_one_looks(chromium: Chromium) -> None:
    async def main() -> None:
        async with Simulator(SMALL) as sim:
            proxy = free_port()
            settings: dict[str, Any] = {"proxy_addresses": (f"127.0.0.1:{proxy}",)}
            async with (
                exporting(sim.url, **settings) as exporter,
                httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
                opened(chromium.browser, f"http://{exporter.address}/") as seen,
            ):
                ask = f"http://127.0.0.1:{proxy}/api/generate"
                await live(seen.page)
                await client.post(ask, json={"model": "mistral", "prompt": "hi [[n=1]]"})
                now = text_of(seen.page, "In memory now")
                await expect(now).to_contain_text("mistral:latest")
                await client.post(ask, json={"model": "qwen2.5:7b", "prompt": "hi [[n=1]]"})
                await until(lambda: any(isinstance(e, Unloaded) for e in exporter.events))
                last = text_of(seen.page, "Last unload, and why")
                await expect(last).to_contain_text("mistral:latest: evicted by qwen2.5:7b")
                event = text_of(seen.page, "What happened").get_by_text("mistral:latest unloaded")
                await event.click()
                facts = text_of(seen.page, "What happened").get_by_role("listitem")
                await expect(facts.filter(has_text="Its memory went to")).to_have_count(2)
                waits = text_of(seen.page, "What requests waited for")
                await expect(waits).to_contain_text("qwen2.5:7b")
                assert (seen.errors, seen.foreign(f"http://{exporter.address}")) == ([], [])

    chromium.run(main())


def test_the_countdown_is_the_servers_whatever_the_readers_clock_says(chromium: Chromium) -> None:
    async def main() -> None:
        async with (
            Simulator(SMALL) as sim,
            exporting(sim.url) as exporter,
            httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
        ):
            body = {"model": "mistral", "prompt": "hi [[n=1]]", "keep_alive": "50m"}
            await client.post(f"{sim.url}/api/generate", json=body)
            ahead = "const real = Date.now; Date.now = () => real() + 7200000;"
            url = f"http://{exporter.address}/"
            async with opened(chromium.browser, url, script=ahead) as seen:
                await live(seen.page)
                row = text_of(seen.page, "In memory now").get_by_role("row")
                until_cell = row.filter(has_text="mistral").locator(".until")
                await expect(until_cell).to_have_text(re.compile(r"^\d+:\d\d$"))
                listed = (await client.get(f"{sim.url}/api/ps")).json()["models"][0]
                deadline = parse_time(listed["expires_at"])
                end = time.time() + PATIENCE
                while True:
                    before = time.time()
                    minutes, seconds = (await until_cell.inner_text()).split(":")
                    after = time.time()
                    shown = 60 * int(minutes) + int(seconds)
                    # Rounded up, written four times a second, on a busy machine less often.
                    if deadline - after - 1.0 <= shown <= deadline - before + 2.0:
                        break
                    assert after < end, (shown, deadline - after)

    chromium.run(main())


# -- with a made-up server -------------------------------------------------------------------------


def test_a_page_that_is_cut_off_says_so_and_comes_back_by_itself(chromium: Chromium) -> None:
    async def main() -> None:
        port = free_port()
        first = MadeUp(published=listing(resident("before:latest", 1.0)))
        async with contextlib.AsyncExitStack() as stack:
            old = await stack.enter_async_context(contextlib.AsyncExitStack())
            await old.enter_async_context(serving(first, port=port))
            url = f"http://127.0.0.1:{port}/"
            seen = await stack.enter_async_context(opened(chromium.browser, url))
            await live(seen.page)
            await old.aclose()
            link = seen.page.get_by_role("status")
            await expect(link).to_contain_text("Disconnected since")
            assert "before:latest" in await seen.page.inner_text("main")
            second = MadeUp(published=listing(resident("after:latest", 1.0)))
            await stack.enter_async_context(serving(second, port=port))
            await live(seen.page)
            now = text_of(seen.page, "In memory now")
            await expect(now).to_contain_text("after:latest")
            assert "before:latest" not in await now.inner_text()

    chromium.run(main())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_crowd_with_odd_names_fits_and_nothing_goes_wrong(
    chromium: Chromium, scheme: Scheme
) -> None:
    async def main() -> None:
        async with serving(crowded()) as (http, _):
            origin = str(http.base_url).rstrip("/")
            async with opened(chromium.browser, f"{origin}/", scheme=scheme) as seen:
                page = seen.page
                await live(page)
                await page.get_by_role("button", name="Show all 1000").click()
                happened = text_of(page, "What happened")
                await expect(happened.locator("summary")).to_have_count(1000)
                for width in (1440, 768, 375):
                    await page.set_viewport_size({"width": width, "height": 900})
                    assert await page.evaluate(OVERFLOW) == 0, width
                assert await page.evaluate(TOO_SMALL) == []
                shown = await page.inner_text("main")
                assert ODD[0] in shown
                assert "a\\u202eb:latest" in shown
                assert await page.locator("main img").count() == 0
                assert (seen.errors, seen.foreign(origin)) == ([], [])
                await page.emulate_media(media="print")
                assert await page.evaluate(OVERFLOW) == 0
                assert await page.get_by_role("button").count() == 0

    chromium.run(main())


def test_a_model_that_is_loading_has_no_size_yet(chromium: Chromium) -> None:
    async def main() -> None:
        made = MadeUp(timeline=GivenTimeline(lambda: 1.8e9))
        now = made.timeline.now()
        loading = replace(resident("new:latest", now), resident=(), since=None, loading_since=now)
        made.published = listing(loading)
        async with (
            serving(made) as (http, _),
            opened(chromium.browser, str(http.base_url)) as seen,
        ):
            await live(seen.page)
            await expect(text_of(seen.page, "Next unload")).to_contain_text("new:latest is loading")
            table = text_of(seen.page, "In memory now")
            await expect(table).to_contain_text("Nothing is in memory.")
            assert " MB" not in await table.inner_text()

    chromium.run(main())


def test_a_model_at_work_is_in_use_and_a_pinned_one_stays_forever(chromium: Chromium) -> None:
    async def main() -> None:
        made = MadeUp()
        now = made.timeline.now()
        made.published = listing(
            resident("busy:latest", now, deadline=now - 7.0),
            resident("pinned:latest", now, deadline=math.inf, keep_alive=math.inf),
            resident("idle:latest", now, deadline=now + 590.0, keep_alive=600.0),
        )
        made.requests = {"busy:latest": 1}
        async with (
            serving(made) as (http, _),
            opened(chromium.browser, str(http.base_url)) as seen,
        ):
            await live(seen.page)
            table = text_of(seen.page, "In memory now")
            for name, shown, rank in (
                ("busy", "in use", "third"),
                ("pinned", "never", "second"),
                ("idle", MINUTES, "first"),
            ):
                row = table.get_by_role("row").filter(has_text=name)
                await expect(row.locator(".until")).to_contain_text(shown)
                await expect(row).to_contain_text(rank)
            leaves = text_of(seen.page, "Next unload")
            await expect(leaves).to_contain_text(re.compile(r"idle:latest in \d:\d\d"))

    chromium.run(main())


def test_a_screen_reader_hears_what_the_pictures_show(chromium: Chromium) -> None:
    async def main() -> None:
        made = MadeUp(timeline=GivenTimeline(lambda: 1.8e9))
        begun = made.timeline.now()
        made.published = listing(resident("b:latest", begun - 100.0, deadline=begun + 200.0))
        made.history.begin(begun - 1800.0)
        gone = unloaded("a:latest", since=begun - 900.0, at=begun - 300.0, reason=Reason.EVICTED)
        came = made.published.view.models[0].resident[0]
        loaded = Loaded(came, begun - 115.0, begun - 100.0, begun - 100.0)
        made.history.on_change((gone, loaded), made.published, begun)
        async with serving(made) as (http, _), opened(chromium.browser, str(http.base_url)) as seen:
            await live(seen.page)
            images = seen.page.get_by_role("img")
            labels = [await each.get_attribute("aria-label") or "" for each in await images.all()]
            assert [label.partition(":")[0] for label in labels[1:]] == ["b", "a"]
            assert labels[0].startswith("4.0 GB in memory, 100 % of it on the GPU.")
            assert re.search("appeared between .* and .*, in memory to now", labels[1])
            assert re.search("in memory from .* to .*, evicted", labels[2])
            for label in labels[1:]:
                assert "; not known to " in label
                assert label.endswith(": the exporter did not run")
            await expect(seen.page.locator("rect.unsure")).to_have_count(2)  # one in the legend
            headings = [
                await each.inner_text() for each in await seen.page.get_by_role("heading").all()
            ]
            assert "LAST UNLOAD, AND WHY" in [heading.upper() for heading in headings]
            moment = seen.page.get_by_role("time").first
            assert re.fullmatch(
                r"\d{4}-\d\d-\d\d [\d:]{8} UTC", await moment.get_attribute("title") or ""
            )

    chromium.run(main())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium: Chromium, scheme: Scheme) -> None:
    async def main() -> None:
        made = crowded(models=9, events=20)
        made.requests = {"model-1:latest": 1}
        async with serving(made) as (http, _):
            url = str(http.base_url)
            async with opened(chromium.browser, url, scheme=scheme, bypass_csp=True) as seen:
                await live(seen.page)
                await seen.page.locator("summary").first.click()
                assert await violations(seen.page) == []

    chromium.run(main())


def test_it_needs_no_mouse(chromium: Chromium) -> None:
    async def main() -> None:
        async with (
            serving(crowded(models=9, events=20)) as (http, _),
            opened(chromium.browser, str(http.base_url)) as seen,
        ):
            page = seen.page
            await live(page)
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent") == (
                "Skip to the models"
            )
            chosen = page.get_by_role("radio", name="1 h")
            await chosen.focus()
            await page.keyboard.press("ArrowRight")
            await expect(page.get_by_role("radio", name="6 h")).to_be_checked()
            await page.locator("summary").first.focus()
            await page.keyboard.press("Enter")
            await expect(page.locator("details[open]")).to_have_count(1)
            await expect(page.locator("details[open]")).to_contain_text("It was in memory since")
            # what changes elsewhere neither closes it nor takes the focus away
            await page.evaluate("window.dispatchEvent(new Event('resize'))")
            await expect(page.locator("details[open] summary")).to_be_focused()

    chromium.run(main())


def test_a_tab_in_the_background_costs_nothing(chromium: Chromium) -> None:
    async def main() -> None:
        hiding = (
            "let hidden = false; window.hide = (value) => { hidden = value;"
            " document.dispatchEvent(new Event('visibilitychange')); };"
            "Object.defineProperty(document, 'hidden', { get: () => hidden });"
        )
        async with (
            serving(MadeUp()) as (http, feed),
            opened(chromium.browser, str(http.base_url), script=hiding) as seen,
        ):
            await live(seen.page)
            assert feed.readers == 1
            await seen.page.evaluate("hide(true)")
            await until(lambda: feed.readers == 0)
            await seen.page.evaluate("hide(false)")
            await until(lambda: feed.readers == 1)
            await live(seen.page)

    chromium.run(main())


def test_one_of_several_servers_is_a_click_away(chromium: Chromium) -> None:
    async def main() -> None:
        async with (
            faultserver() as one,
            faultserver() as two,
            fleet({"the-one": one.url, "two": two.url}) as exporter,
        ):
            one.models = [entry("mine:latest", time.time() + 900.0)]
            await exporter.until("the-one", lambda s: ("ollama_up", "") in s)
            url = f"http://{exporter.address}/"
            async with opened(chromium.browser, url, width=375) as seen:
                assert await seen.page.evaluate(OVERFLOW) == 0
                await seen.page.get_by_role("link", name="the-one").click()
                await live(seen.page)
                await expect(text_of(seen.page, "In memory now")).to_contain_text("mine:latest")
                two.models = []
                one.models = [entry("other:latest", time.time() + 900.0)]
                await expect(text_of(seen.page, "In memory now")).to_contain_text("other:latest")
                assert seen.errors == []

    chromium.run(main())


def test_without_javascript_it_is_a_readable_table(chromium: Chromium) -> None:
    async def main() -> None:
        async with serving(crowded()) as (http, _):
            url = str(http.base_url)
            async with opened(chromium.browser, url, width=375, java_script_enabled=False) as seen:
                models = seen.page.get_by_role("region", name="Models", exact=True)
                await expect(models.get_by_role("row")).to_have_count(51)
                assert "evicted by" in await seen.page.inner_text("main")

    chromium.run(main())
