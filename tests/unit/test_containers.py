"""The files for containers that are shipped: they say what the program understands, and what a shared ring needs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from emitter.settings import ENVIRONMENT, LOADER_VARIABLES, settings_from_environment
from loader import watch
from loader.cli import app

FOLDER = Path(__file__).parents[2] / "examples" / "docker"
DOCKERFILE, COMPOSE = FOLDER / "Dockerfile", FOLDER / "compose.yaml"


def yaml(text: str) -> Any:
    """The part of YAML that the file keeps to: maps and lists by indentation, JSON's own lists, words."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    value, rest = block(lines, 0)
    assert not rest, rest
    return value


def block(lines: list[str], indent: int) -> tuple[Any, list[str]]:
    made: Any = None
    while lines and depth(lines[0]) >= indent:
        line, lines = lines[0], lines[1:]
        assert depth(line) == indent, line
        if line.strip().startswith("- "):
            made = [*(made or []), scalar(line.strip().removeprefix("- "))]
            continue
        name, colon, said = line.strip().partition(":")
        assert colon, line
        assert re.fullmatch(r"[A-Za-z_]+", name), line
        made = {} if made is None else made
        assert name not in made, f"{name} stands twice"
        if said.strip():
            made[name] = scalar(said.strip())
        elif lines and depth(lines[0]) > indent:
            made[name], lines = block(lines, depth(lines[0]))
        else:
            made[name] = None
    return made, lines


def depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def scalar(text: str) -> Any:
    if text.startswith("[") and '"' not in text:
        return [word.strip() for word in text[1:-1].split(",")]
    if text.startswith(("[", '"')) or text in ("true", "false") or text.isdigit():
        return json.loads(text)
    assert ": " not in text, text
    assert " #" not in text, text
    return text


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml(COMPOSE.read_text())["services"]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage of the Dockerfile, by its name."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in filter(str.strip, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            image, _, name = rest.partition(" AS ")
            assert name, rest
            assert name not in found, name
            found[name] = [*found.get(image, []), ("FROM", image)]
        else:
            found.setdefault(name, []).append((instruction, rest))
    return found


def last(stage: list[tuple[str, str]], instruction: str) -> str:
    return [rest for name, rest in stage if name == instruction][-1]


def mounts(service: dict[str, Any]) -> dict[str, str]:
    return dict(volume.split(":") for volume in service["volumes"])


# -- what runs --


def test_images_are_pinned_and_come_from_no_named_registry(stages: Any, services: Any) -> None:
    bases = {image for stage in stages.values() for name, image in stage if name == "FROM"} - set(stages)
    assert bases == {"python:${PYTHON}"}
    tag = next(rest for name, rest in stages[""] if name == "ARG").removeprefix("PYTHON=")
    for image in (f"python:{tag}", services["database"]["image"]):
        assert re.fullmatch(r"[a-z]+:\d+[.\d]*-[a-z-]+", image), image


def test_what_is_copied_is_there_and_not_ignored(stages: Any) -> None:
    kept = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    root = FOLDER.parents[1]
    copied = {
        word
        for stage in stages.values()
        for name, rest in stage
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    }
    assert {"pyproject.toml", "emitter", "loader", "sql"} <= copied
    for path in copied:
        assert (root / path).exists(), path
        assert any(pattern == path or pattern.startswith(f"{path}/") or Path(path).match(pattern) for pattern in kept)


@pytest.mark.parametrize("name", ["bot", "loader"])
def test_each_runs_as_a_user_of_its_own_in_the_group_of_the_log(name: str, stages: Any, services: Any) -> None:
    user, group = services[name]["user"].split(":")
    assert last(stages[name], "USER") == services[name]["user"]
    made = next(rest for instruction, rest in stages[name] if instruction == "RUN" and "useradd" in rest)
    assert f"--uid {user} " in made
    assert f"groupadd --gid {group} bot-log" in made
    assert services["bot"]["environment"]["TRADETRAIL_GROUP"] == group
    assert services["bot"]["user"] != services["loader"]["user"]


