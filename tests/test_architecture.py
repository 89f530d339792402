"""The picture in the README shows the code as it is."""

from tests.architecture import PICTURE, draw


def test_the_picture_shows_the_code_as_it_is() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "the code has moved: make architecture"
