"""The cases for DSPy: a Predict with two typed outputs, answered from its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy


class Extract(dspy.Signature):
    """Extract a person."""

    text: str = dspy.InputField()
    name: str = dspy.OutputField()
    age: int = dspy.OutputField()


def cases(url: str) -> dict[str, Callable[[], list[Callable[[], Any]]]]:
    """The asks of each case, made when it is wanted."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    model = dspy.LM("openai/m", api_key="k", api_base=f"{url}/v1")
    dspy.configure(lm=model, adapter=dspy.JSONAdapter())
    return {"memory": lambda: [_hit(dspy.Predict(Extract))]}


def _hit(predict: Any) -> Callable[[], Any]:
    person = predict(text="John is 25")
    assert (person.name, person.age) == ("John", 25)
    return lambda: predict(text="John is 25")
