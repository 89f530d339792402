"""The models in memory, one child each: brought there on demand, closed when idle or in the way."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.adapters import answering
from app.adapters.answering import LoadedModel, Use, Wanted, WantedAdapter, WantedBase
from app.core import db, plain_errors, settings
from app.training import failpoints
from app.training.answers import Event, Request
from app.training.clock import boot_seconds
from worker import identity
from worker.answering import conversion, sharing
from worker.answering.asked import Asked, Refusal
from worker.answering.child import Child, ChildDied, ChildFailed, environment, note_hashes
from worker.answering.sharing import Place, Size
from worker.inference import commands

# What could not be converted is not tried for each question: an administrator has to act first.
_UNUSABLE_SECONDS = 600.0
# Where the disk was full or memory short, somebody may be making room just now.
_PASSING_SECONDS = 5.0
_MAX_DEATHS = 3
_PAUSE_SECONDS = 60.0
# A claim of the GPU ends answering there within 5 s; answers that are nearly over may end well.
_LEAVE_SECONDS = 2.5
# A job that ends is often followed by the next one.
_GPU_FREE_SECONDS = 10.0
_ROOM_SECONDS = 0.5

_log = structlog.get_logger()
Key = tuple[int, int | None]  # base model, and the adapter that is worked into it


class _Moved(Exception):
    """Where a model was being loaded it may not stay."""


@dataclass(eq=False)
class Model:
    """A starting model in memory, or on its way there."""

    base: WantedBase
    merged: WantedAdapter | None = None  # worked into its weights, for llama.cpp
    doing: str = ""
    place: Place | None = None
    child: Child | None = None
    running: set[Asked] = field(default_factory=set)
    adapters: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    opening: asyncio.Future[None] = field(default_factory=asyncio.Future)
    loading: asyncio.Task[Child] | None = None
    used_at: float = field(default_factory=boot_seconds)
    why_leaving: str = ""  # it answers nothing new; a sentence for those whom it still answers
    has_proved_itself: bool = False  # it has answered a question to the end

    @property
    def key(self) -> Key:
        return self.base.id, None if self.merged is None else self.merged.id

    @property
    def is_open(self) -> bool:
        return self.child is not None and self.child.is_alive() and not self.why_leaving

    @property
    def is_idle(self) -> bool:
        adding = any(not task.done() for task in self.adapters.values())
        return self.child is not None and not self.running and not adding

    def has_room(self, asked: Asked) -> bool:
        """Say whether another request fits beside those that are answered just now."""
        if not self.is_open or self.child is None:
            return False
        taken = sum(min(each.weight, self.child.num_slots) for each in self.running)
        return taken + min(asked.weight, self.child.num_slots) <= self.child.num_slots

    def ask(self, wanted: Wanted, request: Request) -> AsyncGenerator[Event, None]:
        """Ask its child; `ChildDied` where that has ended."""
        assert self.child is not None
        name = None
        if wanted.adapter is not None and self.merged is None:
            name = str(wanted.adapter.id)
        return self.child.ask(name, request)

    def has_answered(self) -> None:
        """Whatever killed earlier children is over."""
        self.has_proved_itself = True

    def shown(self) -> LoadedModel:
        place = self.place or sharing.ON_CPU
        return LoadedModel(
            base_model_id=self.base.id,
            label=self.base.label,
            engine=place.engine,
            device=place.device,
            doing=self.doing,
            num_running=len(self.running),
            adapter_ids=sorted(self.adapters) + ([self.merged.id] if self.merged else []),
        )


class Pool:
    """All of them. `on_change` is called when somebody's turn may have come, or `doing` changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.devices = sharing.Devices()
        self.use = Use()
        self.models: dict[Key, Model] = {}
        self._uncompared: set[int] = set()
        # A model that waits for others to finish, so that there is room for it.
        self.crowded: Model | None = None
        self._on_change = on_change
        self._unusable: dict[str, tuple[ChildFailed, float]] = {}
        self._deaths: Counter[Key] = Counter()
        self._paused: dict[Key, float] = {}
        self._converting = asyncio.Lock()
        self._making_room = asyncio.Lock()
        self._conversions: dict[str, asyncio.Task[None]] = {}
        self._gpu_free_at: float | None = None
        self._busy_at = boot_seconds()  # when somebody trained or asked last
        self._ahead: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def prepare(self, wanted: Wanted, asked: Asked) -> Model:
        """Have a model in memory with an adapter, ready for a question.

        Raises:
            Refusal: it cannot be, or not now.
        """
        needs_merging = wanted.adapter is not None and await self._needs_merging(wanted.adapter)
        # A GPU takes the adapter as it is; whether it gets there shows on the way.
        is_merged = needs_merging and not self.devices.physical
        while True:
            merged = wanted.adapter if is_merged else None
            key = wanted.base.id, None if merged is None else merged.id
            model = self.models.get(key)
            if model is not None and model.base.manifest_sha256 != wanted.base.manifest_sha256:
                await self._close(model)  # imported again, as another model
            elif model is not None and model.opening.done() and not model.is_open:
                self._forget(model)
            elif model is None:
                self._check_pause(key, wanted.base)
                model = self.models[key] = Model(wanted.base, merged)
                model.opening = self._start(self._bring(model, wanted))
            else:
                asked.model = model
                # Whoever asked first may leave; the others still wait for the same model.
                await asyncio.shield(model.opening)
                is_on_cpu = model.place is not None and model.place.engine == "llama.cpp"
                if needs_merging and merged is None and model.is_open and is_on_cpu:
                    is_merged = True
                    continue
                if wanted.adapter is not None and merged is None and model.is_open:
                    await self._with_adapter(model, wanted.adapter)
                if model.is_open:
                    return model

    async def _needs_merging(self, adapter: WantedAdapter) -> bool:
        try:
            return await asyncio.to_thread(conversion.must_merge, adapter)
        except ChildFailed as failed:
            raise _unusable(failed) from None

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # told to those who wait for it, if anybody still does

        task.add_done_callback(over)
        return task

    # --- from the disk into memory

    async def _bring(self, model: Model, wanted: Wanted) -> None:
        try:
            await self._open(model, wanted)
        except ChildFailed as failed:
            self._forget(model)
            raise _unusable(failed) from None
        except ChildDied:
            self._forget(model)
            self._note_death(model)
            raise Refusal(
                f"{model.base.label} could not be loaded: its process ended, perhaps because the "
                "machine ran out of memory. Please ask again in a moment.",
                retry_seconds=5,
            ) from None
        except OSError as error:
            self._forget(model)
            _log.warning("answering.not_opened", error=str(error))
            raise Refusal(
                f"{model.base.label} could not be loaded: {plain_errors.words(error)}.",
                retry_seconds=30,
            ) from None
        except _Moved:
            self._forget(model)  # whoever waits for it begins again, elsewhere
            return
        except BaseException:
            self._forget(model)
            if model.child is not None:
                await model.child.kill()
            raise
        model.doing = ""
        model.used_at = boot_seconds()
        self._on_change()

    async def _open(self, model: Model, wanted: Wanted) -> None:
        model.place = self.devices.take(self.use)
        is_fallback = bool(self.devices.physical) and model.place is None
        if model.place is not None:
            async with self._making_room:
                size = await self._room(model, wanted, model.place, wanted.base.size_bytes)
                if size is not None:
                    await self._start_child(model, model.place, size, None)
                    return
        model.place = Place("llama.cpp", "cpu", is_fallback=is_fallback)
        if model.merged is None:
            file = conversion.base_file(model.base)
        else:
            await asyncio.to_thread(conversion.verify, model.merged)
            file = conversion.merged_file(model.base, model.merged)
        await self._converted(model, file, model.base, model.merged)
        async with self._making_room:
            size = await self._room(model, wanted, model.place, file.stat().st_size)
            assert size is not None  # a processor's refusal is raised
            await self._start_child(model, model.place, size, file)

    async def _start_child(self, model: Model, place: Place, size: Size, gguf: Path | None) -> None:
        self._say(model, "loading the model")
        opening = commands.Open(
            engine=place.engine,
            base=model.base.folder,
            manifest_sha256=model.base.manifest_sha256,
            cache_dir=settings.get().cache_dir,
            gguf=gguf,
            adapters=[settings.get().storage_dir / "adapters"],
            device="cpu" if place.physical is None else "cuda:0",  # it is shown one GPU alone
            num_slots=size.num_slots,
            context_tokens=size.context_tokens,
        )
        await asyncio.to_thread(note_hashes, opening.base, opening.cache_dir)
        if model.why_leaving:
            raise _Moved
        locks = self.devices.handles(place)
        model.loading = asyncio.create_task(Child.open(opening, environment(place.physical), locks))
        try:
            model.child = await model.loading
        except asyncio.CancelledError:
            if model.why_leaving:
                raise _Moved from None
            raise
        failpoints.hit("answer.model_open")
        self._start(self._mourn(model, model.child))
        _log.info(
            "answering.model_open",
            model=model.base.name,
            engine=place.engine,
            device=place.device,
            slots=model.child.num_slots,
        )

    async def _room(self, model: Model, wanted: Wanted, place: Place, weights: int) -> Size | None:
        """Make room for a model, by closing idle ones and waiting for busy ones.

        Returns:
            None where it does not fit onto a GPU; the processor may have more.

        Raises:
            Refusal: this machine has not the memory.
        """
        try:
            while True:
                free = await asyncio.to_thread(sharing.free_bytes, place)
                size = sharing.size(place, weights, model.base.config, free)
                if size is not None and size.num_slots > 1:
                    return size
                beside = [
                    other
                    for other in self.models.values()
                    if other.child is not None
                    and other.place is not None
                    and other.place.physical == place.physical
                ]
                idle = [other for other in beside if other.is_idle]
                if idle:
                    await self._close(min(idle, key=lambda other: other.used_at))
                elif size is not None:
                    return size
                elif beside:
                    self.crowded = model
                    self._say(model, "waiting until another model has finished its answers")
                    await asyncio.sleep(_ROOM_SECONDS)
                elif place.physical is not None:
                    return None
                else:
                    needed = sharing.least_bytes(place, weights, model.base.config)
                    end = await asyncio.to_thread(_expected_end, self.use)
                    said = sharing.too_large(wanted, needed, free, self.use, end)
                    raise Refusal(said, retry_seconds=60)
        finally:
            if self.crowded is model:
                self.crowded = None
                self._on_change()

    async def _with_adapter(self, model: Model, adapter: WantedAdapter) -> None:
        """Have an adapter in a model's child, once however many ask for it.

        Raises:
            Refusal: it cannot be used.
        """
        task = model.adapters.get(adapter.id)
        if task is None:
            task = model.adapters[adapter.id] = self._start(self._add(model, adapter))
        try:
            await asyncio.shield(task)
        except ChildFailed as failed:
            raise _unusable(failed) from None
        except ChildDied:
            pass  # `prepare` looks whether the model is still there
        except OSError as error:
            raise Refusal(
                f"The trained model could not be loaded: {plain_errors.words(error)}.",
                retry_seconds=30,
            ) from None
        finally:
            if task.done() and (task.cancelled() or task.exception()):
                model.adapters.pop(adapter.id, None)

    async def _add(self, model: Model, adapter: WantedAdapter) -> None:
        assert model.child is not None
        assert model.place is not None
        path = adapter.folder
        await asyncio.to_thread(conversion.verify, adapter)
        if model.place.engine == "llama.cpp":
            path = conversion.adapter_file(model.base, adapter)
            await self._converted(model, path, model.base, adapter)
        await model.child.add_adapter(commands.AddAdapter(name=str(adapter.id), path=path))
        failpoints.hit("answer.adapter_added")

    async def _converted(
        self, model: Model, path: Path, base: WantedBase, adapter: WantedAdapter | None
    ) -> None:
        """Have llama.cpp's form of a model or an adapter on the disk.

        Raises:
            ChildFailed: it cannot be made.
        """
        failed, until = self._unusable.get(path.name, (None, 0.0))
        if failed is not None and boot_seconds() < until:
            raise ChildFailed(str(failed), is_passing=failed.is_passing)
        task = self._conversions.get(path.name)
        if task is None:
            making = self._convert(path, base, adapter, lambda doing: self._say(model, doing))
            task = self._conversions[path.name] = self._start(making)
        before = model.doing
        try:
            await asyncio.shield(task)
        finally:
            self._conversions.pop(path.name, None)
            self._say(model, before)

    async def _convert(
        self,
        path: Path,
        base: WantedBase,
        adapter: WantedAdapter | None,
        tell: Callable[[str], None],
    ) -> None:
        async with self._converting:
            try:
                await conversion.make(base, adapter, path, tell)
            except ChildFailed as failed:
                seconds = _PASSING_SECONDS if failed.is_passing else _UNUSABLE_SECONDS
                self._unusable[path.name] = (failed, boot_seconds() + seconds)
                raise

    async def _prepare_ahead(self) -> None:
        """Write what will be asked soon, until somebody trains or asks."""
        for wanted in await asyncio.to_thread(_likely):
            with suppress(ChildFailed):  # said to whoever asks
                await self._prepare_one(wanted)

    async def _prepare_one(self, wanted: Wanted) -> None:
        path = conversion.base_file(wanted.base)
        if wanted.adapter is not None:
            if conversion.must_merge(wanted.adapter):
                return  # a whole model each: made only for those who ask
            path = conversion.adapter_file(wanted.base, wanted.adapter)
        if self._is_quiet() and path.name not in self._unusable:
            await self._convert(path, wanted.base, wanted.adapter, lambda _: None)

    def _is_quiet(self) -> bool:
        if self.use.trained or self.models:
            self._busy_at = boot_seconds()
        return boot_seconds() - self._busy_at >= settings.get().answer_ahead_seconds

    # --- out of memory again

    async def _mourn(self, model: Model, child: Child) -> None:
        """Forget a model whose child has ended by itself."""
        await child.ended.wait()
        if not model.why_leaving:
            self._note_death(model)
        self._forget(model)
        self._on_change()

    def _note_death(self, model: Model) -> None:
        if model.has_proved_itself:
            del self._deaths[model.key]
        self._deaths[model.key] += 1
        _log.error("answering.child_died", model=model.base.name, times=self._deaths[model.key])
        if self._deaths[model.key] >= _MAX_DEATHS:
            self._paused[model.key] = boot_seconds() + _PAUSE_SECONDS

    def _check_pause(self, key: Key, base: WantedBase) -> None:
        until = self._paused.get(key)
        if until is None:
            return
        left = until - boot_seconds()
        if left > 0:
            raise Refusal(
                f"{base.label} ended {self._deaths[key]} times in a row, perhaps because the "
                "machine ran out of memory; it is tried again in a minute. Your administrator "
                "finds more in the log.",
                retry_seconds=left,
            )
        del self._paused[key]

    def _forget(self, model: Model) -> None:
        if self.models.get(model.key) is model:
            del self.models[model.key]

    async def _close(self, model: Model) -> None:
        model.why_leaving = model.why_leaving or "idle"
        self._forget(model)
        if model.child is not None:
            await model.child.close()

    async def _leave(self, model: Model) -> None:
        """Leave a GPU that a job has claimed; answers that are nearly over may end."""
        model.why_leaving = (
            "Training took the graphics card amid this answer; please ask again. Until it ends, "
            "answers come from the processor."
        )
        _log.info("answering.gives_way", model=model.base.name, running=len(model.running))
        if model.loading is not None:
            model.loading.cancel()
        deadline = boot_seconds() + _LEAVE_SECONDS
        while model.running and boot_seconds() < deadline:
            await asyncio.sleep(0.05)
        if model.child is not None:
            await model.child.kill()
        self._forget(model)
        self._let_go()
        self._on_change()

    def _let_go(self) -> None:
        self.devices.let_go({m.place.device for m in self.models.values() if m.place is not None})

    # --- once a second

    async def watch(self) -> None:
        """Look at what others do: jobs on our GPUs, deleted adapters; and at idle models."""
        loaded = {each for model in self.models.values() for each in model.adapters}
        loaded |= {model.merged.id for model in self.models.values() if model.merged is not None}
        # What looks answers up is never loaded; it may be withdrawn amid an answer all the same.
        running = (asked.request for model in self.models.values() for asked in model.running)
        loaded |= {each.adapter_id for each in running if each.adapter_id is not None}
        self.use, gone, self._uncompared = await asyncio.to_thread(_look, loaded)
        taken = sharing.held(self.use)
        for model in list(self.models.values()):
            if model.why_leaving:
                continue
            if model.place is not None and model.place.physical and model.place.device in taken:
                self._start(self._leave(model))
            elif model.child is None:
                continue
            elif model.child.is_stuck():
                _log.error("answering.child_stuck", model=model.base.name)
                await model.child.kill()
            else:
                await self._remove(model, gone)
                await self._close_if_idle(model)
        if self._is_quiet() and not self.devices.physical and self._ahead is None:
            self._ahead = self._start(self._prepare_ahead())
        elif self._ahead is not None and self._ahead.done() and not self._is_quiet():
            self._ahead = None  # there may be more the next time
        self._let_go()
        free = self.devices.is_one_free(self.use)
        self._gpu_free_at = (self._gpu_free_at or boot_seconds()) if free else None

    async def _remove(self, model: Model, gone: set[int]) -> None:
        """Forget adapters that were deleted, amid an answer if need be."""
        assert model.child is not None
        for asked in list(model.running):
            if asked.request.adapter_id in gone:
                asked.tell(withdrawn().event)
        if model.merged is not None and model.merged.id in gone:
            await self._close(model)
            return
        for adapter_id in gone & model.adapters.keys():
            if model.adapters[adapter_id].done():
                del model.adapters[adapter_id]
                model.child.remove_adapter(str(adapter_id))

    async def _close_if_idle(self, model: Model) -> None:
        if model.running:
            model.used_at = boot_seconds()
        if not model.is_idle or model.why_leaving:
            return
        is_old = boot_seconds() - model.used_at > 60 * settings.get().answer_idle_minutes
        may_move = (
            model.place is not None
            and model.place.is_fallback
            and self._gpu_free_at is not None
            and boot_seconds() - self._gpu_free_at > _GPU_FREE_SECONDS
        )
        if is_old or may_move:
            _log.info("answering.model_closed", model=model.base.name, idle=is_old)
            await self._close(model)

    def uncompared(self) -> list[int]:
        """Return the starting models of which llama.cpp's file was not held against the original.

        On a GPU the original itself answers.
        """
        by_file = {
            model.base.id
            for model in self.models.values()
            if model.place is not None and model.place.engine == "llama.cpp"
        }
        shown = self._uncompared & by_file if self.devices.physical else self._uncompared
        return sorted(shown)

    async def close(self) -> None:
        """End all children."""
        for task in list(self._tasks):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        children = [model.child for model in self.models.values() if model.child is not None]
        await asyncio.gather(*(child.kill() for child in children))
        self.devices.let_go(set())

    def _say(self, model: Model, doing: str) -> None:
        model.doing = doing
        self._on_change()


def _unusable(failed: ChildFailed) -> Refusal:
    seconds = _PASSING_SECONDS if failed.is_passing else None
    return Refusal(str(failed), code="model_not_usable", retry_seconds=seconds)


def withdrawn() -> Refusal:
    return Refusal(
        "This trained model was deleted or withdrawn while it answered.",
        status=404,
        code="model_not_found",
        param="model",
    )


def _look(adapter_ids: set[int]) -> tuple[Use, set[int], set[int]]:
    with db.watching() as session:
        use = answering.use_of(session, identity.host(), identity.boot_id())
        gone = answering.gone(session, adapter_ids)
        bases = answering.ready_manifests(session)
    return use, gone, {each for each in bases if not conversion.is_compared(bases[each])}


def _expected_end(use: Use) -> str:
    with db.session() as session:
        return answering.expected_end(session, [job.job_id for job in use.trained])


def _likely() -> list[Wanted]:
    with db.session() as session:
        return answering.likely(session)
