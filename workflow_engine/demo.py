"""A workflow to read and to try: ``workflow-engine demo FOLDER`` creates a run of it for each text file of a folder.

Stages are functions. Each says by its annotations what it takes and what it returns; the engine checks both, stores what
is returned, and hands it to the stages that ask for it. A program of your own imports these names from ``workflow_engine``.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

from pydantic import BaseModel, Field

from workflow_engine.definition import (
    NoInput,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    stage,
)

# 1. Models say what goes into a run, from one stage to the next, and comes out. They are Pydantic models.


class Document(BaseModel):
    """The input of a run."""

    name: str
    text: str = Field(min_length=1)


class Outline(BaseModel):
    """What a document is called, and how long it is."""

    name: str
    words: int
    sentences: int


class Ticket(BaseModel):
    """What the review desk calls a request for a review."""

    number: str


class Review(BaseModel):
    """The answer of the review desk."""

    level: str
    minutes_to_read: int


class Report(BaseModel):
    """The output of a run."""

    outline: Outline
    frequent_words: list[str]
    review: Review


# 2. Stages. The context has the input, and all that a stage may do: read other outputs, log, annotate, store artifacts.


@stage
def count(ctx: StageContext[Document]) -> Outline:
    """Count words and sentences."""
    sentences = re.findall(r"[.!?]+(?=\s|$)", ctx.input.text)
    return Outline(name=ctx.input.name, words=len(words_of(ctx.input.text)), sentences=max(1, len(sentences)))


# A stage that raises is tried again as its Retry says. The waits are stored: another worker may make the next attempt.
@stage(retry=Retry(max_attempts=3, backoff=timedelta(milliseconds=300), retry_on=(ConnectionError,)))
def find_words(ctx: StageContext[Document]) -> list[str]:
    """Find the words that occur most often, with the help of a dictionary that turns every first request down."""
    if ctx.attempt == 1:
        raise ConnectionError("the dictionary is busy")
    counts = Counter(word for word in words_of(ctx.input.text) if len(word) > 5)  # noqa: PLR2004 - short ones say little
    ctx.log.info("words counted", different=len(counts))
    return [word for word, _ in counts.most_common(4)]


# 3. A stage that waits for something outside returns Suspend and holds no worker. Its poll is called from time to time.


def fetch_review(ctx: PollContext[Ticket]) -> Review | Pending:
    """Ask for the answer, which is there at the third time of asking."""
    if ctx.polls < 2:  # noqa: PLR2004
        return Pending(progress=(ctx.polls + 1) / 3, message=f"{ctx.state.number} is being read")
    outline = ctx.require(count)
    levels = {10: "easy", 18: "plain", 25: "demanding"}
    level = next((name for limit, name in levels.items() if outline.words / outline.sentences < limit), "hard")
    return Review(level=level, minutes_to_read=1 + outline.words // 230)


@stage(poll=fetch_review, dependencies=[count])
def review(ctx: StageContext[NoInput]) -> Suspend[Ticket]:
    """Hand the document to the review desk; a repeated attempt sends the same key, and so gets the same ticket."""
    ticket = Ticket(number=f"ticket {ctx.idempotency_key}")
    return Suspend(ticket, poll_interval=timedelta(milliseconds=400), max_wait=timedelta(days=1))


@stage(dependencies=[count, find_words])
def report(ctx: StageContext[Review]) -> Report:
    """Put everything together: an annotation to find the run by, an artifact to keep, and the output."""
    outline, words = ctx.require(count), ctx.require(find_words)
    ctx.annotate("document.level", ctx.input.level)
    ctx.storage.save("page.md", f"# {outline.name}\n\n{ctx.input.level}, about {', '.join(words)}\n")
    return Report(outline=outline, frequent_words=words, review=ctx.input)


# 4. The workflow: `parallel` stages run at the same time. A mistake in the order or in a type is an error here.

reading = WorkflowBuilder("reading", input=Document).parallel(count, find_words).pipe(review).pipe(report).build()


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())
