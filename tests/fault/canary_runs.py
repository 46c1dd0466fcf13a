"""What is run with secrets in its environment, each phase in a folder of its own, which holds whatever was written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import object_store
import postgres
import requests
from fault.canary_api import OUT_OF_TIME_S, Api, nights
from fault.canary_proxy import NASA_LOGIN, USER, proxied
from fault.canary_servers import LAST, regions_of, token_of
from faulty import serving, status
from killable import until

from regions import TEXT, write_region

HERE = Path(__file__).parent
SECRETS = (
    "EARTHDATA_TOKEN", "NETRC_PASSWORD", "PROXY_PASSWORD", "PC_KEY", "SAS_TOKEN", "SERVER_SESSION", "SIGNED_ADDRESS",
    "AWS_SECRET", "AWS_WRONG", "AWS_SESSION", "AWS_LOGIN", "POSTGRES_PASSWORD", "SERVER_PASSWORD", "WRONG_PASSWORD",
    "NOTIFY_URL", "DASK_LOGIN", "API_LOGIN", "MISPLACED",
)  # fmt: skip
CONTROL = "CONTROL"  # written on purpose, to see that the search finds it
FEW = 3  # kinds of servers: the suite's size
LISTS = (
    "flows", "flow_runs", "task_runs", "flow_run_states", "logs", "artifacts", "artifacts/latest", "deployments", "work_pools",
    "work_pools/vsat/workers", "work_pools/vsat/queues", "events", "automations", "block_documents", "block_types",
    "variables", "concurrency_limits", "v2/concurrency_limits", "saved_searches",
)  # fmt: skip
PLAIN = ("admin/settings", "admin/version", "health", "ready", "version", "hello")


@dataclass
class World:
    """Where a phase writes, and what it is given.

    Attributes:
        root: is searched.
        secret: is not: keys, the archive behind the servers.
        made: a region file with its archive.
        planted: secrets by name, CONTROL among them.
        runs: (label, exit code) of what has been run.
    """

    root: Path
    secret: Path
    made: Path
    planted: Mapping[str, str]
    runs: list[tuple[str, int]] = field(default_factory=list)
    _warm: "subprocess.Popen[str] | None" = None

    def environment(self, **more: str) -> dict[str, str]:
        """What a user with all these secrets has set, and the witness of what is removed."""
        ours = ("PREFECT_", "VSAT_", "AWS_", "EARTHDATA_", "PG", "PYTEST", "COV_")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(ours) and not name.lower().endswith("_proxy")
        }
        folders = {name: self.root / name for name in ("home", "tmp", "witness")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        netrc = self.secret / "netrc"
        netrc.write_text(f"machine {NASA_LOGIN} login {USER} password {self.planted['NETRC_PASSWORD']}\n")
        netrc.chmod(0o600)
        return kept | {
            "HOME": str(folders["home"]), "TMPDIR": str(folders["tmp"]), "WITNESS": str(folders["witness"]),
            "WITNESS_OF": str(self.root), "PYTHONPATH": os.pathsep.join([str(HERE / "witness"), str(HERE.parents[1])]),
            "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path.home() / ".config" / "matplotlib")),
            "EARTHDATA_TOKEN": token_of(self.planted), "NETRC": str(netrc), "VSAT_WORKERS": "2", "DO_NOT_TRACK": "1",
            "PC_SDK_SUBSCRIPTION_KEY": self.planted["PC_KEY"], "AWS_SECRET_ACCESS_KEY": self.planted["AWS_SECRET"],
            "PREFECT_SERVER_API_AUTH_STRING": f"vsat:{self.planted['SERVER_PASSWORD']}", **more,
        }  # fmt: skip

    def run(self, label: str, *words: str, module: str = "", **more: str) -> int:
        """A verb, or `python -m MODULE WORDS`, to its end; what it says lies in the root. Returns its exit code."""
        (self.root / "said").mkdir(exist_ok=True)
        out = self.root / "said" / f"{len(self.runs):03}-{label.replace('/', '-')}.txt"
        if module or words[0] in ("up", "down"):
            with out.open("wb") as file:
                code = subprocess.run(
                    [sys.executable, "-m", module or "vsat.cli", *words], stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT, env=self.environment(**more), cwd=self.root, timeout=OUT_OF_TIME_S, check=False,
                ).returncode  # fmt: skip
        else:
            code = self._verb(words, out, more)
        self.runs.append((label, code))
        return code

    def _verb(self, words: Sequence[str], out: Path, more: Mapping[str, str]) -> int:
        if self._warm is None:
            self._warm = subprocess.Popen(
                [sys.executable, "-P", str(HERE / "canary_warm.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=self.environment(), cwd=self.root,
            )  # fmt: skip
        assert self._warm.stdin is not None and self._warm.stdout is not None
        given = {"words": words, "environment": self.environment(**more), "folder": str(self.root), "out": str(out)}
        self._warm.stdin.write(json.dumps(given) + "\n")
        self._warm.stdin.flush()
        return int(self._warm.stdout.readline())

    def end(self) -> None:
        """No process waits for more runs."""
        if self._warm is not None:
            self._warm.communicate(timeout=OUT_OF_TIME_S)

    def keep(self, name: str, content: bytes) -> None:
        """An answer, to be searched with the rest."""
        (self.root / "answers").mkdir(exist_ok=True)
        (
            self.root / "answers" / f"{len(list((self.root / 'answers').iterdir())):03}-{name.replace('/', '-')[:80]}"
        ).write_bytes(content)

    def expect(self, label: str, is_well: bool) -> None:
        """The run of that name has ended well, or not."""
        codes = [code for name, code in self.runs if name == label]
        assert codes and all((code == 0) == is_well for code in codes), f"{label} ended with {codes}"


def commands(world: World, kinds: Sequence[str]) -> None:
    """The verbs on this machine, on servers that answer well and badly, and with logins in the wrong places."""
    with regions_of(world.root, world.made, world.planted, kinds) as files:
        for name, file in files.items():
            world.run(f"nightly {name}", "-v", "nightly", str(file), "--day", LAST)
        for name in sorted({"good", "signed"} & set(kinds)):
            world.expect(f"nightly {name}", is_well=True)
        for name in sorted({"refused", "moved", "page", "liar", "gone"} & set(kinds)):
            world.expect(f"nightly {name}", is_well=False)
        if len(kinds) > FEW:
            _further(world, files)
        _misplaced(world, files["good"], few=len(kinds) <= FEW)


def _further(world: World, files: Mapping[str, Path]) -> None:
    good = str(files["good"])
    world.run("doctor", "doctor", *map(str, files.values()), "--json", "--folder", str(world.root / "none"))
    world.run("fetch", "fetch", str(files["refused"]), "--end", LAST, "--json")
    world.run("backfill", "-v", "backfill", good, "--start", "2023-05-01", "--end", LAST, "--policy", "replace")
    world.run("backfill of a liar", "backfill", str(files["liar"]), "--start", "2023-05-01", "--end", LAST, "--json")
    world.run("export", "export", good, "--out", str(world.root / "out.nc"), "--start", "2023-05-01")
    world.run("verify", "verify", good, "--json")
    world.expect("export", is_well=True)


def _misplaced(world: World, good: Path, *, few: bool) -> None:
    """A login where none belongs: it is refused, or used, and never repeated."""
    planted, wrong = world.planted, world.secret / "wrong"
    world.run(
        "scheduler", "nightly", str(good), "--json", VSAT_DASK_SCHEDULER=f"tcp://me:{planted['DASK_LOGIN']}@127.0.0.1:1"
    )
    catalogue, kind = "kind: archive, path: archive", "kind: stac, url: 'https://"
    texts = {
        "hosts": TEXT.replace(catalogue, f"kind: cmr, hosts: ['me:{planted['MISPLACED']}@a.example']"),
        "url": TEXT.replace(catalogue, f"{kind}me:{planted['MISPLACED']}@a.example'"),
        "query": TEXT.replace(catalogue, f"{kind}a.example/?key={planted['MISPLACED']}'"),
        "store": TEXT.replace("store: var", f"store: 's3://key:{planted['MISPLACED']}@bucket/x'"),
        "key": f"{TEXT}\nhttps://me:{planted['MISPLACED']}@a.example: 1\n",
    }
    for name, text in list(texts.items())[: 1 if few else None]:
        world.run(f"check {name}", "check", str(write_region(wrong, name, text=text)), "--json")
        world.expect(f"check {name}", is_well=False)
    place = f"http://me:{planted['AWS_LOGIN']}@127.0.0.1:1"
    bucket = write_region(world.root, "nowhere", text=TEXT.replace("store: var", "store: s3://stores/nowhere"))
    world.run(
        "bucket nowhere",
        "status",
        str(bucket),
        "--json",
        AWS_ENDPOINT_URL=place,
        AWS_ACCESS_KEY_ID="key",
        AWS_REGION="x",
    )
    world.expect("bucket nowhere", is_well=False)
    if few:
        return
    api = f"http://me:{planted['API_LOGIN']}@127.0.0.1:1/api?key={planted['API_LOGIN']}"
    world.run("doctor elsewhere", "doctor", str(good), "--json", PREFECT_API_URL=api)
    world.expect("doctor elsewhere", is_well=False)


def by_proxy(world: World) -> None:
    """NASA and Microsoft at their own addresses, by a proxy that wants a password; token, login, cookie and signature."""
    names = {"nasa": "cmr", "planet": "planetary-computer"}
    files = {
        name: write_region(world.root, name, text=TEXT.replace("kind: archive, path: archive", f"kind: {kind}"))
        for name, kind in names.items()
    }
    with proxied(world.secret, world.made, world.planted) as (out, asked):
        for name, file in files.items():
            world.run(f"nightly {name}", "-v", "nightly", str(file), "--day", LAST, **out)
            world.run(f"doctor {name}", "doctor", str(file), "--json", "--folder", str(world.root / "none"), **out)
            world.expect(f"nightly {name}", is_well=True)
        used = {"PROXY_PASSWORD", "NETRC_PASSWORD", "SERVER_SESSION", "SAS_TOKEN", "EARTHDATA_TOKEN"}
        assert asked == used, f"never used: {used - asked}"
        wrong = out | {
            "HTTPS_PROXY": out["HTTPS_PROXY"].replace(world.planted["PROXY_PASSWORD"], world.planted["WRONG_PASSWORD"])
        }
        for name, file in files.items():
            world.run(f"refused {name}", "nightly", str(file), "--day", "2023-05-09", "--json", **wrong)
            world.run(f"doctor refused {name}", "doctor", str(file), "--json", **wrong)
            world.expect(f"refused {name}", is_well=False)


def bucket(world: World) -> None:
    """A store in a bucket, and credentials that it refuses."""
    object_store.SECRET = world.planted["AWS_SECRET"]
    objects = world.secret / "objects"
    objects.mkdir()
    with (
        object_store.serving(objects) as store,
        regions_of(world.root, world.made, world.planted, ["good"]) as files,
    ):
        text = files["good"].read_text().replace("store: var", f"store: s3://{store.bucket}/canary")
        files["good"].write_text(text)
        good = str(files["good"])
        for verb, *more in (("nightly", "--day", LAST), ("status",), ("verify",), ("backfill", "--end", LAST)):
            world.run(verb, "-v", verb, good, *more, **store.environment)
            world.expect(verb, is_well=True)
        session = {"AWS_SESSION_TOKEN": world.planted["AWS_SESSION"]}
        wrong = {"AWS_SECRET_ACCESS_KEY": world.planted["AWS_WRONG"]}
        for label, more in (("session", session), ("wrong", wrong)):
            for verb in ("status", "doctor"):
                world.run(f"{verb} {label}", "-v", verb, good, **{**store.environment, **more})
        world.expect("status wrong", is_well=False)
    shutil.copytree(objects / "data", world.root / "objects")  # what the server holds is searched, its key file is not
    shutil.copy(objects / "log", world.root / "objects.log")


def stack(world: World, kinds: Sequence[str], database: Mapping[str, str] | None) -> None:
    """`vsat up`, nights and backfills of every region from their deployments, notifications, and all that it answers."""
    folder = world.root / "stack"
    more = {"VSAT_NOTIFY_BLOCK": "", "VSAT_VIEWER_HOSTS": "localhost"}
    if database is not None:
        place = f"127.0.0.1:{database['PGPORT']}/{database['PGDATABASE']}"
        more["VSAT_POSTGRES"] = f"postgresql://postgres:{world.planted['POSTGRES_PASSWORD']}@{place}"
    with regions_of(world.root, world.made, world.planted, kinds) as files, serving() as hook:
        names = [str(file) for file in files.values()]
        options = ("--folder", str(folder), "--port", "0", "--viewer-port", "0", "--detach")
        if database is None:
            world.run("up nowhere", "up", *names, *options, **_unreachable(world))
            world.expect("up nowhere", is_well=False)
        try:
            world.run("up", "up", *names, *options, **more)
            world.expect("up", is_well=True)
            told = json.loads((folder / "up.json").read_text())
            api = Api(told["api"], world.planted["SERVER_PASSWORD"])
            _notified(world, told["api"], f"json://{hook.netloc}/{world.planted['NOTIFY_URL']}", names)
            hook.always(f"/{world.planted['NOTIFY_URL']}", status(500))  # a failure to notify is told somewhere, too
            api.plant(world.planted[CONTROL])
            nights(api, files)
            until(lambda: hook.state.log, OUT_OF_TIME_S, "somebody is notified")
            world.run("doctor", "doctor", *names, "--folder", str(folder), "--json", **more)
            _answers(world, api, told["viewer"], files)
        finally:
            world.run("down", "down", "--folder", str(folder), **more)
    if database is not None:
        dumped = [str(Path(database["PSQL"]).with_name("pg_dump")), database["PGDATABASE"]]
        with (world.root / "dump.sql").open("wb") as out:
            subprocess.run(dumped, stdout=out, env=dict(database), check=True)


def _unreachable(world: World) -> dict[str, str]:
    """A database that is not there, with its password in both places."""
    password = world.planted["POSTGRES_PASSWORD"]
    return {"VSAT_POSTGRES": f"postgresql://me:{password}@127.0.0.1:1/x?password={password}"}


def _notified(world: World, api: str, url: str, files: Sequence[str]) -> None:
    """The automation that tells people is there, with a block that holds the address."""
    code = (
        "import os; from prefect.blocks.notifications import SlackWebhook as S; S(url=os.environ['HOOK']).save('ops')"
    )
    auth = f"vsat:{world.planted['SERVER_PASSWORD']}"
    there = {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": auth, "PREFECT_HOME": str(world.root / "client")}
    environment = world.environment(HOOK=url, **there)
    subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=OUT_OF_TIME_S
    )
    world.run("deploy", *files, module="flows.deploy", VSAT_NOTIFY_BLOCK="slack-webhook/ops", **there)
    world.expect("deploy", is_well=True)


def _answers(world: World, api: Api, viewer: str, files: Mapping[str, Path]) -> None:
    """What server and viewer say to whoever asks, with and without the password."""
    for what in LISTS:
        world.keep(what, api.raw("POST", f"{what}/filter"))
    for what in (*PLAIN, "collections/views/aggregate-worker-metadata"):
        world.keep(what, api.raw("GET", what))
        world.keep(f"stranger-{what}", requests.get(f"{api.url}/{what}", timeout=30).content)
    ui = api.url.removesuffix("/api")
    for path in ("/", "/ui-settings", "/docs", "/openapi.json", "/api/openapi.json"):
        world.keep(f"ui{path}", requests.get(ui + path, timeout=30).content)
    pages = [
        "/",
        "/api/regions",
        "/api/openapi.json",
        "/stac",
        "/stac/collections",
        "/stac/search",
        "/none",
        "/static/../auth",
    ]
    for name in files:
        at = f"/api/regions/{name}"
        pages += [
            at,
            f"{at}/status",
            f"{at}/dates",
            f"{at}/series?lon=14.205&lat=48.104",
            f"/stac/collections/{name}/items",
        ]
        pages += [f"/files/{name}/33UVP/none/none.tif", f"{at}/tiles/virtual/{LAST}/1/0/0.png"]
    for path in pages:
        world.keep(f"viewer{path}", requests.get(viewer + path, timeout=60).content)
        world.keep(f"strange{path}", requests.get(viewer + path, headers={"Host": "evil.test"}, timeout=60).content)


@contextmanager
def on_postgres(world: World) -> Iterator[Mapping[str, str]]:
    """A database for the stack; its files are searched with the rest."""
    with postgres.cluster("prefect", connections=100) as database:
        yield database
        command = [database["PSQL"], "--tuples-only", "--no-align", "--command", "SHOW data_directory"]
        told = subprocess.run(command, env=dict(database), check=True, capture_output=True, text=True).stdout
        shutil.copytree(
            told.strip(), world.root / "postgres", ignore=shutil.ignore_patterns("postmaster.*", "*.s.PGSQL*")
        )
        shutil.copy(Path(told.strip()).parent / "postgres.log", world.root / "postgres.log")
