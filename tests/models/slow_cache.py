"""A cache as one would explain it: lists of everything, searched from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Kept:
    """A value, or the number of an error, and the time that it has."""

    key: int
    value: int
    stored_at: float
    expires_at: float
    took: float = 0

    def is_of_use(self, now: float, window: float = 0) -> bool:
        return self.stored_at <= now < self.expires_at + window


@dataclass
class InStore:
    """What the shared store has; its times are by its own clock."""

    value: int
    stored_at: float
    expires_in: float
    keep_for: float
    took: float


@dataclass(eq=False)
class Load:
    """A call of the function that is under way; without a number, it has yet to begin."""

    key: int
    is_refresh: bool
    number: int = -1
    began_at: float = 0
    replaces: Kept | None = None
    waiting: list[int] = field(default_factory=list)
    is_current: bool = True
    goes_on_alone: bool = False


@dataclass
class Arguments:
    """The arguments of the cache; `draw` stands for what early refreshes draw at random."""

    ttl: float
    maxsize: int
    stale_while_revalidate: float
    stale_if_error: float
    error_ttl: float
    early_refresh: float
    draw: float
    is_shared: bool
    memory_ttl: float
    most_refreshes: int

    @property
    def window(self) -> float:
        """How long after its expiry a value may be of use."""
        return max(self.stale_while_revalidate, self.stale_if_error)


@dataclass
class Counts:
    hits: int = 0
    misses: int = 0
    stale: int = 0
    coalesced: int = 0
    evictions: int = 0
    refresh_failures: int = 0


class Recent:
    """So many things at most, the one that was used last at the end."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.things: list[Kept] = []

    def look(self, key: int) -> Kept | None:
        """Find a thing; that is a use of it."""
        found = [each for each in self.things if each.key == key]
        self.things = [each for each in self.things if each.key != key] + found
        return found[0] if found else None

    def put(self, thing: Kept) -> int:
        """Keep a thing; return how many others had to go."""
        self.drop([thing.key])
        self.things.append(thing)
        too_many = max(0, len(self.things) - self.maxsize)
        self.things = self.things[too_many:]
        return too_many

    def drop(self, keys: list[int]) -> None:
        self.things = [each for each in self.things if each.key not in keys]


