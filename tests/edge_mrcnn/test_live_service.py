"""Configuration files, secrets by reference, and the systemd unit, checked by systemd-analyze if it is installed."""

from __future__ import annotations

import getpass
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli import run, service
from edge_mrcnn.cli.config_file import find_options, read_config, write_config
from edge_mrcnn.cli.credentials import PrivateUrl, Secret, resolve
from edge_mrcnn.cli.live_options import live_options
from edge_mrcnn.live.outputs.table import OUTPUTS
from edge_mrcnn.live.unit import Unit, quote
from runtimes import MissingFileError, UsageError
from runtimes.errors import UnavailableError
from runtimes.redaction import redact

PASSWORD = "p@ss/w%40rd"
URL = f"rtsp://first.last:{PASSWORD}@cam.local/live"


@click.command()
@click.option("--source", "sources", multiple=True)
@live_options
@click.pass_context
def command(ctx, sources, settings):
    """A command with the options of `run` around the loop."""
    ctx.obj.append((sources, settings))


def invoke(*arguments):
    """The options that the command received."""
    got = []
    result = CliRunner().invoke(command, [str(a) for a in arguments], obj=got, catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert got, result.output
    return (*got[0], result.output)


class TestConfigFile:
    @pytest.fixture
    def config(self, tmp_path):
        path = tmp_path / "cam.toml"
        path.write_text('source = ["a.mp4"]\nconf = 0.3\nweb = ":8080"\nline = "gate=0,0.5,1,0.5"\ntrack = true\n')
        path.chmod(0o600)
        return path

    def test_every_flag_may_stand_in_a_file(self, config):
        sources, settings, _ = invoke("--config", config)
        assert (
            sources == ("a.mp4",)
            and settings.conf == 0.3
            and settings.outputs["page"].web == ":8080"
            and settings.is_tracked
        )
        assert [line.name for line in settings.lines] == ["gate"]

    def test_the_command_line_goes_before_the_file(self, config):
        sources, settings, _ = invoke("--config", config, "--conf", 0.7, "--source", "b.mp4")
        assert sources == ("b.mp4",) and settings.conf == 0.7 and settings.outputs["page"].web == ":8080"

    def test_every_flag_of_run_has_its_key(self):
        keys = set(find_options(run.command))
        assert {
            "model",
            "source",
            "save",
            "conf",
            "web",
            "web-token",
            "mqtt",
            "zone",
            "log-level",
            "max-frames",
        } <= keys
        assert not {"config", "help"} & keys

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("modle = 1", "no option 'modle'; did you mean model"),
            ("config = 'x'", "no option 'config'"),
            ("web = ", "not a valid TOML file"),
            ("[web]\nport = 1", "expected a value"),
        ],
    )
    def test_errors_are_named(self, tmp_path, text, words):
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(UsageError, match=words):
            read_config(tmp_path / "x.toml", run.command)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(MissingFileError, match="no such file"):
            read_config(tmp_path / "none.toml", run.command)

    def test_what_is_written_is_read_back_and_private(self, tmp_path):
        values = {"source": [f'a "quoted"=\\ {URL}', "é\n"], "conf": 0.25, "track": True, "max-frames": 3}
        path = tmp_path / "new" / "x.toml"
        write_config(path, {}, "old")
        path.chmod(0o644)
        write_config(path, values, "remark")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [path] == list(path.parent.iterdir())
        assert read_config(path, run.command) == {
            "sources": values["source"], "conf": 0.25, "is_tracked": True, "max_frames": 3,
        }  # fmt: skip

    def test_file_that_others_can_read_gives_a_warning(self, config):
        config.write_text(f'source = ["{URL}"]')
        config.chmod(0o644)
        assert f"chmod 600 {config}" in invoke("--config", config)[2]


