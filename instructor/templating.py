"""Templates rendered on their own, for those who send a request themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .messages import render
from .mode import Mode
from .plan import TEMPLATED
from .providers import Provider

__all__ = ["handle_templating"]


def handle_templating(
    kwargs: dict[str, Any],
    mode: Mode,  # noqa: ARG001 - part of the signature that users know: every mode renders alike
    provider: Provider | Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The arguments of a request with the templates in its messages rendered; without a context, the very same.

    The context may stand in the place of `provider`, where it used to be.

    Raises:
        jinja2.TemplateError: a template is wrong, or unsafe (its `SecurityError`).
    """
    if context is None and isinstance(provider, Mapping):
        context = provider
    if not context:
        return kwargs
    return {name: render(value, context) if name in TEMPLATED else value for name, value in kwargs.items()}