class SlowCache:
    """What the cache must do, call by call. `outcomes` tells how each caller was answered.

    An outcome is ``("value", number of the load)`` or ``("error", number of the load)``.
    """

    def __init__(self, arguments: Arguments, store_clock: Callable[[], float]) -> None:
        self.arguments = arguments
        self.store_clock = store_clock
        self.counts = Counts()
        self.memory = Recent(arguments.maxsize)
        self.errors = Recent(arguments.maxsize)
        self.store: dict[int, InStore] = {}
        self.keys_with_tags: list[int] = []  # of the store; the last ones seen
        self.loads: list[Load] = []  # all that ever began
        self.running: list[Load] = []
        self.outcomes: dict[int, tuple[str, int]] = {}

    # --- A call -------------------------------------------------------------------------------------

    def call(self, caller: int, key: int, now: float) -> None:
        kept = self.look(key, now)
        is_fresh = kept is not None and kept.is_of_use(now)
        is_due = kept is not None and now + self.ahead(kept) >= kept.expires_at
        if kept and is_fresh and not is_due:
            self.counts.hits += 1
            self.outcomes[caller] = ("value", kept.value)
            return
        error = self.errors.look(key) if self.arguments.error_ttl else None
        if error and not error.is_of_use(now):
            error = None
        if kept and is_fresh:
            self.counts.hits += 1
            self.outcomes[caller] = ("value", kept.value)
            if not error:
                self.refresh(kept)
            return
        window = self.arguments.stale_while_revalidate
        if error:
            window = max(window, self.arguments.stale_if_error)
        if kept and kept.is_of_use(now, window):
            self.counts.stale += 1
            self.outcomes[caller] = ("value", kept.value)
            if not error:
                self.refresh(kept)
            return
        if error:
            self.counts.hits += 1
            self.outcomes[caller] = ("error", error.value)
            return
        load = self.to_join(key)
        if load:
            self.counts.coalesced += 1
        else:
            self.counts.misses += 1
            load = Load(key, is_refresh=False)
            self.running.append(load)
        load.waiting.append(caller)

    def look(self, key: int, now: float) -> Kept | None:
        if not self.arguments.is_shared:
            return self.memory.look(key)
        if self.arguments.memory_ttl:
            kept = self.memory.look(key)
            if kept and kept.is_of_use(now) and now < kept.stored_at + self.arguments.memory_ttl:
                return kept
        return self.look_into_store(key, now)

    def look_into_store(self, key: int, now: float) -> Kept | None:
        found = self.store.get(key)
        age = 0 if found is None else self.store_clock() - found.stored_at
        if found is None or age >= found.keep_for:
            self.memory.drop([key])
            return None
        self.note_tags(key)
        kept = Kept(key, found.value, now, now + found.expires_in - age, found.took)
        if self.arguments.memory_ttl:
            self.memory.put(kept)
        return kept

    def ahead(self, kept: Kept) -> float:
        """How long before the expiry a refresh is due."""
        return self.arguments.draw * self.arguments.early_refresh * kept.took

    def note_tags(self, key: int) -> None:
        self.keys_with_tags = [each for each in self.keys_with_tags if each != key] + [key]
        self.keys_with_tags = self.keys_with_tags[-self.arguments.maxsize :]

    # --- Loads --------------------------------------------------------------------------------------

    def to_join(self, key: int) -> Load | None:
        return next((each for each in self.running if each.key == key and each.is_current), None)

    def refresh(self, kept: Kept) -> None:
        refreshes = [each for each in self.running if each.is_refresh]
        if not self.to_join(kept.key) and len(refreshes) < self.arguments.most_refreshes:
            self.running.append(Load(kept.key, is_refresh=True, replaces=kept, goes_on_alone=True))

    def begin(self, now: float) -> None:
        """Call the function for the loads that have yet to begin, after all who come at the same time."""
        for load in [each for each in self.running if each.number < 0]:
            found = self.what_replaces(load.replaces, now) if load.replaces else None
            if found:
                self.running.remove(load)
                continue
            load.number, load.began_at = len(self.loads), now
            self.loads.append(load)

    def what_replaces(self, older: Kept, now: float) -> Kept | None:
        """Look whether another process has stored something newer."""
        found = self.look_into_store(older.key, now) if self.arguments.is_shared else None
        is_newer = found and found.expires_at > older.expires_at + found.took / 2
        return found if found and is_newer and found.is_of_use(now) else None

    def succeed(self, load: Load, now: float) -> None:
        self.running.remove(load)
        for caller in load.waiting:
            self.outcomes[caller] = ("value", load.number)
        arguments = self.arguments
        if not load.is_current:
            return
        self.errors.drop([load.key])
        if arguments.ttl == 0 and arguments.window == 0:
            return
        took = max(0.0, now - load.began_at) if arguments.early_refresh else 0.0
        kept = Kept(load.key, load.number, now, now + arguments.ttl, took)
        if arguments.is_shared:
            stored_at = self.store_clock()
            self.store[load.key] = InStore(
                load.number, stored_at, arguments.ttl, arguments.ttl + arguments.window, took
            )
            self.note_tags(load.key)
        if not arguments.is_shared:
            self.counts.evictions += self.memory.put(kept)
        elif arguments.memory_ttl:
            self.memory.put(kept)

    def fail(self, load: Load, now: float) -> None:
        self.running.remove(load)
        arguments = self.arguments
        if arguments.error_ttl and load.is_current:
            self.errors.put(Kept(load.key, load.number, now, now + arguments.error_ttl))
        if load.is_refresh:
            self.counts.refresh_failures += 1
        kept = self.read(load.key, now) if arguments.stale_if_error else None
        stands_in = (
            load.is_current and load.waiting and kept and kept.is_of_use(now, arguments.stale_if_error)
        )
        if stands_in:
            self.counts.stale += 1
        outcome = ("value", kept.value) if stands_in and kept else ("error", load.number)
        self.outcomes.update(dict.fromkeys(load.waiting, outcome))

    def read(self, key: int, now: float) -> Kept | None:
        """Look where it is always right."""
        return self.look_into_store(key, now) if self.arguments.is_shared else self.memory.look(key)

    def leave(self, caller: int) -> Load | None:
        """Let a caller go; return the load that he was the last one to wait for."""
        for load in self.running:
            if caller in load.waiting:
                load.waiting.remove(caller)
                return self.end_if_alone(load)
        return None

    def end_if_alone(self, load: Load) -> Load | None:
        if load.waiting or load.goes_on_alone:
            return None
        self.running.remove(load)
        return load

    def close(self) -> None:
        for load in list(self.running):
            if load.goes_on_alone:
                load.goes_on_alone = False
                self.end_if_alone(load)

    # --- Forgetting ---------------------------------------------------------------------------------

    def forget(self, keys: list[int]) -> None:
        """Forget keys."""
        self.detach([load for load in self.running if load.key in keys])
        self.errors.drop(keys)
        self.forget_values(keys)

    def forget_tag(self, tag: int) -> None:
        """Forget the keys with a tag; of those in the store, the ones whose tags are known here."""
        self.detach([load for load in self.running if tag_of(load.key) == tag])
        self.errors.drop([each.key for each in self.errors.things if tag_of(each.key) == tag])
        known = [*(each.key for each in self.memory.things), *self.keys_with_tags]
        self.forget_values([key for key in known if tag_of(key) == tag])

    def forget_values(self, keys: list[int]) -> None:
        self.memory.drop(keys)
        self.store = {key: each for key, each in self.store.items() if key not in keys}
        self.keys_with_tags = [key for key in self.keys_with_tags if key not in keys]

    def detach(self, loads: list[Load]) -> None:
        for load in loads:
            load.is_current = False

    def forget_all(self) -> None:
        self.detach(self.running)
        self.memory.things, self.errors.things = [], []
        self.store, self.keys_with_tags = {}, []


def tag_of(key: int) -> int:
    """Even and odd keys have two tags."""
    return key % 2