def test_the_loader_starts_a_command_that_exists(stages: Any, services: Any) -> None:
    program, *words = json.loads(last(stages["loader"], "ENTRYPOINT")) + json.loads(last(stages["loader"], "CMD"))
    assert program == "tradetrail"
    command = get_command(app)
    with command.make_context(program, words) as context:
        assert command.resolve_command(context, words)[0] == "watch"
    assert "PATH=/opt/tradetrail/bin:$PATH" in last(stages["loader"], "ENV")
    grace = int(services["loader"]["stop_grace_period"].removesuffix("s"))
    assert grace > 2 * (watch._GRACE_S + 2.0)


def test_the_bot_starts_the_example_with_its_options(stages: Any, services: Any) -> None:
    program, script, *words = json.loads(last(stages["bot"], "ENTRYPOINT")) + json.loads(last(stages["bot"], "CMD"))
    assert (program, script) == ("python", "/opt/bot.py")
    assert ("COPY", f"examples/bot.py {script}") in stages["bot"]
    known = (FOLDER.parent / "bot.py").read_text()
    assert all(f'"{word}"' in known for word in words if word.startswith("--"))


# -- what it is told --


def test_every_variable_is_one_of_the_program(services: Any) -> None:
    for name in ("bot", "loader"):
        own = set(services[name]["environment"])
        assert own <= set(ENVIRONMENT) | LOADER_VARIABLES
    settings = settings_from_environment(services["bot"]["environment"])
    assert (settings.ring_dir, settings.group) == (Path("/ring"), "10000")


def test_no_password_stands_in_the_files(services: Any) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name.removesuffix("_FILE") or name.endswith("_FILE")
            assert "://" not in value
        for secret in service.get("secrets", []):
            assert f"/run/secrets/{secret}" in service["environment"].values()
    assert not [rest for rest in shlex.split(DOCKERFILE.read_text(), comments=True) if "://" in rest]


def test_nothing_is_written_but_into_volumes_and_memory(services: Any) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any(mount.partition(":")[0] == "/tmp" for mount in service["tmpfs"])


def test_health_is_asked_of_the_loader_and_the_database(services: Any) -> None:
    asked = services["loader"]["healthcheck"]["test"]
    assert asked[:2] == ["CMD", "python"]
    compile(asked[3], "healthcheck", "exec")
    assert f":{services['loader']['environment']['TRADETRAIL_METRICS_PORT']}/metrics" in asked[3]
    assert "pg_isready" in services["database"]["healthcheck"]["test"][1]
    assert services["loader"]["depends_on"] == {"database": {"condition": "service_healthy"}}


# -- what the ring needs --


def test_bot_and_loader_share_ring_and_log_at_the_same_paths(stages: Any, services: Any) -> None:
    bot, loader = mounts(services["bot"]), mounts(services["loader"])
    assert bot == loader
    assert bot["ring"] == services["bot"]["environment"]["TRADETRAIL_RING_DIR"]
    log = Path(services["loader"]["environment"]["TRADETRAIL_DIR"])
    assert log.is_relative_to(bot["log"])
    assert str(log) in json.loads(last(stages["bot"], "ENTRYPOINT"))
    made = next(rest for instruction, rest in stages["bot"] if instruction == "RUN" and "install" in rest)
    assert made.split()[-1] == bot["log"]


def test_the_ring_lies_in_memory_and_has_room(services: Any) -> None:
    volumes = yaml(COMPOSE.read_text())["volumes"]
    assert {mount.partition(":")[0] for service in services.values() for mount in service["volumes"]} == set(volumes)
    driven = volumes["ring"]["driver_opts"]
    assert (driven["type"], driven["device"]) == ("tmpfs", "tmpfs")
    options = dict(option.partition("=")[::2] for option in driven["o"].split(","))
    user, group = services["bot"]["user"].split(":")
    assert (options["uid"], options["gid"]) == (user, group)
    ring = int(services["bot"]["environment"]["TRADETRAIL_RING_BYTES"])
    # Each start needs a ring of its own while those of killed ones wait to be finished.
    assert int(options["size"].removesuffix("m")) * 2**20 >= 4 * ring
    assert int(services["bot"]["mem_limit"].removesuffix("m")) * 2**20 >= 4 * ring