class TestSecrets:
    def test_a_reference_stands_for_its_value(self, tmp_path, monkeypatch):
        (tmp_path / "token").write_text("from a file\n")
        monkeypatch.setenv("DOOR_URL", URL)
        assert resolve(f"file:{tmp_path}/token") == "from a file"
        assert resolve("env:DOOR_URL") == URL and resolve("front door=env:DOOR_URL") == f"front door={URL}"
        assert resolve(URL) == URL and resolve("0") == "0" and resolve("C:/x") == "C:/x"

    def test_a_variable_that_is_not_set_is_a_usage_error(self):
        with pytest.raises(UsageError, match="env:NOT_SET_ANYWHERE"):
            resolve("env:NOT_SET_ANYWHERE")

    def test_a_file_that_is_not_there_may_come_later_so_a_service_tries_again(self):
        with pytest.raises(UnavailableError, match="file:/no/such/file: cannot be read") as caught:
            resolve("file:/no/such/file")
        assert caught.value.exit_code == 1

    def test_a_password_for_the_broker_may_not_stand_on_the_command_line(self, monkeypatch):
        with pytest.raises(UsageError, match="env:NAME") as raised:
            invoke("--mqtt", f"mqtt://user:{PASSWORD}@host/x")
        assert PASSWORD not in str(raised.value)
        monkeypatch.setenv("BROKER", "mqtt://user:hushhush@host/x")
        assert invoke("--mqtt", "env:BROKER")[1].outputs["mqtt"].mqtt == "mqtt://user:hushhush@host/x"
        assert redact("login failed with hushhush") == "login failed with ***"

    def test_in_a_private_file_it_may(self, tmp_path):
        (tmp_path / "x.toml").write_text('mqtt = "mqtt://user:hushhush@host/x"')
        assert invoke("--config", tmp_path / "x.toml")[1].outputs["mqtt"].mqtt == "mqtt://user:hushhush@host/x"

    def test_token_on_the_command_line_gives_a_warning(self, tmp_path):
        _, settings, output = invoke("--web", ":1", "--web-token", "a long secret")
        assert (
            settings.outputs["page"].web_token == "a long secret"
            and "warning: --web-token" in output
            and "long" not in output
        )
        (tmp_path / "token").write_text("another secret")
        assert "warning" not in invoke("--web", ":1", "--web-token", f"file:{tmp_path}/token")[2]

    def test_types_are_named_for_help(self):
        assert Secret().name == PrivateUrl().name == "text"


class TestOptions:
    def test_nothing_is_the_default(self):
        _, settings, _ = invoke()
        assert settings.lines == ()
        assert all(own == OUTPUTS[name].settings_type() for name, own in settings.outputs.items())

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--line", "0,0,1"), "two different points"),
            (("--zone", "0,0 1,1"), "three or more points"),
            (("--line", "a=0,0,1,1", "--zone", "a=0,0 1,0 1,1"), "different names"),
            (("--web-host", "x"), "need --web"),
        ],
    )
    def test_impossible_options_are_usage_errors(self, arguments, words):
        with pytest.raises(UsageError, match=words):
            invoke(*arguments)


