import os
import re
import socket

import pytest

from buckler.data.folder import Folder
from buckler.errors import DataError


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "keys/private.pem"
    path.parent.mkdir()
    path.write_text("the private key")
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "delivered"
    for name in ("benign/1.jpg", "benign/more/2.jpg", "malignant/3.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return Folder(root)


def everything(folder):
    return [folder.read(name) for label in folder.folders() for name in folder.files(label)]


def test_files_of_all_depths_are_read(folder):
    assert folder.folders() == ["benign", "malignant"]
    assert list(folder.files("benign")) == ["benign/1.jpg", "benign/more/2.jpg"]
    assert everything(folder) == [b"benign/1.jpg", b"benign/more/2.jpg", b"malignant/3.jpg"]


@pytest.mark.parametrize("link", ["benign/key.jpg", "benign/more/key.jpg", "metadata.csv"])
def test_a_link_to_a_file_outside_is_refused(folder, secret, link):
    (folder.root / link).symlink_to(secret)
    with pytest.raises(DataError, match=rf"got a symbolic link to '{secret}' at '{link}'; replace it by a copy"):
        everything(folder)


@pytest.mark.parametrize("link", ["scans", "benign/2023"])
def test_a_link_to_a_folder_is_refused(folder, secret, link):
    (folder.root / link).symlink_to(secret.parent)
    with pytest.raises(DataError, match=f"got a symbolic link to '{secret.parent}' at '{link}'"):
        everything(folder)


def test_a_link_that_leads_nowhere_is_refused(folder):
    (folder.root / "benign/a.jpg").symlink_to("/not-mounted/a.jpg")
    with pytest.raises(DataError, match=r"got a symbolic link to '/not-mounted/a\.jpg' at 'benign/a\.jpg'"):
        everything(folder)


def test_hidden_entries_are_not_looked_at(folder, secret):
    (folder.root / ".key").symlink_to(secret)
    (folder.root / "benign/.key.jpg").symlink_to(secret)
    assert len(everything(folder)) == 3


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder.root)
    assert everything(Folder(tmp_path / "link")) == everything(folder)


@pytest.mark.parametrize("swapped", ["benign/more/2.jpg", "benign/more", "benign"])
def test_a_link_made_after_the_listing_is_not_followed(folder, secret, swapped):
    names = list(folder.files("benign"))
    place = folder.root / swapped
    for name in ("more/2.jpg", "2.jpg"):
        (secret.parent / name).parent.mkdir(exist_ok=True)
        (secret.parent / name).write_text("the private key")
    place.rename(folder.root.parent / "moved")
    place.symlink_to(secret if place.suffix else secret.parent)
    assert "benign/more/2.jpg" in names
    with pytest.raises(DataError, match=r"expected a readable file, not a link, at 'benign/more/2\.jpg'"):
        folder.read("benign/more/2.jpg")


def test_pipes_and_sockets_are_refused_instead_of_waited_for(folder, monkeypatch):
    os.mkfifo(folder.root / "benign/0.jpg")
    with pytest.raises(DataError, match=r"got a special file at 'benign/0\.jpg'"):
        everything(folder)
    with pytest.raises(DataError, match=r"got a special file at 'benign/0\.jpg'"):
        folder.read("benign/0.jpg")
    (folder.root / "benign/0.jpg").unlink()
    monkeypatch.chdir(folder.root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("benign/0.jpg")
        with pytest.raises(DataError, match="got a special file"):
            everything(folder)


@pytest.mark.parametrize(
    "name", [b"m\xfcller.jpg", b"a\nb.jpg", b"\t=1+1.jpg", b"\x1b]0;title\x07.jpg", "\u202egpj.exe".encode()]
)
def test_names_that_no_report_can_show_are_refused(folder, name):
    (folder.root / "benign" / os.fsdecode(name)).write_text("x")
    shown = repr(b"benign/" + name).removeprefix("b")
    with pytest.raises(DataError, match=re.escape(f"got {shown}; rename it, or convert the names")):
        everything(folder)


@pytest.mark.parametrize("name", ["Bildschirmfoto 3.04\u202fPM.jpg", "=1+1.jpg", "müller, 皮膚.jpg", "$PATH;`x`.jpg"])
def test_other_names_are_read(folder, name):
    (folder.root / "benign" / name).write_text("x")
    assert f"benign/{name}" in list(folder.files("benign"))
    assert folder.read(f"benign/{name}") == b"x"


def test_a_missing_file_is_named(folder):
    with pytest.raises(DataError, match=r"at 'benign/gone\.jpg' in .*: No such file"):
        folder.read("benign/gone.jpg")


def test_a_folder_that_may_not_be_read_is_refused(folder):
    closed = folder.root / "benign"
    closed.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root reads everything
        with pytest.raises(DataError, match=r"expected a readable folder at .*: Permission denied"):
            list(folder.files("benign"))
    finally:
        os.seteuid(user)
        closed.chmod(0o755)
