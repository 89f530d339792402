"""From a request to its last event: look it up, have its model ready, wait for its turn, relay."""

import asyncio
from collections import Counter
from contextlib import aclosing

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.adapters import answering
from app.adapters.answering import AnswererState, Wanted
from app.core import db, settings
from app.core.errors import AppError
from app.training import failpoints
from app.training.answers import Request
from app.training.clock import boot_seconds
from worker.answering.asked import Asked, Queue, Refusal
from worker.answering.child import ChildDied
from worker.answering.pool import Model, Pool
from worker.answering.site import Site, SiteModel

_log = structlog.get_logger()


class Desk:
    """All that is asked of this process."""

    def __init__(self) -> None:
        self.queue = Queue(settings.get().answer_queue)
        self.pool = Pool(self.look)
        self.site = Site() if settings.get().inference_url else None
        self.news = asyncio.Event()  # somebody has asked: what others do matters again

    async def serve(self, asked: Asked) -> None:
        """Answer one request into its outbox; whatever goes wrong is its last event."""
        try:
            self.queue.join(asked)
            self.news.set()
            self.look()
            await self._serve(asked)
        except Refusal as refusal:
            asked.tell(refusal.event)
        except AppError as error:
            asked.tell(answering.refusal(error))
        except SQLAlchemyError as error:
            asked.tell(answering.refusal(db.explain(error) or AppError(_BROKEN, code="internal")))
            _log.warning("answering.database", error=type(error).__name__)
        except Exception:
            _log.exception("answering.failed")
            asked.tell(Refusal(_BROKEN, status=500, code="internal").event)
        finally:
            self.queue.leave(asked)
            self._end(asked)
            self.look()

    async def _serve(self, asked: Asked) -> None:
        failpoints.hit("answer.asked")
        while True:
            wanted = await asyncio.to_thread(_look_up, asked.request)
            model = await self._turn(asked, wanted)
            if await self._relay(asked, wanted, model):
                return
            self._end(asked)
            self.queue.rejoin(asked)

    def _end(self, asked: Asked) -> None:
        """Free the room that it took, if its turn had come."""
        model, asked.held = asked.held, None
        if model is not None:
            model.running.discard(asked)
            model.used_at = boot_seconds()
            self.queue.end(asked)

    async def _turn(self, asked: Asked, wanted: Wanted) -> Model | SiteModel:
        """Wait until a model is there and it is this one's turn."""
        while True:
            preparing = await self._prepared(asked, wanted)
            asked.is_ready = True
            self.look()
            turn = asyncio.create_task(asked.turn.wait())
            try:
                # Its model may be closed meanwhile, or its adapter deleted.
                while not asked.turn.is_set() and preparing.is_open:
                    await asyncio.wait([turn], timeout=0.5)
            finally:
                turn.cancel()
            if asked.turn.is_set():
                return preparing
            asked.is_ready = False

    async def _prepared(self, asked: Asked, wanted: Wanted) -> Model | SiteModel:
        if self.site is not None and await self.site.serves(wanted.base):
            return await self.site.prepare(wanted, asked)
        return await self.pool.prepare(wanted, asked)

    async def _relay(self, asked: Asked, wanted: Wanted, model: Model | SiteModel) -> bool:
        """Pass on what the model says; False: it went away before a word, so ask again."""
        has_begun = False
        try:
            async with aclosing(model.ask(wanted, asked.request)) as events:
                async for event in events:
                    if not has_begun:
                        failpoints.hit("answer.begun")
                    if event.kind in answering.FINAL:
                        failpoints.hit("answer.ended")
                        model.has_answered()
                    has_begun = True
                    asked.tell(event)
        except ChildDied:
            if model.why_leaving and not has_begun:
                return False
            raise Refusal(
                model.why_leaving
                or f"The process that held {model.base.label} ended amid the answer, perhaps "
                "because the machine ran out of memory; please ask again.",
                retry_seconds=1,
            ) from None
        return True

    def look(self) -> None:
        """Give turns to those for whom there is room, and tell the others their places."""
        crowded = self.pool.crowded
        ahead: Counter[int] = Counter()
        is_held_back = False
        for asked in list(self.queue.in_order()):
            # Before it has been looked up, most likely that one.
            model = asked.model or self.pool.models.get((asked.request.base_model_id, None))
            # Those that came later must not keep another model in memory for ever.
            is_held_back = is_held_back or (crowded is not None and crowded is model)
            may_begin = asked.is_ready and not is_held_back and not ahead[id(model)]
            if may_begin and model is not None and model.has_room(asked):
                asked.held = model
                model.running.add(asked)
                self.queue.begin(asked)
                continue
            is_full = model is not None and model.is_open and not model.has_room(asked)
            asked.tell_waiting(ahead[id(model)] + is_full, model.doing if model is not None else "")
            ahead[id(model)] += 1

    @property
    def is_idle(self) -> bool:
        """Say whether nobody asks and no model is held, so that little can change."""
        return self.site is None and not self.pool.models and not len(self.queue)

    def state(self) -> AnswererState:
        return AnswererState(
            rule=self.site.rule if self.site else self.pool.devices.rule(self.pool.use),
            trained=[] if self.site else self.pool.devices.in_the_way(self.pool.use),
            uncompared=[] if self.site else self.pool.uncompared(),
            num_waiting=len(self.queue),
            max_waiting=self.queue.max_waiting,
            models=[model.shown() for model in self._models()],
        )

    def _models(self) -> list[Model | SiteModel]:
        return [*self.pool.models.values(), *(self.site.models.values() if self.site else ())]

    async def watch(self) -> None:
        """Look at what others do, once."""
        await self.pool.watch()
        if self.site is not None:
            await self.site.watch()

    async def close(self) -> None:
        """End all that answers."""
        await self.pool.close()
        if self.site is not None:
            await self.site.close()


_BROKEN = (
    "The answer broke off because of an error of ours; your administrator finds it in the log."
)


def _look_up(request: Request) -> Wanted:
    with db.session() as session:
        return answering.look_up(session, request)
