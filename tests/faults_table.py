"""The table of faults and abuses: which rows there are, and what came of the tests that are marked with them.

`pytest --faults-table=docs/reliability.md` writes it after the run; `--faults=full` tries each fault as often as the
row asks for, where a run of every day tries it less often.
"""

from __future__ import annotations

from collections.abc import Mapping

GROUPS = {
    "A": "Crashes, damage and a disk that fails",
    "B": "Threads, tasks, processes and forks",
    "C": "Time, clocks and size",
    "D": "What makes two questions the same",
    "E": "Answers in every shape",
    "F": "A store that fails",
    "G": "What must not be kept",
    "H": "Secrets, and what attackers plant",
}
ROWS = {
    "A1": "Writers are killed at a moment of chance: what was stored stays",
    "A2": "A writer is killed inside each system call that changes a file",
    "A3": "The write-ahead log is cut short, or a bit of it flips",
    "A4": "The file is damaged, another program's, or empty",
    "A5": "A stored entry is damaged, cut short, or never was one",
    "A6": "The disk is full",
    "A7": "The disk or the directory turns read-only",
    "A8": "A system call fails: input and output, memory, descriptors, file size",
    "A9": "Another process holds the lock and never lets go",
    "A10": "File, log or directory is removed or replaced while in use",
    "A11": "The file is of a later release, of this format's first day, or of another library",
    "A12": "The file system has no memory that processes can share",
    "B1": "Processes of threads read, store and delete the same keys",
    "B2": "The process forks while threads are inside the cache",
    "B3": "A cache is opened before the workers are forked",
    "B4": "Many ask the same at once: one call",
    "B5": "Who asked first is cancelled",
    "B6": "Everybody who asked is cancelled",
    "B7": "The one call for all fails",
    "B8": "The process that asks for all is killed, or wakes too late",
    "B9": "Several event loops and threads share a cache; loops end, close or stand still",
    "B10": "A store is slow under an event loop",
    "B11": "A validator asks the question that it validates",
    "B12": "Those who wait for one call have different timeouts",
    "C1": "Times to live of every kind, with and without meaning",
    "C2": "An entry in memory runs out of time",
    "C3": "The clock is put forward, or set back",
    "C4": "Everybody is there when an entry expires",
    "C5": "More is stored than the limit allows: the least recently used goes, exactly",
    "C6": "One answer is larger than the whole limit",
    "C7": "Hits without end: memory, descriptors and speed stay as they are",
    "C8": "Questions without end: nothing is left of those that were answered",
    "C9": "Sizes that are none",
    "D1": "One input of a request changes at a time",
    "D2": "Values that look alike and are not",
    "D3": "The same question from another process, hash seed, order or version of an SDK",
    "D4": "Arguments that have no stable identity",
    "D5": "Odd and very long text",
    "D6": "Tenants with different accounts or endpoints share a cache",
    "D7": "Somebody reads keys and files to find an account's credential",
    "D8": "One image as data, address and file, and a file that changes",
    "E1": "Models of every kind: a hit equals its miss",
    "E2": "Every kind of type that can be asked for is remembered",
    "E3": "A hit has the completion that its miss had",
    "E4": "Schema or validators change after an answer was stored",
    "E5": "A caller changes the answer it was given",
    "E6": "What listeners hear of a hit, a miss and a failing store",
    "F1": "Reading, storing, or both raise",
    "F2": "The server freezes",
    "F3": "The server is killed, restarted or emptied under load",
    "F4": "The store gives back junk",
    "F5": "A time to live of zero on a server",
    "F6": "Something that is no cache is passed as one",
    "G1": "Answers that were cut off",
    "G2": "Answers under a content filter",
    "G3": "Refusals with valid JSON beside them",
    "G4": "Streams that end too early",
    "G5": "Errors of the provider and of the network",
    "G6": "An answer that is valid at the second attempt",
    "G7": "Plain completions, empty ones, and calls of tools",
    "G8": "A provider that only fails, asked by many who retry",
    "H1": "Modes, owners and links of files",
    "H2": "Serialised objects and forged entries in the store",
    "H3": "Entries that were forged, swapped or replayed in a shared store",
    "H4": "Secrets in logs, keys, entries and errors",
    "H5": "Prompts and answers at rest",
    "H6": "Templates: user text, escapes, and work without bounds",
    "H7": "Addresses that lead into the private network",
    "H8": "Bodies that are huge, endless, slow or not what they say",
    "H9": "A user's text that names a local file as an image",
    "H10": "A model that judges values: talked over, absent, or asked about another rule",
    "H11": "JSON that is deep, long, or full of keys",
    "H12": "Timing a question to learn whether another tenant asked it",
}
HOW = """\
# What was tried to break it

Each line is a fault or an abuse that some tests bring about for real (processes are killed, disks filled, servers
frozen, system calls made to fail, bits flipped) and what came of them. An answer may then be asked for again; it may
never be wrong, nor may the cache's trouble become the caller's.

This page is made by the tests themselves: `{command}`.
`tests` are those that are marked with the line's number, each set of parameters counted; `tried` is how often they
brought the fault about, as they say themselves, or once each. "25 of 100" was tried less often than it would be with
`--faults=full`. A test that needs what a machine lacks (root, `strace`, a server) is skipped, with its reason.
"""


def table(found: Mapping[str, object], command: str) -> str:
    """The page: every row there is, whether a test was marked with it or not."""
    lines = [HOW.format(command=command)]
    for letter, title in GROUPS.items():
        lines += [f"## {title}\n", "| | fault | tests | tried | result |", "|---|---|---:|---:|---|"]
        rows = [row for row in ROWS if row.startswith(letter)]
        lines += [f"| {row} | {ROWS[row]} | {found.get(row, '0 | 0 | missing')} |" for row in rows]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
