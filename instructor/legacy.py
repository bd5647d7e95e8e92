"""Google's SDKs of before, which have ended: a model of theirs is asked through the one that came after them."""

from __future__ import annotations

from typing import Any

from .exceptions import ClientError

_MADE_WITH = ("generation_config", "safety_settings", "tools", "tool_config", "system_instruction", "cached_content")


def successor(client: Any) -> tuple[Any, str | None]:
    """The client of google-genai that asks on the account of a model of before, and the model's name.

    Any other client is its own successor, and names no model.

    Raises:
        ClientError: the model holds settings, which belong to each call now.
    """
    module = type(client).__module__
    if not module.startswith(("google.generativeai.", "vertexai.")):
        return client, None
    from google import genai  # noqa: PLC0415  an SDK

    if held := [name for name in _MADE_WITH if vars(client).get(f"_{name}")]:
        raise ClientError(f"The model was made with {', '.join(held)}: give that to each call, or as a default.")
    account = _of_vertexai() if module.startswith("vertexai.") else _of_gemini()
    return genai.Client(**account), str(vars(client)["_model_name"]).rpartition("/")[2]


def _of_vertexai() -> dict[str, Any]:
    from google.cloud.aiplatform.initializer import global_config as known  # noqa: PLC0415  an SDK

    return {"vertexai": True, "project": known.project, "location": known.location, "credentials": known.credentials}


def _of_gemini() -> dict[str, Any]:
    from google.generativeai.client import _client_manager  # noqa: PLC0415  an SDK, with no public way to its key

    options = _client_manager.client_config.get("client_options")
    return {"api_key": getattr(options, "api_key", None)}
