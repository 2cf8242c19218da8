"""The path of every picture: decode, predict, record, sign if a receipt was requested, answer.

Each step has threads of its own. A slow picture therefore delays neither the model nor the audit log, while one answer
is written to disk the model computes the next, and a token that does not answer delays only receipts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.detection.reasons import Reason
from buckler.error_codes import ErrorCode
from buckler.errors import UnusableInputError
from buckler.modality.base import Upload
from services.classifier import metrics
from services.classifier.contract import Answer, Feedback, RefusalError
from services.classifier.records.audit import AuditTrail, Recorded
from services.classifier.records.query_attack import QueryGuard
from services.classifier.records.traffic import Recorder
from services.classifier.releases.follower import Follower, follow
from services.classifier.releases.shadow import Shadow
from services.classifier.releases.slot import ModelSlot
from services.classifier.requests import Answered, HeatMap, Picture, PictureRequest, Sender
from services.classifier.routing import Table
from services.classifier.served import Served
from services.classifier.settings import Settings
from services.classifier.threads import Threads

if TYPE_CHECKING:
    from buckler.models.explanation import Relevance
    from buckler.serving.predictor import Prediction

# Enough that a slow picture delays no other one. Large ones are decoded one at a time: each takes up to 0.6 GB, one of
# the others up to 0.2 GB.
DECODERS = 3
# Pictures that are decoded or wait for the model; the others wait as files, which take less memory.
AHEAD = DECODERS + 1


class ClassifierPipeline:
    """Answers pictures with the live model, in one worker process.

    Attributes:
        settings, table: The service's settings and endpoints.
        schema: Returns BentoML's description of the service.
        drawing: Threads that decode and draw pictures.
        parsing: The thread that parses JSON bodies: as objects, one takes ten times its size.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        served: Served | None = None,
        *,
        schema: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Serve ``served``; by default, the releases that the source in the settings names."""
        self.settings, self.table, self.schema = settings, table, schema
        self.drawing, self.parsing = Threads("Decode", DECODERS), Threads("Parse")
        self._large, self._model = Threads("Large"), Threads("Model")
        self._writing, self._signing = Threads("Record"), Threads("Sign")
        self._ahead = asyncio.Semaphore(AHEAD)
        self._audit = AuditTrail(settings)
        self._queries = QueryGuard(settings, self._audit)
        self._slot = ModelSlot(served, keep_previous_seconds=settings.previous_model_seconds)
        self._follower: Follower | None = None
        if served:
            metrics.show_model(served)
        else:
            self._follower = follow(settings, self._slot)
            self._follower.start()
        self._shadow = Shadow(settings)
        self._shadow.start()
        self._recorder = Recorder(settings)
        self._recorder.start()

    def stop(self) -> None:
        """Stop all threads."""
        for threads in (self.drawing, self.parsing, self._large, self._model, self._writing, self._signing):
            threads.stop()
        self._shadow.stop()
        self._recorder.stop()
        if self._follower:
            self._follower.stop()

    @property
    def live(self) -> Served | None:
        """The live model; None without one."""
        return self._slot.served

    @property
    def receipt_key(self) -> Ed25519PublicKey | None:
        """The key that verifies the receipts; None if none are signed."""
        return self._audit.receipt_key

    async def answer(self, request: PictureRequest, number: int) -> Answered:
        """Return the answer to picture ``number`` of a request, counted from 1.

        Raises:
            RefusalError: The picture is unusable or belongs to a refused run, a receipt cannot be signed, or the audit
                log cannot be written.
        """
        self._audit.check_receipt(request)
        picture = request.pictures[number - 1]
        upload, (prediction, relevance) = await self._predicted(request, picture)
        record = partial(self._record, request, picture, upload, prediction, request.picture_id(number))
        recorded = await self._writing.run(record)
        answer = recorded.answer
        if request.receipt:
            answer = await self._signing.run(partial(self._audit.with_receipt, recorded))
        if relevance is None or upload.shown is None:
            return Answered(answer)
        reliable = request.served.predictor.heat_maps_reliable
        return Answered(
            answer,
            HeatMap(
                request.label or answer.label, upload.shown, relevance, request.served.predictor.form.modality, reliable
            ),
        )

    def record_feedback(self, feedback: Feedback, sender: Sender) -> int:
        """Record an opinion about an answer and return the number of its line in the audit log.

        Raises:
            RefusalError: As `AuditTrail.record_feedback`.
        """
        line, decision = self._audit.record_feedback(feedback, sender)
        if not sender.from_watch:
            metrics.FEEDBACK.labels(opinion=feedback.opinion, decision=decision).inc()
        return line

    async def _predicted(
        self, request: PictureRequest, picture: Picture
    ) -> tuple[Upload, tuple["Prediction", "Relevance | None"]]:
        try:
            async with self._ahead:
                upload = await self._decoded(request, picture, self.drawing, small=True)
                return upload, await self._model.run(partial(self._predict, request, upload, picture))
        except RefusalError as refusal:
            if refusal.code is not ErrorCode.IMAGE_TOO_LARGE:
                raise
        upload = await self._decoded(request, picture, self._large, small=False)
        return upload, await self._model.run(partial(self._predict, request, upload, picture))

    async def _decoded(self, request: PictureRequest, picture: Picture, threads: Threads, *, small: bool) -> Upload:
        if not isinstance(picture, bytes):
            return Upload(picture)
        form = request.served.predictor.form
        decode = partial(
            form.modality.receive, picture, form.shape, shown=request.explained, small=small, frame=request.frame
        )
        try:
            return await threads.run(decode, seconds=self.settings.decode_timeout_seconds)
        except UnusableInputError as error:
            raise RefusalError(error.code, str(error)) from error

    def _predict(
        self, request: PictureRequest, upload: Upload, picture: Picture
    ) -> tuple["Prediction", "Relevance | None"]:
        in_query_run = self._queries.in_run(
            request.sender, upload.values, picture, request.served.predictor.form.modality
        )
        relevance = None
        with metrics.INFERENCE_SECONDS.time(), self._shadow.paused():
            if request.explained:
                prediction, relevance = request.served.predict_and_explain(upload.values, request.label)
            else:
                prediction = request.served(upload.values)
        return prediction.for_review(Reason.QUERY_ATTACK) if in_query_run else prediction, relevance

    def _record(
        self, request: PictureRequest, picture: Picture, upload: Upload, prediction: "Prediction", answer_id: str
    ) -> Recorded:
        answer = Answer.of(prediction, request.served, answer_id, request.frame)
        recorded = self._audit.record(answer, picture, request)  # before it is counted: this may refuse the request
        if not request.sender.from_watch:  # its test pictures would distort the metrics of clients' pictures
            metrics.count(prediction)
            predictor = request.served.predictor
            self._recorder.enqueue(upload, prediction, predictor.form.modality, predictor.digest)
        self._shadow.enqueue(picture, answer)
        return recorded
