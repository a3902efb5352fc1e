"""A stage starts a run for each page of a book and waits for all of them; the next one adds up what they found."""

from datetime import timedelta

from pydantic import BaseModel

from workflow_engine import StageContext, Suspend, UntilRuns, WorkflowBuilder, WorkflowRuntime, stage


class Page(BaseModel):
    number: int
    text: str


class Book(BaseModel):
    pages: list[str]


@stage
def count(ctx: StageContext[Page]) -> int:
    return len(ctx.input.text.split())


@stage
def start_pages(ctx: StageContext[Book]) -> UntilRuns:
    numbered = enumerate(ctx.input.pages, start=1)
    return Suspend.until_runs(
        *(ctx.create_run(pages, Page(number=number, text=text), key=f"page-{number}") for number, text in numbered)
    )


@stage
def add(ctx: StageContext[dict[str, int]]) -> int:
    return sum(ctx.input.values())


pages = WorkflowBuilder("pages", input=Page).pipe(count).build()
books = WorkflowBuilder("books", input=Book).pipe(start_pages).pipe(add).build()
workflows = [books, pages]


def main() -> None:
    with WorkflowRuntime(workflows) as runtime:
        run = runtime.create_run(books, Book(pages=["once upon a time", "there was", "an end"]))
        words = run.wait(timeout=timedelta(minutes=2))
        children = runtime.list_runs(parent=run.id).items
        print(words, sorted(runtime.get_input(child.id)["number"] for child in children))


if __name__ == "__main__":
    main()
