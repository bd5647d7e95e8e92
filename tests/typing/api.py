"""A program as users write it: never run, read by type checkers only. Every line must check without a cast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import instructor
from instructor import (
    AsyncInstructor,
    Audio,
    CitationMixin,
    Image,
    Instructor,
    Maybe,
    Mode,
    ResponseSchema,
    from_openai,
    from_provider,
    generate_openai_schema,
    llm_validator,
    response_schema,
)
from instructor.cache import AutoCache, BaseCache, DiskCache, make_cache_key
from instructor.exceptions import InstructorRetryException
from instructor.models import KnownModelName


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


@response_schema
class City(BaseModel):
    """A decorated model is still the same model."""

    name: str


class Fact(CitationMixin):
    """Something that is known, and where it is said."""

    text: str


def checked(client: Instructor, fact: Fact, completion: Any) -> list[str]:
    """Shapes have the types that they look to have."""
    city: City = client.create(response_model=City, messages=MESSAGES)
    check: Callable[[str], str] = llm_validator("a city", client)
    described: dict[str, Any] = generate_openai_schema(City)
    tool: Tool = Tool.from_response(completion)
    return [*fact.substring_quotes, check(city.name), described["name"], Tool.openai_schema["name"], tool.name]


class Tool(ResponseSchema):
    """A model that describes itself."""

    name: str


class DictCache(BaseCache):
    """A user's own cache, as the documentation writes it."""

    def __init__(self) -> None:
        self.texts: dict[str, Any] = {}

    def get(self, key: str) -> Any | None:
        """What is there."""
        return self.texts.get(key)

    def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        """Keep it."""
        self.texts[key] = value


MESSAGES = [{"role": "user", "content": "Extract: John is 25"}]
IMAGE: Image = Image.autodetect("https://example.com/cat.png")
SHOWN: list[dict[str, object]] = [{"role": "user", "content": ["Who?", IMAGE, Audio.from_bytes(b"OggS")]}]
NAME: KnownModelName = "openai/gpt-4o-mini"
CACHES: list[BaseCache | None] = [
    AutoCache(maxsize=1000),
    AutoCache(honor_ttl=True, maxbytes=2**20),
    DiskCache(directory=".cache", size_limit=2**30, ttl=3600),
    DictCache(),
    None,
]


def ask_sync(client: Instructor) -> None:
    """The answer has the type that was asked for."""
    user: User = client.create(response_model=User, messages=[{"role": "user", "content": "John is 25"}])
    same: User = client.chat.completions.create(User, MESSAGES, max_retries=2, context={"x": 1}, strict=False)
    number: int = client.messages.create(response_model=int, messages=MESSAGES, cache=AutoCache(), cache_ttl=60)
    users: list[User] = client.create(response_model=list[User], messages=MESSAGES)
    union: User | int = client.create(response_model=User | int, messages=MESSAGES)
    plain: Any = client.create(response_model=None, messages=SHOWN, autodetect_images=True)
    answer, completion = client.create_with_completion(response_model=User, messages=MESSAGES)
    perhaps: User | None = client.create(response_model=Maybe(User), messages=MESSAGES).result
    print(perhaps, user.name, same.age, number + 1, users[0].age, union, plain, answer, completion)


async def ask_async(client: AsyncInstructor) -> None:
    """So has the awaited one."""
    async with client:
        user: User = await client.create(response_model=User, messages=MESSAGES)
        answer, completion = await client.create_with_completion(response_model=User, messages=MESSAGES)
        print(user.age, answer, completion)


def make() -> None:
    """Clients are made from a name or from an SDK's client."""
    with from_openai(OpenAI(), mode=Mode.TOOLS, cache=CACHES[0]) as client:
        ask_sync(client)
    client = from_openai(AsyncOpenAI(), model="gpt-4o-mini")
    client.on("completion:response", print)
    made = from_provider(NAME, cache=AutoCache(), mode=Mode.JSON, base_url="http://127.0.0.1/v1", temperature=0)
    assert isinstance(made, Instructor)
    ask_sync(made)
    key: str = make_cache_key(messages=MESSAGES, model="m", response_model=User, mode="TOOLS")
    try:
        instructor.patch(OpenAI()).chat.completions.create(messages=MESSAGES)
    except InstructorRetryException as error:
        attempts: int = error.n_attempts
        print(attempts, key)
