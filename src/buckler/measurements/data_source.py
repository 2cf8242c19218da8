"""Where the pictures of a model come from; in a file of its own, on which the stages that measure nothing depend."""

from typing import Literal

DataSource = Literal["synthetic", "directory"]  # drawn by the generator, or files of a folder
