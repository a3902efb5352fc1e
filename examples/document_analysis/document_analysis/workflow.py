"""The workflow: extract; then classify, keywords and summarize at once; then a batch job; then merge."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, Field

from document_analysis import analysis
from document_analysis.batch_service import JobStatus, LocalReadabilityService
from workflow_engine import (
    NoInput,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    stage,
)


class Document(BaseModel):
    """A text to analyse."""

    name: str = Field(min_length=1)
    text: str = Field(min_length=1)
    encoding: str = "utf-8"


class Extracted(BaseModel):
    """The text of a document as a person reads it."""

    title: str
    sentences: list[str]
    paragraph_count: int
    word_count: int
    code_lines: int


class Classification(BaseModel):
    """The subject of a document."""

    category: str
    confidence: float


class Keyword(BaseModel):
    """A word that tells a document from others."""

    text: str
    score: float
    count: int


class KeywordConfig(BaseModel):
    """How many keywords to look for."""

    limit: int = Field(default=5, ge=1, le=50)


class SummaryConfig(BaseModel):
    """How many sentences a summary has."""

    sentences: int = Field(default=2, ge=1, le=20)


class BatchConfig(BaseModel):
    """Where the stand-in for a batch service keeps its jobs, how long one takes, and how often to ask."""

    service_directory: Path = Path("readability_service")
    latency: timedelta = timedelta(seconds=1.2)
    poll_interval: timedelta = timedelta(seconds=0.5)


class BatchJob(BaseModel):
    """The job that a suspended stage waits for."""

    job_id: str


class Readability(BaseModel):
    """How hard the text is to read."""

    reading_ease: float
    grade: float
    words_per_sentence: float
    syllables_per_word: float


class DocumentReport(BaseModel):
    """The result of the workflow."""

    name: str
    title: str
    category: str
    confidence: float
    keywords: list[str]
    summary: list[str]
    sentence_count: int
    paragraph_count: int
    word_count: int
    code_lines: int
    readability: Readability


@stage(name="Extract text")
def extract(ctx: StageContext[Document]) -> Extracted:
    """Take the markup and program code away and split the rest into sentences."""
    found = analysis.extract(ctx.input.text, name=ctx.input.name)
    ctx.log.info("text extracted", sentences=len(found.sentences), words=found.word_count)
    ctx.report(words=float(found.word_count))
    return Extracted(
        title=found.title,
        sentences=list(found.sentences),
        paragraph_count=len(found.paragraphs),
        word_count=found.word_count,
        code_lines=found.code_lines,
    )


@stage(name="Classify")
def classify(ctx: StageContext[Extracted]) -> Classification:
    """Name the subject."""
    found = analysis.classify(ctx.input.sentences, title=ctx.input.title)
    ctx.annotate("document.category", found.name)
    return Classification(category=found.name, confidence=found.confidence)


@stage(name="Find keywords")
def keywords(ctx: StageContext[Extracted, KeywordConfig]) -> list[Keyword]:
    """Find the terms that are frequent here and rare elsewhere."""
    found = analysis.find_keywords(
        ctx.input.sentences,
        title=ctx.input.title,
        reference=analysis.reference_frequencies(),
        limit=ctx.config.limit,
    )
    return [Keyword.model_validate(asdict(keyword)) for keyword in found]


@stage(name="Summarize")
def summarize(ctx: StageContext[Extracted, SummaryConfig]) -> list[str]:
    """Choose the sentences that say most."""
    return analysis.summarize(
        ctx.input.sentences,
        title=ctx.input.title,
        reference=analysis.reference_frequencies(),
        limit=ctx.config.sentences,
    )


def fetch_readability(ctx: PollContext[BatchJob, BatchConfig]) -> Readability | Pending:
    """Ask the batch service whether the job is done."""
    job = _service(ctx.config).get(ctx.state.job_id)
    if job.status is JobStatus.DONE and job.result is not None:
        return Readability.model_validate(asdict(job.result))
    return Pending(progress=job.progress, message=f"{job.job_id} is {job.status}")


@stage(name="Measure readability", poll=fetch_readability, dependencies=[extract], retry=Retry(max_attempts=5))
def readability(ctx: StageContext[NoInput, BatchConfig]) -> Suspend[BatchJob]:
    """Hand the sentences to the batch service; no worker is held until its answer is there."""
    job_id = _service(ctx.config).submit(ctx.require(extract).sentences, idempotency_key=ctx.idempotency_key)
    ctx.log.info("batch job submitted", job_id=job_id)
    return Suspend(BatchJob(job_id=job_id), poll_interval=ctx.config.poll_interval, max_wait=timedelta(minutes=10))


@stage(name="Merge", dependencies=[extract, classify, keywords, summarize])
def merge(ctx: StageContext[Readability]) -> DocumentReport:
    """Put the report together."""
    text, subject = ctx.require(extract), ctx.require(classify)
    return DocumentReport(
        name=str(ctx.metadata.get("document", text.title)),
        title=text.title,
        category=subject.category,
        confidence=subject.confidence,
        keywords=[keyword.text for keyword in ctx.require(keywords)],
        summary=ctx.require(summarize),
        sentence_count=len(text.sentences),
        paragraph_count=text.paragraph_count,
        word_count=text.word_count,
        code_lines=text.code_lines,
        readability=ctx.input,
    )


document_analysis = (
    WorkflowBuilder("document-analysis", name="Document analysis", input=Document)
    .pipe(extract)
    .parallel(classify, keywords, summarize)
    .pipe(readability)
    .pipe(merge)
    .build()
)


def _service(config: BatchConfig) -> LocalReadabilityService:
    return LocalReadabilityService(config.service_directory, latency=config.latency)
