"""A stage hands its work to a service with a token made in the body; the service calls a webhook when it is done."""

import json
import threading
import urllib.request
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from workflow_engine import (
    Pending,
    PollContext,
    StageContext,
    Suspend,
    WorkflowBuilder,
    WorkflowEngineError,
    WorkflowRuntime,
    stage,
)


class Scan(BaseModel):
    name: str
    service: str


class Job(BaseModel):
    name: str


def post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


def ask(ctx: PollContext[Job]) -> str | Pending:
    """Would ask the service, in case the webhook was missed."""
    return Pending()


@stage(poll=ask, poll_interval=timedelta(hours=1))
def recognise(ctx: StageContext[Scan]) -> Suspend[Job]:
    token = ctx.callback_token(valid_for=timedelta(hours=2))
    post(f"{ctx.input.service}/jobs", {"name": ctx.input.name, "token": token})
    return Suspend(Job(name=ctx.input.name))


@stage
def shout(ctx: StageContext[str]) -> str:
    return ctx.input.upper()


scans = WorkflowBuilder("scans", input=Scan).pipe(recognise).pipe(shout).build()
workflows = [scans]


class Handler(BaseHTTPRequestHandler):
    """The service and the team's webhook in one small server."""

    runtime: WorkflowRuntime

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/jobs":
            self.start_job(body)
        elif body["is_good"]:
            self.runtime.complete_by_token(body["token"], body["text"])
        else:
            self.runtime.fail_by_token(body["token"], body["text"])
        self.send_response(200)
        self.end_headers()

    def start_job(self, job: dict[str, str]) -> None:
        answer = {"token": job["token"], "is_good": job["name"] != "blank", "text": f"text of {job['name']}"}
        call = threading.Timer(0 if job["name"] == "quick" else 1, post, [f"{url_of(self.server)}/done", answer])
        call.start()
        if job["name"] == "quick":
            call.join()  # the answer is there while the body still runs

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def url_of(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def main() -> None:
    with WorkflowRuntime(workflows) as runtime, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.runtime = runtime
        threading.Thread(target=server.serve_forever, daemon=True).start()
        runs = [runtime.create_run(scans, Scan(name=name, service=url_of(server))) for name in ("slow", "quick")]
        blank = runtime.create_run(scans, Scan(name="blank", service=url_of(server)))
        print([run.wait(timeout=timedelta(minutes=2)) for run in runs])
        try:
            blank.wait(timeout=timedelta(minutes=2))
        except WorkflowEngineError as error:
            print(error)
        server.shutdown()


if __name__ == "__main__":
    main()
