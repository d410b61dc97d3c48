"""Print the reference of the running interpreter's library as JSON lines, one module or topic a line.

Run as a script in a child process by `ragsmith.collect.sample`, never imported: importing the whole standard
library prints, warns and registers things that no other process should inherit. It therefore uses nothing
but the standard library. The last line that it writes is a count, so that a reader knows it has the whole.
"""

import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

# Importing these prints a poem, opens a browser or a window, starts a test run, or needs a display.
NEVER_IMPORT = {"antigravity", "this", "idlelib", "test", "tkinter", "turtle", "turtledemo", "lib2to3"}
# Removed in 3.12 or 3.13 (PEP 594, PEP 632): left out so that the corpus differs little between 3.11 and 3.13.
REMOVED_LATER = set(
    "aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp mailcap msilib nis nntplib "
    "ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib".split()
)
# Implementation twins of documented modules, codec tables, and folders of tests or platform files.
NOT_REFERENCE = set(
    "encodings ensurepip genericpath nt ntpath opcode posix posixpath pydoc_data sre_compile sre_constants sre_parse "
    "nturl2path xxlimited xxlimited_35 winreg winsound msvcrt".split()
)
# Tools for those who write debuggers, importers and full-screen terminals: many passages, few askers.
SPECIALIST = {
    "bdb",
    "curses",
    "importlib.abc",
    "importlib.machinery",
    "modulefinder",
    "pdb",
    "pickletools",
    "symtable",
}
# Public by name only: the manual has no page for them.
INTERNAL_PARTS = set(
    "multiprocessing.forkserver multiprocessing.reduction multiprocessing.resource_sharer "
    "multiprocessing.resource_tracker multiprocessing.spawn multiprocessing.util importlib.readers importlib.simple "
    "asyncio.selector_events asyncio.sslproto asyncio.staggered asyncio.trsock asyncio.format_helpers "
    "asyncio.unix_events asyncio.proactor_events asyncio.base_events email.base64mime email.quoprimime "
    "email.feedparser dbm.dumb json.scanner json.encoder unittest.util unittest.suite wsgiref.types "
    "wsgiref.validate".split()
)
SKIPPED_PARTS = {"tests", "test", "macholib", "__main__", "pgen2", "fixes", "_bootstrap"}
# Documented homes of modules that live elsewhere.
EXTRA_MODULES = ["os.path", "collections.abc", "xml.etree.ElementTree", "importlib.metadata", "importlib.resources"]
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
CALL_LINE = re.compile(r"^[\w.]+\([^\n]*\)(\s*->\s*[^\n]*)?$")


def module_names() -> list[str]:
    """All public module names to read, in a fixed order."""
    left_out = NEVER_IMPORT | REMOVED_LATER | NOT_REFERENCE | SPECIALIST
    top = sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name not in left_out)
    names = ["builtins", *(name for name in top if name != "builtins")]
    for name in top:
        module = load(name)
        for info in sorted(pkgutil.iter_modules(getattr(module, "__path__", [])), key=lambda found: found.name):
            part = f"{name}.{info.name}"
            public = not info.name.startswith("_") and info.name not in SKIPPED_PARTS
            if public and part not in INTERNAL_PARTS | SPECIALIST:
                names.append(part)
    return list(dict.fromkeys(names + EXTRA_MODULES))


def load(name: str) -> ModuleType | None:
    """The module, or None where this interpreter was built without it."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit):
        return None


def signature(qualified_name: str, thing: Any) -> str:
    """The call as a reader would write it, or the bare name where there is none."""
    if isinstance(thing, (staticmethod, classmethod)):
        thing = thing.__func__
    try:
        call = str(inspect.signature(thing))
    except Exception:  # some C signatures cannot even be parsed (curses on 3.11)
        return qualified_name
    # Defaults taken from this machine (where its interpreter lies) are no part of the reference.
    places = {sys.executable: "sys.executable", sys.prefix: "sys.prefix", sys.base_prefix: "sys.prefix"}
    for path, name in places.items():
        call = call.replace(path, name)
    call = re.sub(r"^\(self(, /)?(, |(?=\)))", "(", ADDRESS.sub("", call))
    return qualified_name + (call if len(call) <= 200 else "(...)")


def entry(qualified_name: str, thing: object) -> tuple[str, str] | None:
    """Heading and body of one documented object, or None when it has no docstring of its own."""
    doc = getattr(thing, "__doc__", None)
    if not isinstance(doc, str) or not doc.strip():
        return None
    body = ADDRESS.sub("", inspect.cleandoc(doc)).strip()
    heading = signature(qualified_name, thing)
    first, _, rest = body.partition("\n")
    # C functions often carry their signature as the docstring's first line.
    short_name = qualified_name.rpartition(".")[2]
    if CALL_LINE.match(first.strip()) and short_name in first.partition("(")[0]:
        if heading == qualified_name:
            heading = qualified_name + first.strip()[first.strip().index("(") :]
        body = rest.strip() or body
    # A comment line of an example must not read as a Markdown heading.
    body = re.sub(r"(?m)^(#{1,6}\s)", r"    \1", body)
    return (heading, body) if len(body.split()) >= 3 else None


def is_documented_kind(thing: object) -> bool:
    """Whether a reference describes such a thing: functions, classes and properties, not values."""
    wrapped = isinstance(thing, (property, staticmethod, classmethod))
    return wrapped or inspect.isroutine(thing) or inspect.isclass(thing) or inspect.isdatadescriptor(thing)


def public_names(module: ModuleType) -> list[str]:
    """The names that a module offers, in the order in which it lists them."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(dict.fromkeys(listed))
    return [name for name in vars(module) if not name.startswith("_")]


