"""The fresh process of `benchmarks.measure.isolated`: calls one function and prints its answer as JSON."""

import json
import sys
from importlib import import_module


def main(target: str, arguments: str) -> None:
    """Call ``module:function`` with the JSON object ``arguments`` as keywords."""
    module, _, function = target.partition(":")
    answer = getattr(import_module(module), function)(**json.loads(arguments))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
