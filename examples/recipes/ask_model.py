"""Ask a language model many questions: at most 100 a second, and when it says so, later.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python ask_model.py questions.txt answers.jsonl

One question per line; one line of JSON per answer, in the order in which they come.
"""

import json
import os
import sys

import httpx

import hybridexec
from hybridexec import HybridExecutor, RetryAfter


def client():
    """One client per worker: its connections are kept, and shared by the worker's calls.

    Not one per call, which would make a connection and a TLS context for each; and not one for the
    whole program, because sockets do not travel between processes.
    """
    return httpx.Client(
        base_url=os.environ["OPENAI_BASE_URL"].rstrip("/") + "/",
        headers={"Authorization": "Bearer " + os.environ.get("OPENAI_API_KEY", "none")},
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        timeout=120,
    )


def ask(question):
    """The model's answer to one question."""
    body = {"model": "small", "messages": [{"role": "user", "content": question}]}
    response = hybridexec.state().post("chat/completions", json=body)
    if response.status_code == 429:
        raise RetryAfter(float(response.headers.get("Retry-After", 1)))
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def main(questions, answers):
    """Returns how many questions were not answered."""
    failed = 0
    with (
        HybridExecutor(concurrency=500, worker_state=client) as executor,
        open(questions, encoding="utf-8") as source,
        open(answers, "w", encoding="utf-8") as target,
    ):
        polite = executor.options(rate=100, retries=5, timeout=120)
        items = (line.strip() for line in source)
        for outcome in polite.outcomes(ask, items, progress=True):
            failed += not outcome.ok
            answer = outcome.value if outcome.ok else None
            error = None if outcome.ok else repr(outcome.error)
            line = {"question": outcome.item, "answer": answer, "error": error}
            print(json.dumps(line), file=target)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) > 0)