def is_home(module_name: str, module: ModuleType, thing: object) -> bool:
    """Whether the object belongs to this module rather than being imported into it."""
    owner = getattr(thing, "__module__", None)
    if owner is None or module_name == "builtins":
        return True
    file = getattr(module, "__name__", module_name)
    twins = {"posix", "posixpath", "genericpath"}
    accelerator = owner.lstrip("_") in {module_name, file, file.lstrip("_")} or owner in twins
    return accelerator or owner == file or hasattr(module, "__all__")


def sections_of(
    module_name: str, module: ModuleType, seen_objects: set[int], seen_bodies: set[str]
) -> list[dict[str, str]]:
    """The module's documented objects in the order of its own list; each object and each text once."""
    sections = []

    def add(qualified_name: str, thing: object) -> None:
        found = entry(qualified_name, thing)
        if found is None:
            return
        heading, body = found
        key = " ".join(body.split()).lower()
        if key in seen_bodies:
            return
        seen_bodies.add(key)
        sections.append({"heading": heading, "body": body})

    prefix = "" if module_name == "builtins" else module_name + "."
    for name in public_names(module):
        thing = getattr(module, name, None)
        if thing is None or not is_documented_kind(thing) or id(thing) in seen_objects:
            continue
        if not is_home(module_name, module, thing):
            continue
        seen_objects.add(id(thing))
        add(prefix + name, thing)
        if inspect.isclass(thing):
            for member_name, member in vars(thing).items():
                if not member_name.startswith("_") and is_documented_kind(member):
                    add(f"{prefix}{name}.{member_name}", member)
    return sections


def documents_of(
    name: str, summary: str, sections: list[dict[str, str]]
) -> list[tuple[str, str, list[dict[str, str]]]]:
    """One document a module; of the builtins, one a type (str, list, dict…), as a reader would look for them."""
    if name != "builtins":
        return [(name, summary, sections)] if sections or len(summary.split()) >= 5 else []
    groups: dict[str, list[dict[str, str]]] = {"builtins": []}
    names = [re.split(r"[( ]", section["heading"])[0] for section in sections]
    types = {qualified.split(".")[0] for qualified in names if "." in qualified}
    for qualified, section in zip(names, sections, strict=True):
        owner = qualified.split(".")[0]
        groups.setdefault(owner if owner in types else "builtins", []).append(section)
    return [(title, summary if title == "builtins" else "", group) for title, group in groups.items()]


def topics() -> list[dict[str, str]]:
    """The language topics that `help()` shows, with underlined titles turned into headings."""
    source = load("pydoc_data.topics")
    found = []
    for name, text in sorted(getattr(source, "topics", {}).items()):
        # reStructuredText marks a title by a line of *, =, -, ~ or " below it.
        marked = re.sub(
            r"(?m)^(\S[^\n]*)\n([*=\-~\"^])\2{2,}[ ]*$",
            lambda match: "#" * (1 + '*=-~"^'.index(match.group(2))) + " " + match.group(1),
            text.strip(),
        )
        first = marked.partition("\n")[0]
        title = first.lstrip("#").strip() if first.startswith("#") else name
        markdown = marked if first.startswith("#") else f"# {title}\n\n{marked}"
        found.append({"name": f"topic:{name}", "title": title, "markdown": markdown})
    return found


def main(target: str) -> None:
    """Write the whole reference to the file `target`."""
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = io.StringIO()
    seen_objects: set[int] = set()
    seen_bodies: set[str] = set()
    written = 0
    with Path(target).open("w", encoding="utf-8") as file:
        for name in module_names():
            module = load(name)
            if module is None:
                continue
            summary = ADDRESS.sub("", inspect.cleandoc(module.__doc__ or "")).strip()
            summary = re.sub(r"(?m)^(#{1,6}\s)", r"    \1", summary)
            sections = sections_of(name, module, seen_objects, seen_bodies)
            for title, summary_, group in documents_of(name, summary, sections):
                file.write(json.dumps({"name": title, "title": title, "summary": summary_, "sections": group}) + "\n")
                written += 1
        for topic in topics():
            file.write(json.dumps(topic) + "\n")
            written += 1
        file.write(json.dumps({"written": written, "python": sys.version.split()[0]}) + "\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)  # atexit handlers of a hundred modules have nothing to say here
