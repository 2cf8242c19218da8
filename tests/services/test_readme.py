"""The Python example of the README, run on a small release."""

import re
from pathlib import Path

from buckler.trust.keys import PUBLIC_KEY_FILE, VERDICT_KEY_ENV

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_of_the_readme_runs(release, keys, picture, tmp_path, monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/release").symlink_to(release)
    (tmp_path / "picture.jpg").write_bytes(picture)
    monkeypatch.setenv(VERDICT_KEY_ENV, str(keys / PUBLIC_KEY_FILE))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert re.match(r"(benign|malignant) (accept|review) ", capsys.readouterr().out)
