"""Workers on a Ray cluster: an actor holds each device, and in it runs a local pool of one.

So a worker is started, watched and killed by its own machine just as it is without Ray. Ray finds
the device, carries messages, and tells of machines that are gone. Where no machine has a device
free, the actor waits; that is what Ray's autoscaler goes by.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from virnuc_assets.errors import RunnerError, one_line
from virnuc_assets.runner.devices import CPU, default_devices, described, is_cpu
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.link import Link, Watch
from virnuc_assets.runner.logs import Logs
from virnuc_assets.runner.messages import Broke, Died, Hung, Lost, Placed, Report
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.pool import LocalPool

try:
    import ray
    from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
except ImportError as error:
    raise RunnerError(
        f"the launcher is ray, which cannot be loaded ({error}); install virnuc_assets[ray], or "
        "set VIRNUC_LAUNCHER=local"
    ) from error

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
# How long an actor keeps a question of what its worker says, and how often it looks meanwhile.
_ANSWER_SECONDS = 5.0
_GLANCE_SECONDS = 0.02
_ENDING_SECONDS = 10.0
_CONNECTING_SECONDS = 10.0
_WAITING_SECONDS = 30.0


def work_here(
    link: Link, slot: str, job: Job, worker: Callable[..., None], digests: Digests, logs: Logs
) -> None:
    """Run a worker on the device that Ray gave this process for `slot`; it logs by that name."""
    device = CPU if is_cpu(slot) else default_devices()[0]
    if logs.folder is not None:
        logs = replace(logs, folder=logs.folder / slot.replace("/", "-"))
    worker(link, device, job, digests, logs)


@contextmanager
def signals_heard() -> Iterator[None]:
    """Raise what a signal's handler raised as that.

    Where it comes just as a call of Ray's own code is about to return, Python calls it an error of
    that code's: SystemError, with the handler's exception as the cause.
    """
    try:
        yield
    except SystemError as error:
        raise (error.__cause__ or error) from None


@dataclass(frozen=True)
class Place:
    """A machine of the cluster: Ray's id for it, and its address."""

    node: str
    address: str


class Slot:
    """The actor: one worker, wherever Ray found a device for it.

    Ray asks again where an answer did not arrive; no call does anything twice.
    """

    def __init__(self, slot: str, job: Job, arguments: Sequence[Any]) -> None:
        """`arguments`: of `work_here`, from the worker on."""
        self._slot, self._job = slot, job
        self._pool = LocalPool(work_here, arguments, look_seconds=0.0)
        self._taken: set[int] = set()
        self._said: list[Report] = []
        self._ending = False

    @ray.method(max_task_retries=0)
    async def start(self) -> Place:
        """Start the worker; where it is."""
        self._pool.start(self._slot, self._job)
        return Place(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())

    async def take(self, number: int, block: Block) -> None:
        """Hand block `number` of those for this slot to the worker."""
        if number not in self._taken:
            self._taken.add(number)
            self._pool.send(self._slot, block)

    async def reports(self, seen: int) -> list[Report]:
        """What the worker said after the first `seen` things, as soon as there is something."""
        until = time.monotonic() + _ANSWER_SECONDS
        while len(self._said) <= seen and time.monotonic() < until and not self._ending:
            self._said += [report for _, report in self._pool.wait()]
            if len(self._said) <= seen:
                await asyncio.sleep(_GLANCE_SECONDS)
        return self._said[seen:]

    @ray.method(max_task_retries=0)
    async def end(self) -> None:
        """End the worker, and once it is gone this process, which gives the device back."""
        self._ending = True
        self._pool.retire(self._slot)
        await asyncio.sleep(2 * _GLANCE_SECONDS)  # in which what is asked is answered
        ray.actor.exit_actor()


@dataclass
class _Actor:
    handle: Any
    asked: Any
    """The call that is to be answered next."""
    watch: Watch
    place: Place | None = None
    """None: it waits for one."""
    answers: int = 0
    seen: int = 0
    sent: int = 0


