"""Asks each backend how it is, on a schedule, and tells the Fleet: readiness, then load.

Load comes from where the backend's dialect says, the first that answers. A probe that fails is a failure of the
backend like one that a request met; a report that fails only leaves the last one to grow old.
"""

import asyncio
import contextlib
import logging

from bestserve.policy.price import PRICE_S

from .errors import BackendFailure
from .provider import Source
from .serving import Serving

log = logging.getLogger("bestserve")

SETTLE_S = 1.0


async def keep_asking(here: Serving) -> None:
    """Probe every backend of the present config, forever."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_pricing(here))
        group.create_task(_keep_settling(here))
        probes: dict[str, asyncio.Task[None]] = {}
        while True:
            for name in [name for name, task in probes.items() if task.done() or name not in here.upstreams]:
                probes.pop(name).cancel()
            for name in here.upstreams.keys() - probes.keys():
                probes[name] = group.create_task(_keep_probing(here, name))
            await asyncio.sleep(here.config.probe.interval_ms / 1000)


async def probe(here: Serving, name: str, upstream: Source) -> None:
    """Ask one backend once."""
    if not upstream.speaks.ready:  # nobody is asked
        here.fleet.ready(name, True, here.clock())
        return
    try:
        async with asyncio.timeout(here.config.probe.timeout_ms / 1000):
            status, _ = await upstream.get(upstream.speaks.ready)
    except (BackendFailure, TimeoutError):
        status = 0
    here.fleet.ready(name, status == 200, here.clock())
    if status == 200:
        with contextlib.suppress(BackendFailure, TimeoutError):
            async with asyncio.timeout(here.config.probe.timeout_ms / 1000):
                await _load(here, name, upstream)


async def _keep_probing(here: Serving, name: str) -> None:
    while name in here.upstreams:
        was, upstream = here.fleet.is_up(name, here.clock()), here.upstreams[name]
        await probe(here, name, upstream)
        is_up = name in here.upstreams and here.fleet.is_up(name, here.clock())
        if not is_up:  # when it comes back it remembers nothing
            here.prefixes.forget(name)
        if was != is_up:
            log.info("backend %s is %s", name, "up" if is_up else "down")
        await asyncio.sleep(max(here.config.probe.interval_ms / 1000, upstream.speaks.least_s))


async def _keep_pricing(here: Serving) -> None:
    while True:
        await asyncio.sleep(PRICE_S)
        here.reprice()


async def _keep_settling(here: Serving) -> None:
    while True:
        await asyncio.sleep(SETTLE_S)
        here.metrics.flush()


async def _load(here: Serving, name: str, upstream: Source) -> None:
    for path, read in upstream.speaks.reports:
        status, body = await upstream.get(path)
        if status != 200:
            continue
        try:
            here.fleet.observe(name, read(body), here.clock())
        except ValueError as error:
            log.debug("backend %s: %s: %s", name, path, error)
            continue
        return