class TestService:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.chdir(tmp_path)
        self.unit = tmp_path / "config" / "systemd" / "user" / "edge-mrcnn-cam1.service"
        self.config = tmp_path / "config" / "edge-mrcnn" / "cam1.toml"

    def call(self, *arguments):
        result = CliRunner().invoke(service.command, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    def install(self, *arguments):
        return self.call("install", "--name", "cam1", *arguments)

    OPTIONS = (
        "--",
        "run",
        "--model",
        "m.onnx",
        "--source",
        f"door={URL}",
        "--source",
        "env:YARD",
        "--conf",
        "0.4",
        "--track",
    )

    def test_installs_a_unit_without_secrets_and_a_private_configuration(self):
        output = self.install(*self.OPTIONS)
        unit = self.unit.read_text()
        assert PASSWORD not in unit + output and f"run --config {self.config}" in unit
        assert stat.S_IMODE(self.config.stat().st_mode) == 0o600
        assert read_config(self.config, run.command) == {
            "model": "m.onnx", "sources": [f"door={URL}", "env:YARD"], "conf": 0.4, "is_tracked": True, "wait": True,
        }  # fmt: skip
        assert "systemctl --user enable --now edge-mrcnn-cam1.service" in output
        for line in (
            "Type=notify",
            "WatchdogSec=60",
            "Restart=always",
            "NoNewPrivileges=yes",
            f"ExecStart={sys.executable}",
        ):
            assert line in unit

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
    @pytest.mark.parametrize("is_system", [False, True])
    def test_systemd_understands_the_unit(self, tmp_path, is_system):
        folder = tmp_path / 'a "folder" with 100% $HOME'
        folder.mkdir()
        unit = Unit(
            name="cam1", command=[sys.executable, "-m", "edge_mrcnn", "--config", str(folder / "x.toml")],
            folder=tmp_path, environment=tmp_path / "x.env", is_system=is_system, user="root" if is_system else "",
            groups=["video"] if is_system else [], writable=[folder, tmp_path],
        )  # fmt: skip
        path = tmp_path / unit.file_name
        path.write_text(unit.render())
        command = ["systemd-analyze", "verify", "--man=no", "--system" if is_system else "--user", str(path)]
        environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        complaints = [line for line in done.stderr.splitlines() if path.name in line]
        assert not complaints and done.returncode == 0, done.stderr

    def test_a_service_of_the_machine_is_hardened_and_may_write_where_its_options_say(self, tmp_path, monkeypatch):
        folders = {"unit_folder": tmp_path / "system", "config_folder": tmp_path / "etc"}
        for name, folder in folders.items():
            monkeypatch.setattr(service, name, lambda *, is_system, folder=folder: folder)
        user = getpass.getuser()
        monkeypatch.delenv("SUDO_USER", raising=False)
        output = self.install("--system", *self.OPTIONS, "--save", "/srv/video/cam1.mp4")
        unit = (tmp_path / "system" / "edge-mrcnn-cam1.service").read_text()
        lines = (
            f"User={user}",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
            f"ReadWritePaths=-{tmp_path} -/srv/video",
        )
        assert all(line in unit.splitlines() for line in lines)
        assert "sudo systemctl enable" in output and "linger" not in output
        with pytest.raises(UsageError, match="no such user"):
            self.install("--system", "--force", "--user", "nobody-of-this-name", *self.OPTIONS)

    def test_words_are_quoted_for_systemd(self):
        assert quote("plain/path") == "plain/path"
        assert quote('a "b" $c 5%') == '"a \\"b\\" $$c 5%%"'

    def test_a_second_install_needs_force(self):
        self.install(*self.OPTIONS)
        with pytest.raises(UsageError, match="--force"):
            self.install(*self.OPTIONS)
        self.install("--force", "--", "run", "--model", "other.onnx", "--source", "0")
        assert read_config(self.config, run.command)["model"] == "other.onnx"

    def test_a_configuration_is_taken_over_and_completed(self, tmp_path):
        (tmp_path / "old.toml").write_text('model = "m.onnx"\nconf = 0.2\nwait = false\n')
        self.install("--", "run", "--config", "old.toml", "--source", "0", "--conf", "0.6")
        values = read_config(self.config, run.command)
        assert values == {"model": "m.onnx", "sources": ["0"], "conf": 0.6, "wait": False}

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "expected a `run` command"),
            (("--", "train"), "expected a `run` command"),
            (("--", "run", "--source", "0"), "expected --model"),
            (("--", "run", "--model", "m.onnx", "--source", "0", "extra"), "options only"),
        ],
    )
    def test_what_cannot_run_is_refused(self, arguments, words):
        with pytest.raises(UsageError, match=words):
            self.install(*arguments)
        assert not self.unit.exists() and not self.config.exists()

    def test_each_start_would_erase_what_was_written_so_that_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="--overwrite: a service restarts"):
            self.install(*self.OPTIONS, "--overwrite")
        config = tmp_path / "given.toml"
        config.write_text("overwrite = true")
        with pytest.raises(UsageError, match="--overwrite"):
            self.install(*self.OPTIONS, "--config", str(config))

    def test_an_unknown_option_is_refused(self):
        assert "No such option" in self.install("--", "run", "--modell", "m.onnx")
        assert not self.unit.exists()

    @pytest.mark.parametrize("name", ["../x", "a b", "", "-x", "x/y"])
    def test_names_cannot_leave_the_folder(self, name):
        with pytest.raises(UsageError, match="letters, digits"):
            self.call("install", f"--name={name}", *self.OPTIONS)

    def test_show_hides_secrets(self):
        self.install(*self.OPTIONS, "--web", ":1", "--web-token", "very secret")
        output = self.call("show", "--name", "cam1")
        assert "ExecStart=" in output and "env:YARD" in output and "rtsp://first.last:***@cam.local/live" in output
        assert PASSWORD not in output and "very secret" not in output

    def test_uninstall_removes_the_unit_and_keeps_the_configuration_unless_asked(self):
        self.install(*self.OPTIONS)
        self.call("uninstall", "--name", "cam1")
        assert not self.unit.exists() and self.config.exists()
        self.install("--force", *self.OPTIONS)
        self.call("uninstall", "--name", "cam1", "--purge")
        assert not self.unit.exists() and not self.config.exists()
        for verb in ("uninstall", "show"):
            with pytest.raises(MissingFileError, match="cam1.service: no such service"):
                self.call(verb, "--name", "cam1")


def test_the_page_is_part_of_the_package():
    page = Path(service.__file__).parents[1] / "live" / "page"
    assert {path.name for path in page.iterdir()} == {"index.html", "app.js", "style.css", "icon.svg"}
