"""Measure one contender once, in a process that has done nothing else.

    python -m benchmarks.child QUESTION CONTENDER CASE SIZE

Nothing is imported at the top: worker processes import it too, as their ``__main__``.
"""


def main() -> None:
    """Print the figures, or why there are none, as the last line of standard output."""
    import json
    import sys

    from .harness.question import Skip
    from .questions import load

    question, contender, case, size = sys.argv[1:]
    try:
        answer = {"figures": load(question).measure(contender, case, json.loads(size))}
    except Skip as reason:
        answer = {"skip": str(reason)}
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
