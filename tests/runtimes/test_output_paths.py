"""Output paths: existing files are never damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtimes import UsageError
from runtimes.errors import UnavailableError
from runtimes.output_paths import claim_file, expect_apart, expect_writable, free_path, separate


class TestFreePath:
    def test_what_exists_keeps_its_name_and_the_new_one_gets_the_next_number(self, tmp_path):
        path = tmp_path / "out.mp4"
        assert free_path(path) == path
        path.write_text("precious")
        assert free_path(path) == tmp_path / "out-2.mp4"
        (tmp_path / "out-2.mp4").write_text("precious")
        assert free_path(path) == tmp_path / "out-3.mp4"
        assert free_path(path, overwrite=True) == path

    def test_the_same_for_folders_but_an_empty_one_is_free(self, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        assert free_path(folder) == folder
        (folder / "file").touch()
        assert free_path(folder) == tmp_path / "run-2"

    def test_a_folder_without_a_name_of_its_own_gets_a_number_too(self, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "file").touch()
        monkeypatch.chdir(tmp_path / "here")
        assert free_path(Path(".")) == tmp_path / "here-2"

    def test_empty_files_and_devices_are_written_to_as_they_are(self, tmp_path):
        (tmp_path / "empty").touch()
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "empty", tmp_path / "pipe"):
            assert free_path(path) == path

    def test_a_claimed_file_is_there(self, tmp_path):
        (tmp_path / "a.txt").write_text("precious")
        claimed = claim_file(tmp_path / "a.txt")
        assert claimed == tmp_path / "a-2.txt" and claimed.read_bytes() == b""
        assert (tmp_path / "a.txt").read_text() == "precious"


class TestExpectWritable:
    def test_touches_nothing(self, tmp_path):
        expect_writable(tmp_path / "new" / "out.mp4")
        assert list(tmp_path.iterdir()) == []

    def test_file_in_place_of_a_folder_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UnavailableError, match="cannot be written: .*file is not a folder"):
            expect_writable(tmp_path / "file" / "out.mp4")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_no_permission_is_named(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(UnavailableError, match="no permission"):
            expect_writable(tmp_path / "out.mp4")


class TestExpectApart:
    @pytest.fixture
    def clip(self, tmp_path):
        clip = tmp_path / "clip.mp4"
        clip.write_text("precious")
        return clip

    @pytest.mark.parametrize("spelling", ["same", "dots", "symbolic link", "hard link", "linked folder"])
    def test_an_output_that_is_an_input_is_refused_by_any_name(self, clip, tmp_path, spelling):
        other = tmp_path / "other.mp4"
        if spelling == "same":
            other = clip
        elif spelling == "dots":
            other = tmp_path / "x" / ".." / "clip.mp4"
            (tmp_path / "x").mkdir()
        elif spelling == "symbolic link":
            other.symlink_to(clip)
        elif spelling == "hard link":
            other.hardlink_to(clip)
        else:
            (tmp_path / "folder").symlink_to(tmp_path)
            other = tmp_path / "folder" / "clip.mp4"
        with pytest.raises(UsageError, match="--save .*this is the input"):
            expect_apart([("--save", other)], [clip])
        assert clip.read_text() == "precious"

    def test_two_outputs_of_one_file_are_refused_before_it_exists(self, tmp_path):
        with pytest.raises(UsageError, match="--coco .*this is also --json"):
            expect_apart([("--json", tmp_path / "x"), ("--coco", tmp_path / "." / "x")], [])

    def test_different_outputs_are_accepted(self, clip, tmp_path):
        expect_apart([("--save", tmp_path / "out.mp4"), ("--json", tmp_path / "out.jsonl")], [clip, tmp_path])


def test_equal_names_get_different_numbers():
    assert separate({"a": "door-1", "b": "door-1", "c": "Door-1", "d": "door-1-2"}) == {
        "a": "door-1", "b": "door-1-2", "c": "Door-1-3", "d": "door-1-2-2",
    }  # fmt: skip
