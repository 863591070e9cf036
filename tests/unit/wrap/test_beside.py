from pathlib import Path

import pytest

from podcam.recorder import RecorderSettings, RecordingSettings
from podcam.wrap.beside import BesideSettings, OnExit, _Beside


def test_an_app_that_ends_before_it_is_recorded_is_told_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = BesideSettings(RecorderSettings(tmp_path), RecordingSettings(), OnExit.ALWAYS, "shop/web-1")
    beside = _Beside(settings)
    beside._obey({"ended": 3, "within_seconds": 20})
    told = capfd.readouterr().err
    assert told == "podcam: no clip is kept of the app's end, which came before recording began\n"
    assert beside._ending
    beside._loop.close()