@dataclass
class RayPool:
    """Workers of a Ray cluster, keyed by slot: the devices of a job on Ray."""

    address: str
    target: Callable[..., None]
    """The worker, run as `target(link, device, job, digests, logs)`."""
    arguments: Sequence[Any]
    """The last two of these."""
    _actors: dict[str, _Actor] = field(default_factory=dict)
    _ended: list[_Actor] = field(default_factory=list)
    _connection: ExitStack = field(default_factory=ExitStack)
    _warned_at: float = math.inf

    def start(self, device: str, job: Job) -> None:
        """Ask the cluster for the worker of `device`."""
        wanted: dict[str, float] = {"num_cpus": 1} if is_cpu(device) else {"num_gpus": 1}
        make = ray.remote(Slot).options(max_restarts=0, max_task_retries=-1, **wanted)
        handle: Any = make.remote(device, job, (self.target, *self.arguments))
        # An actor answers every few seconds; its worker's own silence it notices itself.
        watch = Watch(job.silence_seconds + _ANSWER_SECONDS, math.inf, ready=True)
        self._actors[device] = _Actor(handle, handle.start.remote(), watch)
        if math.isinf(self._warned_at):
            self._warned_at = time.monotonic() + _WAITING_SECONDS

    def send(self, device: str, block: Block) -> None:
        """Hand a block to a worker; that it was lost meanwhile is found by `wait`."""
        actor = self._actors.get(device)
        if actor is not None:
            actor.sent += 1
            actor.handle.take.remote(actor.sent, block)

    @signals_heard()
    def wait(self) -> list[tuple[str, Report]]:
        """What workers say, after a second at most; who died, hung or is lost has left the pool."""
        device_of = {actor.asked: device for device, actor in self._actors.items()}
        calls = list(device_of)
        ray.wait(calls, num_returns=1, timeout=_LOOK_SECONDS)
        answered, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        said = [
            (device_of[call], report)
            for call in answered
            for report in self._answer(device_of[call], self._actors[device_of[call]])
        ]
        now = time.monotonic()
        for device, actor in list(self._actors.items()):
            if actor.place is not None and (why := actor.watch.look(now, actor.answers, 0)):
                said.append((device, Lost(f"its actor on {actor.place.address} {why}")))
                ray.kill(self._actors.pop(device).handle)
        self._warn_of_waiting(now)
        return said

    def _answer(self, device: str, actor: _Actor) -> list[Report]:
        try:
            answer = ray.get(actor.asked)
        except RayError as error:
            del self._actors[device]
            ray.kill(actor.handle)
            return [_what_became_of(actor, error)]
        actor.answers += 1
        reports: list[Report] = []
        if actor.place is None:
            actor.place = answer
            reports = [Placed(answer.address)]
        else:
            reports = answer
            actor.seen += len(reports)
        if any(isinstance(report, Died | Hung) for report in reports):
            self.retire(device)
        else:
            actor.asked = actor.handle.reports.remote(actor.seen)
        return reports

    def _warn_of_waiting(self, now: float) -> None:
        if now < self._warned_at or len(self.unplaced()) < len(self._actors):
            return
        self._warned_at = now + 10 * _WAITING_SECONDS
        there = {name: n for name, n in ray.cluster_resources().items() if name in ("CPU", "GPU")}
        _log.warning(
            "no machine of the Ray cluster has a device free for %s (the cluster has %s); the run "
            "waits until one has",
            ", ".join(described(tuple(self._actors))),
            ", ".join(f"{n:.0f} {name}s" for name, n in there.items()) or "none",
        )

    def unplaced(self) -> list[str]:
        """Devices that were started and wait for a machine that has one."""
        return [device for device, actor in self._actors.items() if actor.place is None]

    def retire(self, device: str) -> None:
        """End the worker of `device`, if there is one, whatever state it is in."""
        actor = self._actors.pop(device, None)
        if actor is None:
            return
        if actor.place is None:
            ray.kill(actor.handle)
        else:
            # By its own hand: so the device is given back when the worker is gone, and not before.
            actor.asked = actor.handle.end.remote()
            self._ended.append(actor)

    def __enter__(self) -> RayPool:
        self._connection.enter_context(connected(self.address))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for device in list(self._actors):
            self.retire(device)
        ending = [actor.asked for actor in self._ended]
        if ending:
            ray.wait(ending, num_returns=len(ending), timeout=_ENDING_SECONDS)
        for actor in self._ended:
            ray.kill(actor.handle)
        self._connection.close()


def _what_became_of(actor: _Actor, error: RayError) -> Report:
    machine = "the machine found for it" if actor.place is None else actor.place.address
    if isinstance(error, ActorUnavailableError):
        return Lost(f"{machine} does not answer")
    if isinstance(error, ActorDiedError) and (
        error.preempted or "its node has died" in str(error) or not _is_up(actor.place)
    ):
        return Lost(f"{machine} is gone")
    return Broke(None, f"its Ray actor ended: {error}", explained=False)


def _is_up(place: Place | None) -> bool:
    return place is None or any(
        node["Alive"] and node["NodeID"] == place.node for node in ray.nodes()
    )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to the cluster at `address`; who is already stays so.

    Raises:
        RunnerError: there is no cluster, or none of the same versions.
    """
    if ray.is_initialized():
        yield
        return
    _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    try:
        reach(address)
        with _signals_kept():
            ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        remedy = "start one with `ray start --head`, or correct it"
        if "ersion mismatch" in str(error):
            remedy = "have the same versions of Ray and Python on all machines"
        raise RunnerError(
            f"VIRNUC_RAY_ADDRESS={address}: no Ray cluster can be used there "
            f"({one_line(error)}); {remedy}"
        ) from error


def reach(address: str) -> None:
    """Find out in seconds that nobody listens there; Ray itself tries for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _CONNECTING_SECONDS).close()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what signals do here: Ray has an end of its own for them."""
    mine = threading.current_thread() is threading.main_thread()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)} if mine else {}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            with suppress(TypeError):
                signal.signal(number, handler)
